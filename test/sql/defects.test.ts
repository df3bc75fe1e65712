import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../helpers/postgres.js'
import {
  age,
  assignments,
  beat,
  deployment,
  deployments,
  node,
  report,
} from '../helpers/factories.js'
import { claim, events, loads, refused, storiesIn } from './story.js'

// What went wrong in the systems this one replaces, as far as SQL decides it. Each by its number in
// docs/compared.md.

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const reap = (sql: TransactionSql) => sql`select id from mooring.reap()`

story('defect 1: a node that cannot claim leaves nothing unassigned', async (t, sql) => {
  await node(sql, { name: 'trusts-nothing', trusts: null })
  await node(sql, { name: 'dead', seen: '1 hour ago' })
  await node(sql, { name: 'disabled', enabled: false })
  await node(sql, { name: 'host-a' })
  await deployment(sql, { policy: 'none' })
  await deployment(sql, { pinned_node: 'trusts-nothing' })
  await deployments(sql, 21)
  t.equal((await claim(sql)).length, 21)
  t.match(await loads(sql), { 'host-a': 21, 'trusts-nothing': 0, dead: 0, disabled: 0 })
})

story(
  'defect 1: with no worker alive the agents are notified, and run the rounds',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    await deployments(sql, 21)
    t.match(await beat(sql, host), { round_overdue: true })
    await sql`select from mooring.tick('host-a', inline => true)`
    t.same(await loads(sql), { 'host-a': 21 })
  },
)

story('defect 2: a node whose sample failed does not attract everything', async (t, sql) => {
  await sql`update mooring.setting set default_policy = 'resource_usage'`
  await node(sql, { name: 'failed-sample' })
  await node(sql, { name: 'half-a-sample', sample: { cpu_pct: 0 } })
  await node(sql, { name: 'host-a', sample: { cpu_pct: 60, memory_mb: 8192 } })
  await node(sql, { name: 'host-b', sample: { cpu_pct: 60, memory_mb: 8192 } })
  await deployments(sql, 21)
  await claim(sql)
  t.same(await loads(sql), { 'failed-sample': 0, 'half-a-sample': 0, 'host-a': 11, 'host-b': 10 })
})

for (const survivors of [1, 2, 9]) {
  story(
    `defect 3: 21 orphans go to ${survivors} survivors in one pass, without a conflict`,
    async (t, sql) => {
      await node(sql, { name: 'lost' })
      await deployments(sql, 21)
      await claim(sql)
      for (let n = 1; n <= survivors; n++) await node(sql, { name: `survivor-${n}` })
      await age(sql, 'lost', '1 minute ago')
      t.equal((await reap(sql)).length, 21)
      t.equal((await claim(sql)).length, 21)
      const { lost, ...rest } = await loads(sql)
      t.equal(lost, 0)
      t.ok(
        Math.max(...Object.values(rest)) - Math.min(...Object.values(rest)) <= 1,
        JSON.stringify(rest),
      )
      t.ok(
        (await assignments(sql)).every(({ epoch }) => epoch === '3'),
        'each was claimed once',
      )
    },
  )
}

void t.test('defect 4: a peer that hangs blocks no other node', async (t) => {
  const { sql, client } = await testDatabase(t)
  const [a] = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'hangs' })]
  await deployments(sql, 4)
  const hanging = client('a hanging peer')
  await hanging`begin`
  await hanging`
    select
      from mooring.heartbeat h
      join mooring.node n on n.id = h.node_id
     where n.name = 'hangs'
     for update`
  await sql`set statement_timeout = '30 s'`
  t.equal((await claim(sql)).length, 4, 'claims')
  t.ok(await beat(sql, a), 'the beats of others')
  await age(sql, 'host-a', '1 minute ago')
  t.equal((await sql`select id from mooring.reap()`).length, 2, 'the failover of others')
  await hanging`rollback`
})

