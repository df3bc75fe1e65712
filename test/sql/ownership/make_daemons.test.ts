import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node, report } from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const hosts = async (sql: TransactionSql, id: string) =>
  (await assignments(sql, id)).map(({ node, wanted }) => `${node} ${wanted}`).sort()

story('a daemon runs once on every node, also on those that join later', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  const id = await deployment(sql, { type: 'daemon', replicas: 5 })
  t.same(await hosts(sql, id), ['host-a run', 'host-b run'])
  await node(sql, { name: 'host-c' })
  t.same(await hosts(sql, id), ['host-a run', 'host-b run', 'host-c run'])
  t.match(await assignments(sql, id), [
    { ordinal: null, epoch: '1' },
    { ordinal: null, epoch: '1' },
    { ordinal: null, epoch: '1' },
  ])
  t.same(
    (await events(sql, 'claimed')).map(({ node, reason }) => [node, reason]),
    ['host-a', 'host-b', 'host-c'].map((name) => [name, 'a daemon runs on every permitted node']),
  )
})

story('it is never pending, claimed, counted or failed over', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql, { type: 'daemon' })
  t.same(await claim(sql), [])
  t.same(await loads(sql), { 'host-a': 0 })
  t.same([...(await sql`select * from mooring.unplaced`)], [])
  await age(sql, 'host-a', '1 hour ago')
  t.same([...(await sql`select * from mooring.reap()`)], [])
})

story('nodes that are not permitted have no daemon, in any state', async (t, sql) => {
  await node(sql, {
    name: 'host-a',
    labels: { gpu: true },
    seen: '1 hour ago',
    max_assignments: 0,
  })
  await node(sql, { name: 'host-b' })
  await node(sql, { name: 'host-c', labels: { gpu: true }, trusts: '^@acme/' })
  t.same(await hosts(sql, await deployment(sql, { type: 'daemon', selector: { gpu: true } })), [
    'host-a run',
  ])
})

story('what is new waits for a node that is closed, and what runs there stays', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  const old = await deployment(sql, { type: 'daemon' })
  await sql`select mooring.set_node_enabled('host-a', false)`
  await sql`select mooring.drain_node('host-b')`
  const id = await deployment(sql, { type: 'daemon' })
  t.same(await hosts(sql, id), [])
  t.same(await hosts(sql, old), ['host-a run', 'host-b run'])
  await sql`select mooring.set_node_enabled('host-a', true)`
  await sql`select mooring.undrain_node('host-b')`
  await sql`select mooring.evict()`
  t.same(await hosts(sql, id), ['host-a run', 'host-b run'])
})

story('it follows its selector and the labels of nodes', async (t, sql) => {
  const host = await node(sql, { name: 'host-a', labels: { zone: 'a' } })
  await node(sql, { name: 'host-b', labels: { zone: 'b' } })
  const id = await deployment(sql, { type: 'daemon', selector: { zone: 'a' } })
  await sql`update mooring.deployment set selector = '{"zone": "b"}' where id = ${id}`
  t.same(await hosts(sql, id), ['host-a stop', 'host-b run'])
  await report(
    sql,
    host,
    (await assignments(sql, id)).find(({ node }) => node === 'host-a')!,
    'stopped',
  )
  t.same(await hosts(sql, id), ['host-b run'])
  await sql`update mooring.node set labels = '{"zone": "b"}' where name = 'host-a'`
  t.same(await hosts(sql, id), ['host-a run', 'host-b run'])
  await sql`update mooring.node set labels = '{}' where name = 'host-b'`
  t.same(await hosts(sql, id), ['host-a run', 'host-b stop'])
})

story('a wish that comes back while it stops is granted as soon as it is gone', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const id = await deployment(sql, { type: 'daemon' })
  const [before] = await assignments(sql, id)
  await sql`update mooring.deployment set enabled = false where id = ${id}`
  await sql`update mooring.deployment set enabled = true where id = ${id}`
  t.same(await hosts(sql, id), ['host-a stop'])
  t.equal(await report(sql, host, before!, 'stopped'), true)
  t.same(await hosts(sql, id), ['host-a run'], 'in the same moment, not at the next round')
  t.not((await assignments(sql, id))[0]!.id, before!.id, 'as a new assignment')
})

