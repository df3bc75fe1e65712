import t from 'tap'
import { age, cell, colorsFor, interval } from '../../../cli/terminal/text.js'
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