story('defect 5: a live node that was silent for a moment loses nothing', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await deployments(sql, 10)
  await claim(sql)
  await sql`update mooring.setting set reap_margin = '1 min'`
  await age(sql, 'host-a', '30 seconds ago')
  t.equal((await reap(sql)).length, 0)
  await beat(sql, host)
  t.same(await loads(sql), { 'host-a': 5, 'host-b': 5 })
})

story('defect 5: a restart of the control plane steals nothing from live nodes', async (t, sql) => {
  const hosts = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  await deployments(sql, 10)
  await claim(sql)
  await sql`select from mooring.tick('me')`
  // the database was away for a minute: no node could beat, no worker ticked
  for (const { name } of hosts) await age(sql, name, '1 minute ago')
  await sql`update mooring_internal.pulse set pulse_at = pulse_at - interval '1 minute'`
  await sql`update mooring_internal.round set due_at = '-infinity'`
  t.match(await sql`select hold from mooring.tick('me', inline => true)`, [{ hold: true }])
  for (const host of hosts) await beat(sql, host)
  await sql`update mooring_internal.pulse set hold_until = clock_timestamp()`
  t.equal((await reap(sql)).length, 0)
  t.same(await loads(sql), { 'host-a': 5, 'host-b': 5 })
})

story(
  'defect 6: a node that was cut off is confirmed no work of others, and its reports are rejected',
  async (t, sql) => {
    const cut = await node(sql, { name: 'cut-off' })
    const id = await deployment(sql)
    await claim(sql)
    const [before] = await assignments(sql, id)
    const confirmed = await beat(sql, cut)
    await age(sql, 'cut-off', '1 minute ago')
    await reap(sql)
    await node(sql, { name: 'host-b' })
    await sql`update mooring.node set enabled = false where name = 'cut-off'`
    await claim(sql)
    const late = await beat(sql, cut)
    t.match(late, { owned: 0 })
    t.not(late.digest, confirmed.digest)
    t.equal(await report(sql, cut, before!, 'running', { pid: 1 }), false)
    await refused(
      t,
      sql,
      (sql) => sql`select mooring.assert_owner(${before!.id}, ${before!.epoch})`,
      { code: 'MR005' },
    )
    t.match(await assignments(sql, id), [{ node: 'host-b', epoch: '3' }])
  },
)

story('defect 7: a session that is over disturbs the new one in nothing', async (t, sql) => {
  const old = await node(sql, { name: 'host-a' })
  await deployments(sql, 2)
  await claim(sql)
  const session = randomUUID()
  await sql`
    select from mooring.register_node('host-a', ${session}, '.', replaces => ${old.session})`
  const [row] = await assignments(sql)
  await refused(t, sql, (sql) => sql`select mooring.leave('host-a', ${old.session})`, {
    code: 'MR001',
  })
  await refused(t, sql, (sql) => report(sql, old, row!, 'stopped'), { code: 'MR001' })
  t.match(await beat(sql, { name: 'host-a', session }), { owned: 2 })
})

story('defect 8: what no node trusts is not claimed, and says why', async (t, sql) => {
  await node(sql, { trusts: '^http-server@' })
  await deployment(sql, { package_name: 'left-pad' })
  t.same(await claim(sql), [])
  t.match(await sql`select reason from mooring.unplaced`, [
    { reason: /no node trusts left-pad@latest/ },
  ])
})

story('defect 8: what an agent will not run is given back', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await deployment(sql)
  await claim(sql)
  await report(sql, host, (await assignments(sql))[0]!, 'refused')
  await claim(sql)
  t.match(await assignments(sql), [{ node: 'host-b' }])
})

void t.test('defect 8: a row that is disabled between pick and claim is not placed', async (t) => {
  const { sql, client } = await testDatabase(t)
  await node(sql)
  const [id] = await deployments(sql, 2)
  const user = client()
  await user`begin`
  await user`update mooring.deployment set enabled = false where id = ${id!}`
  t.equal((await claim(sql)).length, 1, 'a row that another session edits is left alone')
  await user`commit`
  t.same(await claim(sql), [])
})

