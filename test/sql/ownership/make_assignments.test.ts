import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, node, report } from '../../helpers/factories.js'
import type { TestNode } from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** The agent of host stops everything it was ordered to stop, and reports it. */
async function obey(sql: TransactionSql, host: TestNode) {
  for (const row of await assignments(sql))
    if (row.node === host.name && row.wanted === 'stop') await report(sql, host, row, 'stopped')
}
const short = async (sql: TransactionSql, id: string) =>
  (await assignments(sql, id))
    .sort((a, b) => a.ordinal! - b.ordinal!)
    .map(({ ordinal, node, wanted }) => `${ordinal} ${node ?? 'waits'} ${wanted}`)

story('a deployment has an assignment for each replica; with none it has none', async (t, sql) => {
  t.same(await short(sql, await deployment(sql, { replicas: 3 })), [
    '0 waits run',
    '1 waits run',
    '2 waits run',
  ])
  t.same(await short(sql, await deployment(sql, { replicas: 0 })), [])
  t.same(await short(sql, await deployment(sql, { enabled: false, replicas: 2 })), [
    '0 waits stop',
    '1 waits stop',
  ])
})

story(
  'disable stops what runs and keeps the fence until it is gone; enable starts it again',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    const id = await deployment(sql, { replicas: 2 })
    await claim(sql)
    await sql`update mooring.deployment set enabled = false where id = ${id}`
    t.same(await short(sql, id), ['0 host-a stop', '1 host-a stop'])
    t.match(await events(sql, 'stop_wanted'), [
      { reason: 'its deployment is disabled' },
      { reason: 'its deployment is disabled' },
    ])
    await obey(sql, host)
    t.same(await short(sql, id), ['0 waits stop', '1 waits stop'])
    t.same(await claim(sql), [])
    await sql`update mooring.deployment set enabled = true where id = ${id}`
    t.same(await short(sql, id), ['0 waits run', '1 waits run'])
    t.equal((await claim(sql)).length, 2)
    t.ok((await assignments(sql, id)).every(({ epoch }) => epoch === '3'))
  },
)

story(
  'disable and enable in one transaction still ends the running instance first',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    const id = await deployment(sql)
    await claim(sql)
    await sql`update mooring.deployment set enabled = false where id = ${id}`
    await sql`update mooring.deployment set enabled = true where id = ${id}`
    t.same(
      await short(sql, id),
      ['0 host-a stop'],
      'within an epoch it never goes from stop to run',
    )
    await obey(sql, host)
    t.same(await short(sql, id), ['0 waits run'])
  },
)

story('scale-up adds the next ordinals', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const id = await deployment(sql)
  await claim(sql)
  await sql`update mooring.deployment set replicas = 3 where id = ${id}`
  t.same(await short(sql, id), ['0 host-a run', '1 waits run', '2 waits run'])
})

story(
  'scale-down takes the highest ordinals: those that wait end, those that run stop',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a', max_assignments: 4 })
    const id = await deployment(sql, { replicas: 5 })
    await claim(sql)
    await sql`update mooring.deployment set replicas = 2 where id = ${id}`
    t.same(await short(sql, id), ['0 host-a run', '1 host-a run', '2 host-a stop', '3 host-a stop'])
    t.match(await events(sql, 'stop_wanted'), [{ reason: 'its deployment was scaled down' }, {}])
    await obey(sql, host)
    t.same(await short(sql, id), ['0 host-a run', '1 host-a run'])
    t.same(await loads(sql), { 'host-a': 2 })
  },
)

story(
  'scale-up while the surplus still stops waits for it, with the same assignment',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    const id = await deployment(sql, { replicas: 2 })
    await claim(sql)
    const before = await assignments(sql, id)
    await sql`update mooring.deployment set replicas = 1 where id = ${id}`
    await sql`update mooring.deployment set replicas = 2 where id = ${id}`
    t.same(await short(sql, id), ['0 host-a run', '1 host-a stop'])
    await obey(sql, host)
    await claim(sql)
    t.same(await short(sql, id), ['0 host-a run', '1 host-a run'])
    t.same(
      (await assignments(sql, id)).map(({ id, epoch }) => [id, epoch]),
      [
        [before[0]!.id, '1'],
        [before[1]!.id, '3'],
      ],
    )
  },
)

