import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, beat, deployment, deployments, node, type TestNode } from '../../helpers/factories.js'
import { claim, loads, obeyOrders, patient, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const reap = async (sql: TransactionSql) => (await sql`select from mooring.reap()`).length
const paused = async (sql: TransactionSql) =>
  (await sql<{ reap_paused: string | null }[]>`select reap_paused from mooring.fleet`)[0]!
    .reap_paused
const resume = async (sql: TransactionSql) =>
  (await sql<{ resumed: boolean }[]>`select mooring.resume_reaping() as resumed`)[0]!.resumed
const said = async (sql: TransactionSql) =>
  (
    await sql<
      { kind: string; reason: string }[]
    >`select kind, reason from mooring.event where kind like 'reaping_%' order by id`
  ).map(({ kind, reason }) => `${kind}: ${reason}`)
const silent = async (sql: TransactionSql, hosts: readonly TestNode[], ago = '16 seconds ago') => {
  for (const host of hosts) await age(sql, host.name, ago)
}

/** n nodes, each with two assignments. */
async function fleet(sql: TransactionSql, n: number): Promise<TestNode[]> {
  const hosts: TestNode[] = []
  for (let nr = 1; nr <= n; nr++) hosts.push(await node(sql, { name: `host-${nr}` }))
  await deployments(sql, 2 * n)
  await claim(sql)
  return hosts
}

story(
  'if more than half of the nodes fall silent at once, nothing is reaped, and one event says so',
  async (t, sql) => {
    const hosts = await fleet(sql, 5)
    await silent(sql, hosts.slice(0, 3))
    for (let round = 0; round < 3; round++) t.equal(await reap(sql), 0)
    t.equal(await paused(sql), '3 of 5 nodes are silent')
    t.same(await said(sql), [
      'reaping_paused: 3 of 5 nodes are silent, more than 50.0 %: their work is not ' +
        'reaped until they return, 00:10:00 pass, or an operator calls mooring.resume_reaping()',
    ])
    t.match(await sql`select detail from mooring.event where kind = 'reaping_paused'`, [
      { detail: { silent: 3, nodes: 5, owning: 3, share: 0.5 } },
    ])
    t.ok(
      Object.values(await loads(sql)).every((n) => n === 2),
      'every node has what it had',
    )
  },
)

story('while no node lives, work that runs on is not reaped', async (t, sql) => {
  const hosts = await fleet(sql, 3)
  await sql`update mooring.deployment set on_lost = 'keep'`
  await silent(sql, hosts)
  t.equal(await reap(sql), 0)
  await beat(sql, hosts[0]!)
  t.equal(await reap(sql), 4)
})

story('work that runs on stays where it is while no live node could take it', async (t, sql) => {
  const lost = await node(sql, { name: 'lost', labels: { disk: 'ssd' } })
  await node(sql, { name: 'other' })
  const pinned_node = 'lost'
  const pinned = await deployment(sql, { pinned_node, on_lost: 'keep' })
  const labelled = await deployment(sql, { selector: { disk: 'ssd' }, on_lost: 'keep' })
  const plain = await deployment(sql, { pinned_node, on_lost: 'keep' })
  const stopped = await deployment(sql, { pinned_node })
  await claim(sql)
  await sql`update mooring.deployment set pinned_node = null where id = ${plain}`
  await silent(sql, [lost])
  const reaped = async () =>
    (await sql<{ deployment_id: string }[]>`select deployment_id from mooring.reap()`)
      .map((row) => row.deployment_id)
      .sort()
  t.same(await reaped(), [plain, stopped].sort())
  t.same(await reaped(), [])
  await sql`update mooring.node set labels = '{"disk": "ssd"}' where name = 'other'`
  t.same(await reaped(), [labelled], 'now another node could take it')
  await sql`delete from mooring.deployment where id = ${pinned}`
  t.same(await reaped(), [pinned], 'what shall stop has no place to wait for')
})

story('half of them is believed', async (t, sql) => {
  const hosts = await fleet(sql, 6)
  await silent(sql, hosts.slice(0, 3))
  t.equal(await reap(sql), 6)
  t.equal(await paused(sql), null)
  t.same(await said(sql), [])
})

story('in a fleet below the minimum every silence is believed', async (t, sql) => {
  const hosts = await fleet(sql, 4)
  await silent(sql, hosts.slice(1))
  t.equal(await reap(sql), 6)
  t.same(await said(sql), [])
})

story('minimum and share are settings, and a share of null never pauses', async (t, sql) => {
  const hosts = await fleet(sql, 5)
  await silent(sql, hosts.slice(0, 2))
  await sql`update mooring.setting set reap_pause_share = 0.3`
  t.equal(await reap(sql), 0)
  await sql`update mooring.setting set reap_pause_min_nodes = 6`
  t.equal(await reap(sql), 4)
  await silent(sql, hosts.slice(0, 4))
  await sql`update mooring.setting set reap_pause_min_nodes = 1`
  t.equal(await reap(sql), 0)
  await sql`update mooring.setting set reap_pause_share = null`
  t.equal(await reap(sql), 4)
  t.match((await said(sql)).at(-1), 'reaping_resumed: setting.reap_pause_share is off')
  for (const edit of [
    "reap_pause_share = 'NaN'",
    'reap_pause_share = -0.1',
    'reap_pause_share = 1.1',
    'reap_pause_min_nodes = 0',
  ]) {
    await refused(
      t,
      sql,
      (sql) => sql.unsafe(`update mooring.setting set ${edit}`),
      { code: '23514' },
      edit,
    )
  }
})

story(
  'when enough of them are back reaping resumes, and what is still silent is reaped',
  async (t, sql) => {
    const hosts = await fleet(sql, 5)
    await silent(sql, hosts.slice(0, 4))
    t.equal(await reap(sql), 0)
    await beat(sql, hosts[0]!)
    t.equal(await reap(sql), 0, 'three of five are too many still')
    await beat(sql, hosts[1]!)
    t.equal(await reap(sql), 4)
    t.equal(await paused(sql), null)
    t.same((await said(sql)).slice(1), ['reaping_resumed: 2 of 5 nodes are silent'])
    await silent(sql, hosts.slice(0, 2))
    t.equal(
      await reap(sql),
      0,
      'with the two that were taken from, four of five are silent: it pauses anew',
    )
    t.equal((await said(sql)).length, 3)
  },
)

story('during a pause a silent node with work is not forgotten', async (t, sql) => {
  await sql`update mooring.setting set reap_pause_timeout = null`
  const hosts = await fleet(sql, 5)
  await silent(sql, hosts.slice(0, 3))
  t.equal(await reap(sql), 0)
  // a month later
  await sql`update mooring_internal.reap_pause set paused_at = paused_at - interval '30 days'`
  await silent(sql, hosts.slice(0, 3), '31 days ago')
  t.equal(await reap(sql), 0)
  t.equal(await paused(sql), '3 of 5 nodes are silent')
})

story('a pause ends by itself after setting.reap_pause_timeout', async (t, sql) => {
  const hosts = await fleet(sql, 5)
  await silent(sql, hosts.slice(0, 3))
  t.equal(await reap(sql), 0)
  await sql`update mooring_internal.reap_pause set paused_at = paused_at - interval '9 min 59 s'`
  t.equal(await reap(sql), 0, 'not before')
  await sql`update mooring_internal.reap_pause set paused_at = paused_at - interval '1 s'`
  t.equal(await reap(sql), 6)
  t.equal(await paused(sql), null)
  t.same((await said(sql)).slice(1), [
    'reaping_resumed: it was paused for 00:10:00 (setting.reap_pause_timeout): ' +
      '3 of 5 nodes are silent',
  ])
  await claim(sql)
  await silent(sql, hosts.slice(3, 4))
  t.equal(await reap(sql), 5, 'the outage goes on: the next host is believed as well')
  for (const host of hosts) await beat(sql, host)
  await reap(sql)
  await claim(sql)
  await silent(sql, hosts.slice(0, 4))
  t.equal(await reap(sql), 0, 'the next outage pauses again')
  t.equal((await said(sql)).length, 3)
})

story('the silence of nodes that own nothing is no evidence', async (t, sql) => {
  const empty: TestNode[] = []
  for (let nr = 1; nr <= 4; nr++)
    empty.push(await node(sql, { name: `empty-${nr}`, max_assignments: 0 }))
  const hosts = await fleet(sql, 3)
  await silent(sql, [...empty, ...hosts.slice(0, 1)])
  t.equal(await reap(sql), 2, 'five of seven are silent, but one of three that own something')
  t.equal(await paused(sql), null)
})

story('nodes that were drained and switched off stop no failover', async (t, sql) => {
  const hosts = await fleet(sql, 7)
  const drained = hosts.slice(0, 4)
  for (const { name } of drained) await sql`select mooring.drain_node(${name}, max_moves => 100)`
  for (let move = 0; move < 8; move++) {
    await claim(sql)
    await obeyOrders(sql, drained, 'stop')
  }
  t.match(await loads(sql), { 'host-1': 0, 'host-2': 0, 'host-3': 0, 'host-4': 0 })
  await silent(sql, drained)
  await silent(sql, hosts.slice(4, 5))
  t.ok((await reap(sql)) > 0)
  t.same(await said(sql), [])
})

story(
  'an operator who knows that they are dead resumes reaping, for this outage only',
  async (t, sql) => {
    const hosts = await fleet(sql, 5)
    t.equal(await resume(sql), false, 'nothing to resume')
    await silent(sql, hosts.slice(0, 3))
    await reap(sql)
    await sql`update mooring_internal.round set due_at = clock_timestamp() + interval '1 min'`
    t.equal(await resume(sql), true)
    t.equal(await resume(sql), false, 'once')
    const [round] = await sql`
        select due_at <= clock_timestamp() as due,
               (
                 select count(*)::int from mooring_jobs.jobs where task_identifier = 'reap'
               ) as jobs
          from mooring_internal.round
         where name = 'reap'`
    t.same(round, { due: true, jobs: 1 }, 'and it does not wait for the next round')
    t.equal(await paused(sql), null)
    t.same((await said(sql)).slice(1), [
      'reaping_resumed: an operator resumed it: 3 of 5 nodes are silent',
    ])
    const [by] = await sql`
        select e.actor = mooring_internal.actor() as actor, p.resumed_by = session_user as kept
          from mooring.event e, mooring_internal.reap_pause p
         where e.kind = 'reaping_resumed'`
    t.same(by, { actor: true, kept: true })
    t.equal(await reap(sql), 6)
    await claim(sql)
    await silent(sql, [hosts[3]!])
    t.equal(await reap(sql), 5, 'the outage goes on: the next host is believed as well')
    for (const host of hosts) await beat(sql, host)
    t.equal(await reap(sql), 0)
    t.same((await said(sql)).length, 2, 'that it is over needs no word')
    await claim(sql)
    await silent(sql, hosts.slice(0, 3))
    t.equal(await reap(sql), 0, 'the next outage pauses again')
    t.equal(await paused(sql), '3 of 5 nodes are silent')
  },
)

story('hosts that were reaped one after the other are counted together', async (t, sql) => {
  const hosts = await fleet(sql, 5)
  await silent(sql, hosts.slice(0, 2))
  t.equal(await reap(sql), 4)
  await silent(sql, hosts.slice(2, 3))
  t.equal(await reap(sql), 0, 'three of five within a minute')
})

story('hosts that were reaped are forgotten after four leases', async (t, sql) => {
  const hosts = await fleet(sql, 10)
  await silent(sql, hosts.slice(0, 5))
  t.equal(await reap(sql), 10)
  await claim(sql)
  await silent(sql, hosts.slice(0, 5), '64 seconds ago')
  await silent(sql, hosts.slice(5, 6))
  t.equal(await reap(sql), 4, 'one of five')
  await claim(sql)
  await silent(sql, hosts.slice(0, 5), '40 seconds ago')
  await silent(sql, hosts.slice(6, 7))
  t.equal(await reap(sql), 0, 'a little earlier they count: seven of ten')
})

story('with nothing to take nothing is paused', async (t, sql) => {
  for (let nr = 1; nr <= 8; nr++)
    await silent(sql, [await node(sql, { name: `empty-${nr}`, max_assignments: 0 })])
  t.equal(await reap(sql), 0)
  t.same(await said(sql), [])
})

story('a node that left is no silent node', async (t, sql) => {
  const hosts = await fleet(sql, 8)
  for (const { name, session } of hosts.slice(0, 5))
    await sql`select mooring.leave(${name}, ${session})`
  await silent(sql, hosts.slice(0, 6))
  t.equal(await reap(sql), 2)
  t.same(await said(sql), [])
})

story(
  'what a node that left still owns is freed during a pause: no process of it is left',
  async (t, sql) => {
    const hosts = await fleet(sql, 6)
    const [gone] = hosts.slice(5)
    // a claim that was in flight when it left, or a row that another session held
    await sql`update mooring.heartbeat set session = null where node = ${gone!.name}`
    await silent(sql, hosts.slice(0, 4))
    t.equal(await reap(sql), 2)
    t.equal(await paused(sql), '4 of 5 nodes are silent')
    t.match(await loads(sql), { 'host-1': 2, 'host-4': 2, 'host-5': 2, 'host-6': 0 })
    t.equal(await reap(sql), 0)
  },
)

story('work with a lease of its own makes its node silent when that is over', async (t, sql) => {
  await sql`update mooring.setting set lease_ttl = '2 min'`
  const hosts: TestNode[] = []
  for (let nr = 1; nr <= 5; nr++) hosts.push(await node(sql, { name: `host-${nr}` }))
  await sql`
    insert into mooring.deployment (package_name, lease_ttl)
    select 'http-server', '30 s'
      from generate_series(1, 5)`
  await claim(sql)
  await sql`update mooring.assignment set assigned_at = assigned_at - interval '1 hour'`
  await silent(sql, hosts.slice(0, 3), '40 seconds ago')
  t.equal(await reap(sql), 0)
  t.equal(await paused(sql), '3 of 5 nodes are silent')
})

story(
  'a round that is paused is a round that was run: heartbeats do not ask for it',
  async (t, sql) => {
    const hosts = await fleet(sql, 5)
    await sql`select from mooring.tick('me', inline => true)`
    await silent(sql, hosts.slice(0, 4))
    await sql`
      update mooring_internal.round set done_at = done_at - interval '1 min' where name = 'reap'`
    await reap(sql)
    t.match(await beat(sql, hosts[4]!), { round_overdue: false })
  },
)

story('a hold goes before: it is over when the pause is judged', async (t, sql) => {
  const hosts = await fleet(sql, 5)
  await silent(sql, hosts)
  await sql`delete from mooring_internal.outage_marker`
  t.equal(await reap(sql), 0)
  t.same(await said(sql), [], 'in a hold no node is counted: no node could beat')
  await sql`
    update mooring_internal.pulse
       set pulse_at = pulse_at - interval '16 s', hold_until = hold_until - interval '16 s'`
  t.equal(await reap(sql), 0)
  t.equal(
    await paused(sql),
    '5 of 5 nodes are silent',
    'neither came back: neither is forgotten for the other',
  )
  const [fleetRow] = await sql`select hold from mooring.fleet`
  t.same(fleetRow, { hold: null })
})

story(
  'the obvious reap without it moves everything to the few that can still be heard',
  async (t, sql) => {
    const hosts = await fleet(sql, 5)
    await silent(sql, hosts.slice(0, 4))
    t.equal(await reap(sql), 0, 'with it')
    await sql`
      create or replace function mooring_internal.update_reap_pause(at timestamptz, overdue int[])
        returns boolean
        language sql
        return false`
    t.equal(await reap(sql), 8, 'without it')
  },
)

void t.test('views say it in a transaction that may not write', async (t) => {
  const pg = await testDatabase(t)
  for (let nr = 1; nr <= 5; nr++) await node(pg.sql, { name: `host-${nr}` })
  await deployments(pg.sql, 5)
  await claim(pg.sql)
  await pg.sql`update mooring.heartbeat set beat_at = beat_at - interval '16 s'`
  await pg.sql`select from mooring.reap()`
  await pg.sql.begin('read only', async (sql) => {
    t.match(await sql`select reap_paused, hold from mooring.fleet`, [
      { reap_paused: '5 of 5 nodes are silent', hold: null },
    ])
  })
})

void t.test(
  'the breaker is switched off during a pause: a session that has not counted yet goes on reaping',
  async (t) => {
    const pg = await testDatabase(t)
    for (let nr = 1; nr <= 5; nr++) await node(pg.sql, { name: `host-${nr}` })
    await deployments(pg.sql, 5)
    await claim(pg.sql)
    await pg.sql`update mooring.heartbeat set beat_at = beat_at - interval '16 s'`
    t.equal((await pg.client('who pauses it')`select from mooring.reap()`).length, 0)
    await pg.sql`update mooring.setting set reap_pause_share = null`
    t.equal((await pg.client('a fresh session')`select from mooring.reap()`).length, 5)
    t.match(await pg.sql`select reason from mooring.event where kind = 'reaping_resumed'`, [
      { reason: 'setting.reap_pause_share is off' },
    ])
  },
)

void t.test('two reaps at once pause it once, and neither waits for the other', async (t) => {
  const pg = await testDatabase(t)
  for (let nr = 1; nr <= 5; nr++) await node(pg.sql, { name: `host-${nr}` })
  await deployments(pg.sql, 5)
  await claim(pg.sql)
  await pg.sql`update mooring.heartbeat set beat_at = beat_at - interval '16 s'`
  await patient(pg.sql)
  const [one, two] = [pg.client('one'), pg.client('two')]
  await two`select set_config('lock_timeout', '10 s', false)`
  await one`begin`
  t.equal((await one`select from mooring.reap()`).length, 0)
  t.equal(
    (await two`select from mooring.reap()`).length,
    0,
    'a session whose snapshot is older than the setting reaps nothing either',
  )
  await one`commit`
  await Promise.all([one, two].map((sql) => sql`select from mooring.reap()`))
  t.equal((await pg.sql`select from mooring.event where kind = 'reaping_paused'`).length, 1)
  t.equal((await pg.sql`select from mooring.event where kind = 'reaped'`).length, 0)
})
