import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployments, node } from '../../helpers/factories.js'
import { claim, events, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story(
  'D16: a disabled node keeps what it runs and gets nothing new until it is enabled',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await deployments(sql, 2)
    await claim(sql)
    t.match(await sql`select * from mooring.set_node_enabled('host-a', false)`, [
      { name: 'host-a', enabled: false },
    ])
    await deployments(sql, 1)
    t.same(await claim(sql), [])
    t.same(
      (await assignments(sql)).map(({ node, wanted }) => [node, wanted]),
      [
        ['host-a', 'run'],
        ['host-a', 'run'],
        [null, 'run'],
      ],
    )
    await sql`select from mooring.set_node_enabled('host-a', true)`
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 3 })
    t.match(await events(sql, 'node_disabled'), [{ node: 'host-a' }])
    t.match(await events(sql, 'node_enabled'), [{ node: 'host-a' }])
    t.match(await sql`select * from mooring.set_node_enabled('host-a', true)`, [
      { name: 'host-a', enabled: true },
    ])
    t.equal((await events(sql, 'node_enabled')).length, 1, 'a second time is nothing')
  },
)

story('D16: an unknown name is an error that names the nearest ones', async (t, sql) => {
  await refused(t, sql, (sql) => sql`select from mooring.set_node_enabled('host-a', true)`, {
    code: 'MR003',
    hint: /start an agent/,
  })
  for (const name of ['host-a', 'build-01.eu', 'build-02.eu', 'build-11.eu', 'db-primary'])
    await node(sql, { name })
  const typos: [typed: string, nearest: RegExp][] = [
    ['hots-a', /are host-a/],
    ['HOST-A', /are host-a/],
    ['build-1.eu', /are build-[01]1\.eu/],
    ['db-primery', /are db-primary/],
    ['x', /nearest names are/],
    ["'; drop table mooring.node; --", /nearest/],
  ]
  for (const [typed, nearest] of typos)
    await refused(
      t,
      sql,
      (sql) => sql`select from mooring.set_node_enabled(${typed}, true)`,
      { code: 'MR003', hint: nearest },
      typed,
    )
  await refused(t, sql, (sql) => sql`select from mooring.set_node_enabled(null, true)`, {
    code: 'MR007',
  })
  await refused(t, sql, (sql) => sql`select from mooring.set_node_enabled('host-a', null)`, {
    code: 'MR007',
  })
})
