import t from 'tap'
import { age, cell, colorsFor, interval } from '../../../cli/terminal/text.js'
import {
  ASSIGNMENT_COLUMNS,
  DEPLOYMENT_COLUMNS,
  FAILING_COLUMNS,
  NODE_COLUMNS,
  UNPLACED_COLUMNS,
} from '../../../cli/terminal/columns.js'
import { columnsOf, table } from '../../../cli/terminal/table.js'

t.test('an interval of Postgres is read in its two largest units', async (t) => {
  for (const [text, shown] of [
    ['00:00:01.2345', '1.2 s'],
    ['00:00:42', '42 s'],
    ['00:03:05.9', '3 m 5 s'],
    ['26:10:00', '1 d 2 h'],
    ['3 days 04:05:06', '3 d 4 h'],
    ['2 days', '2 d 0 h'],
    ['-00:00:00.5', '-0.5 s'],
    [null, '-'],
    ['1 mon', '1 mon'],
  ] as const)
    t.equal(interval(text), shown, String(text))
  t.equal(age(3_599_000), '59 m 59 s')
})

t.test('a name cannot steer the terminal', async (t) => {
  t.equal(cell('a\x1b[2Jb\nc\u202e'), 'a [2Jb c ')
})

t.test('a table on a pipe holds no escape code and no trailing blanks', async (t) => {
  const text = table(
    [
      { node: 'host-a', running: 11, note: null },
      { node: 'b', running: 3, note: 'x' },
    ],
    [{ key: 'node' }, { key: 'running', align: 'right' }, { key: 'note' }],
  )
  t.equal(text, ['node    running  note', 'host-a       11  -', 'b             3  x'].join('\n'))
})

t.test('colours are for terminals, whatever the environment of a pipe says', async (t) => {
  t.equal(colorsFor({}, { CI: '1', FORCE_COLOR: '1' }).red('x'), 'x')
  t.equal(colorsFor({ isTTY: true }, { NO_COLOR: '1' }).red('x'), 'x')
  t.not(colorsFor({ isTTY: true }, {}).red('x'), 'x')
})

t.test('columns come from the rows where the schema may add some', async (t) => {
  t.same(
    columnsOf([
      { node: 'a', cost: null },
      { node: 'b', cost: 1 },
    ]),
    [
      { key: 'node', align: 'left' },
      { key: 'cost', align: 'right' },
    ],
  )
  t.same(columnsOf([]), [])
})

t.test('a table is as wide as the terminal, and says where it was cut', async (t) => {
  const rows = [
    { id: 1, name: 'a-name-of-twenty-abc', pid: 4711, why: 'one two three four five six seven' },
  ]
  const columns = [
    { key: 'id', align: 'right' },
    { key: 'name' },
    { key: 'pid', align: 'right', leaves: 1 },
    { key: 'why', prose: true },
  ] as const
  t.equal(
    table(rows, columns, { width: 200 }),
    [
      'id  name                   pid  why',
      ' 1  a-name-of-twenty-abc  4711  one two three four five six seven',
    ].join('\n'),
    'nothing is cut where there is room',
  )
  t.equal(
    table(rows, columns, { width: 56 }),
    [
      'id  name                   pid  why',
      ' 1  a-name-of-twenty-abc  4711  one two three four five',
      '                                six seven',
    ].join('\n'),
    'a reason continues on the next line',
  )
  t.equal(
    table(rows, columns, { width: 40 }),
    [
      'id  name        why',
      ' 1  a-name-of…  one two three four five',
      '                six seven',
    ].join('\n'),
    'a column leaves, a name is cut, a number never',
  )
  for (let width = 40; width < 90; width++)
    for (const line of table(rows, columns, { width }).split('\n'))
      t.ok([...line].length <= width, `${width}: ${line}`)
})

t.test('the tables of every day fit 80 columns', async (t) => {
  const long = 'x'.repeat(60)
  const row = Object.fromEntries(
    [...DEPLOYMENT_COLUMNS, ...ASSIGNMENT_COLUMNS, ...NODE_COLUMNS].map(({ key }) => [key, long]),
  )
  const numbers = Object.fromEntries(
    ['id', 'running', 'assignment_id', 'deployment_id', 'ordinal', 'epoch', 'pid', 'restarts']
      .concat(['beat_age', 'assignments', 'cpu_pct', 'memory_mb', 'disk_free_pct'])
      .map((key) => [key, 12_345]),
  )
  const rows = [
    { ...row, ...numbers, enabled: true, replicas: 3, failing: 3, states: { running: 3 } },
  ].map((each) => ({
    ...each,
    ...Object.fromEntries(
      ['created_at', 'assigned_at', 'last_error_at', 'waiting_since'].map((key) => [
        key,
        new Date(Date.now() - 5e9),
      ]),
    ),
  }))
  for (const columns of [
    DEPLOYMENT_COLUMNS,
    ASSIGNMENT_COLUMNS,
    NODE_COLUMNS,
    FAILING_COLUMNS,
    UNPLACED_COLUMNS,
  ])
    for (const line of table(rows, columns, { width: 80 }).split('\n'))
      t.ok([...line].length <= 80, line)
})