story(
  'delete ends what waits at once, and keeps the row of what runs until its agent says stopped',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a', max_assignments: 1 })
    const id = await deployment(sql, { replicas: 2 })
    await claim(sql)
    await sql`delete from mooring.deployment where id = ${id}`
    t.same(await short(sql, id), ['0 host-a stop'])
    t.match(await events(sql, 'stop_wanted'), [
      { deployment_id: id, reason: 'its deployment was deleted' },
    ])
    await obey(sql, host)
    t.same(await assignments(sql), [])
  },
)

story(
  'a deployment inserted again under its id waits for the old process, and the epoch goes on',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    const id = await deployment(sql, { pinned_node: 'host-a' })
    await claim(sql)
    const [before] = await assignments(sql, id)
    await sql`delete from mooring.deployment where id = ${id}`
    await deployment(sql, { id, replicas: 2, pinned_node: 'host-b' })
    t.same(await short(sql, id), ['0 host-a stop', '1 waits run'])
    t.equal((await claim(sql)).length, 1, 'the new replica need not wait')
    await obey(sql, host)
    t.equal((await claim(sql)).length, 1)
    t.same(await short(sql, id), ['0 host-b run', '1 host-b run'])
    t.match(await assignments(sql, id), [{ id: before!.id, epoch: '3' }, { epoch: '1' }])
  },
)

story('so does one that comes back as a daemon, or disabled', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const [one, two] = [await deployment(sql), await deployment(sql)]
  await claim(sql)
  await sql`delete from mooring.deployment where id in (${one}, ${two})`
  await deployment(sql, { id: one, type: 'daemon' })
  await deployment(sql, { id: two, enabled: false })
  await obey(sql, host)
  t.match(await assignments(sql, one), [{ ordinal: null, node: 'host-a', wanted: 'run' }])
  t.same(await short(sql, two), ['0 waits stop'])
})

story('an edit of what runs raises the generation and leaves it where it is', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const id = await deployment(sql, { updated_at: '2026-01-05' })
  await claim(sql)
  const edits = [
    sql`env = '{"A": "1"}'`,
    sql`args = '["a"]'`,
    sql`package_version = '14.1.2'`,
    sql`package_name = 'serve'`,
    sql`command = 'node'`,
    sql`generation = generation + 1`,
  ]
  for (const edit of edits) await sql`update mooring.deployment set ${edit} where id = ${id}`
  t.match(await assignments(sql, id), [
    { node: 'host-a', wanted: 'run', epoch: '1', generation: '7' },
  ])
  const [row] = await sql`select updated_at = '2026-01-05 00:00Z' as kept from mooring.assignment`
  t.same(row, { kept: true }, 'its place in the queue too')
})

story('an edit that does not change what runs leaves the generation alone', async (t, sql) => {
  const id = await deployment(sql)
  await sql`
    update mooring.deployment
       set name = 'site',
           labels = '{"a": 1}',
           replicas = 2,
           selector = '{}',
           stop_grace = '1 s',
           on_lost = 'keep',
           lease_ttl = '1 min',
           env = env,
           enabled = false,
           generation = 0 + 1`
  await sql`update mooring.deployment set enabled = true where id = ${id}`
  const [row] =
    await sql`select generation::int, updated_at > created_at as edited from mooring.deployment`
  t.same(row, { generation: 1, edited: true })
})

story('an edited deployment that waits goes to the back of the queue', async (t, sql) => {
  const [first, second] = [
    await deployment(sql, { updated_at: '2026-01-05' }),
    await deployment(sql, { updated_at: '2026-01-06' }),
  ]
  await sql`update mooring.deployment set env = '{"A": "1"}' where id = ${first}`
  await sql`update mooring.deployment set name = 'only-a-name' where id = ${second}`
  await node(sql)
  await claim(sql)
  t.same(
    (await events(sql, 'claimed')).map(({ deployment_id }) => deployment_id),
    [second, first],
  )
})