story(
  'disable and delete stop it everywhere; the rows go with the stopped reports',
  async (t, sql) => {
    const [a, b] = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
    const [off, gone] = [
      await deployment(sql, { type: 'daemon' }),
      await deployment(sql, { type: 'daemon' }),
    ]
    await sql`update mooring.deployment set enabled = false where id = ${off}`
    await sql`delete from mooring.deployment where id = ${gone}`
    t.same(await hosts(sql, off), ['host-a stop', 'host-b stop'])
    t.same(await hosts(sql, gone), ['host-a stop', 'host-b stop'])
    t.same(
      (await events(sql, 'stop_wanted')).map(({ reason }) => reason),
      [
        'its deployment is disabled',
        'its deployment is disabled',
        'its deployment was deleted',
        'its deployment was deleted',
      ],
    )
    for (const row of await assignments(sql))
      await report(sql, row.node === 'host-a' ? a : b, row, 'stopped')
    t.same(await assignments(sql), [])
  },
)

story(
  'a daemon that is disabled from the start makes no rows, and enable makes them',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    const id = await deployment(sql, { type: 'daemon', enabled: false })
    t.same(await hosts(sql, id), [])
    await sql`update mooring.deployment set enabled = true where id = ${id}`
    t.same(await hosts(sql, id), ['host-a run'])
  },
)

story('an agent that registers with more trust gets its daemons', async (t, sql) => {
  const id = await deployment(sql, { type: 'daemon' })
  const host = await node(sql, { name: 'host-a', trusts: null })
  t.same(await hosts(sql, id), [])
  await sql`
    select from mooring.register_node('host-a', ${randomUUID()}, '.', replaces => ${host.session})`
  t.same(await hosts(sql, id), ['host-a run'])
})

story('its rows end with the node', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql, { type: 'daemon' })
  await sql`select mooring.leave('host-a', ${host.session})`
  await sql`delete from mooring.node where name = 'host-a'`
  t.same(await assignments(sql), [])
})

story(
  'what is inserted with an owner waits for the disk, whatever the session prefers',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    const waits = async () =>
      (await sql<{ level: string }[]>`select current_setting('synchronous_commit') as level`)[0]!
        .level
    await sql`set local synchronous_commit = off`
    await deployment(sql)
    t.equal(
      await waits(),
      'off',
      'control: a row that waits is lost with its insert, and with nothing else',
    )
    await deployment(sql, { type: 'daemon' })
    t.equal(await waits(), 'on')
    await sql`set local synchronous_commit = off`
    await sql`select mooring_internal.make_daemons()`
    t.equal(await waits(), 'off', 'nothing was made')
  },
)

story('the round makes what is missing and ends what has no owner', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const id = await deployment(sql, { type: 'daemon' })
  await sql`update mooring.heartbeat set session = null`
  await sql`delete from mooring.assignment`
  await sql`update mooring.heartbeat set session = ${host.session}`
  await sql`
    insert into mooring.assignment (
      deployment_id, signature, node_id, epoch, lease_ttl, assigned_at
    )
    select id, signature, 999999, 1, '12 s', now()
      from mooring.deployment`
  await sql`select from mooring.evict()`
  t.same(await hosts(sql, id), ['host-a run'])
})

story(
  'its lease is copied like any other, and a new image keeps the assignment',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    const id = await deployment(sql, { type: 'daemon', lease_ttl: '40 s' })
    await sql`
      update mooring.deployment set package_version = '14.1.2', lease_ttl = '50 s' where id = ${id}`
    const [row] = await sql`
        select a.epoch, a.wanted, extract(epoch from a.lease_ttl)::int as ttl,
               a.signature = d.signature as current, d.generation
          from mooring.assignment a
          join mooring.deployment d on d.id = a.deployment_id`
    t.same(row, { epoch: '1', wanted: 'run', ttl: 40, current: true, generation: '2' })
  },
)

story('beside daemons ordinary work is placed as if they were not there', async (t, sql) => {
  await deployment(sql, { type: 'daemon', pinned_node: 'host-a' })
  await node(sql, { name: 'host-a', max_assignments: 2 })
  await node(sql, { name: 'host-b', max_assignments: 2 })
  await deployments(sql, 4)
  t.equal((await claim(sql)).length, 4)
})
