// What programs read of --json: arrays are arrays, and a deployment has all its columns.
import t from 'tap'
import { connect } from '../../../cli/database.js'
import { parseArray } from '../../../cli/queries/arrays.js'
import { createQueries } from '../../../cli/queries/queries.js'
import { deployment, node } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'

t.test('an array of the server is read as it was written', async (t) => {
  const { url } = await testDatabase(t)
  const sql = await connect(url)
  t.teardown(() => sql.end({ timeout: 1 }))
  const texts = ['npm', '', 'NULL', 'a,b', 'q"u\\o{te}', 'two\nlines', ' ']
  const [row] = await sql`
    select (select array_agg(x.v #>> '{}' order by x.nr)
              from jsonb_array_elements(${sql.json(texts)}::jsonb) with ordinality x (v, nr))
             as texts,
        '{}'::text[] as none,
        array[null, 'x'] as nulls,
        array[1, 2] as ints,
        array[9007199254740993] as bigints,
        array[true, false] as bools`
  t.strictSame(
    { ...row },
    {
      texts,
      none: [],
      nulls: [null, 'x'],
      ints: [1, 2],
      bigints: ['9007199254740993'],
      bools: [true, false],
    },
  )
  t.strictSame(parseArray('{npm,exec}'), ['npm', 'exec'])
})

t.test('drivers are a list, and a deployment has each column that a viewer may read', async (t) => {
  const { url, sql } = await testDatabase(t)
  await node(sql, { name: 'host-a' })
  await deployment(sql, { name: 'web', handover: 'start-first', on_lost: 'keep' })
  const asked = await connect(url)
  t.teardown(() => asked.end({ timeout: 1 }))
  const db = createQueries(asked)
  const [host] = await db.nodes()
  t.ok(Array.isArray(host!.drivers), String(host!.drivers))
  const readable = await sql<{ name: string }[]>`
    select c.column_name as name
      from information_schema.column_privileges c
     where c.grantee = 'mooring_viewer'
       and c.table_schema = 'mooring'
       and c.table_name = 'deployment'
       and c.privilege_type = 'SELECT'`
  t.ok(readable.length > 15)
  const [row] = await db.deployments({})
  t.strictSame(
    readable.map(({ name }) => name).filter((name) => !(name in row!)),
    [],
    'none is missing',
  )
  t.equal(row!['handover'], 'start-first')
})