story(
  'defect 9: a pin and a placement are two things: neither overwrites the other',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    const pinned = await deployment(sql, { pinned_node: 'host-a' })
    const free = await deployment(sql)
    await claim(sql)
    await sql`update mooring.deployment set labels = '{"edited": true}'`
    await age(sql, 'host-a', '1 minute ago')
    await reap(sql)
    await claim(sql)
    const pins = await sql`select id, pinned_node from mooring.deployment order by id`
    t.same(
      [...pins],
      [
        { id: pinned, pinned_node: 'host-a' },
        { id: free, pinned_node: null },
      ],
      'failover left the pins',
    )
    t.equal((await assignments(sql, pinned))[0]!.node, null, 'it waits for its node')
    t.equal((await assignments(sql, free))[0]!.node, 'host-b', 'an edit left the placement')
  },
)

story(
  'defect 10: only a change of what runs restarts it, and an edit does not cost its place',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    const id = await deployment(sql)
    await claim(sql)
    const look = async () =>
      (
        await sql`
          select a.epoch, a.updated_at, a.wanted, d.generation
            from mooring.assignment a
            join mooring.deployment d on d.id = a.deployment_id`
      )[0]
    const before = await look()
    await sql`
      update mooring.deployment
         set name = 'site',
             labels = '{"a": 1}',
             replicas = 1,
             on_lost = 'keep',
             stop_grace = '1 s',
             selector = '{}'
       where id = ${id}`
    t.same(await look(), before, 'nothing of this')
    await sql`update mooring.deployment set env = '{"A": "1"}'`
    t.same(await look(), { ...before, generation: '2' })
  },
)

story('defect 10: the old instance ends before a new one is placed', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  const id = await deployment(sql)
  await claim(sql)
  await sql`update mooring.deployment set pinned_node = 'host-b' where id = ${id}`
  t.same(await claim(sql), [])
  t.match(await assignments(sql, id), [{ node: 'host-a', wanted: 'stop' }])
  await report(sql, host, (await assignments(sql, id))[0]!, 'stopped')
  await claim(sql)
  t.match(await assignments(sql, id), [{ node: 'host-b', wanted: 'run' }])
})

story('defect 11: a crash loop is counted, and a failed install is no success', async (t, sql) => {
  const host = await node(sql)
  await deployment(sql)
  await claim(sql)
  const [row] = await assignments(sql)
  await report(sql, host, row!, 'failed', { error: 'npm: no such version', next_start_in_ms: 2000 })
  t.match(
    await sql`
      select run_state, last_error, last_deployed_at, next_start_at is not null as again
        from mooring.placement`,
    [
      {
        run_state: 'failed',
        last_error: 'npm: no such version',
        last_deployed_at: null,
        again: true,
      },
    ],
  )
  for (let n = 1; n <= 3; n++)
    await report(sql, host, row!, 'backoff', {
      restarts: n,
      exit_code: 1,
      error: 'it ended with code 1',
      next_start_in_ms: 1000 * 2 ** n,
    })
  t.match(await sql`select run_state, restarts, exit_code from mooring.placement`, [
    { run_state: 'backoff', restarts: 3, exit_code: 1 },
  ])
  t.match(await sql`select running from mooring.fleet`, [{ running: 0 }])
})

story(
  'defect 13, defect 14, defect 16: a beat keeps edits and figures, a failure keeps the success',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a', sample: { disk_free_pct: 5 } })
    await sql`update mooring.node set enabled = false`
    await beat(sql, host)
    t.match(await sql`select enabled, disk_free_pct, health from mooring.node_status`, [
      { enabled: false, disk_free_pct: 5, health: 'UNHEALTHY' },
    ])
    await sql`update mooring.node set enabled = true`
    await beat(sql, host, { disk_free_pct: 50 })
    await deployment(sql)
    await claim(sql)
    await report(sql, host, (await assignments(sql))[0]!, 'running')
    await report(sql, host, (await assignments(sql))[0]!, 'failed', { error: 'x' })
    t.match(await sql`select last_deployed_at is not null as kept from mooring.placement`, [
      { kept: true },
    ])
    t.equal((await events(sql, 'claimed')).length, 1)
  },
)
