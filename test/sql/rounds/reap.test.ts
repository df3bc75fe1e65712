import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import {
  age,
  assignments,
  beat,
  deployment,
  deployments,
  node,
  report,
} from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const reap = async (sql: TransactionSql, maxRows: number | null = null) =>
  (await sql<{ id: string }[]>`select id from mooring.reap(${maxRows})`).map(({ id }) => id)

story(
  'what a silent node owned is freed when lease and margin are over, and goes to the survivor',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    await deployments(sql, 21)
    await claim(sql)
    await age(sql, 'host-a', '15.1 seconds ago')
    t.equal((await reap(sql)).length, 11)
    const reaped = await events(sql, 'reaped')
    t.equal(reaped.length, 11)
    t.ok(
      reaped.every(
        ({ node, epoch, reason }) =>
          node === 'host-a' && epoch === '2' && reason === 'the lease of its node is over',
      ),
    )
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 21 })
    t.same(new Set((await assignments(sql)).map(({ epoch }) => epoch)), new Set(['1', '3']))
  },
)

story('a node that is late by less than lease and margin keeps its work', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployments(sql, 3)
  await claim(sql)
  await sql`update mooring.setting set reap_margin = '1 min'`
  await age(sql, 'host-a', '30 seconds ago')
  t.same(await reap(sql), [])
  t.same(await loads(sql), { 'host-a': 3 })
})

story('a beat in the last moment saves everything', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployments(sql, 3)
  await claim(sql)
  await age(sql, 'host-a', '1 hour ago')
  await beat(sql, host)
  t.same(await reap(sql), [])
})

story(
  'a reap by a trusted time frees nothing because of a later step of the clock',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await deployments(sql, 3)
    await claim(sql)
    // By the present clock the lease ended a minute ago. When a worker last confirmed the clock,
    // the beat was a second old.
    await age(sql, 'host-a', '1 minute ago')
    const judged = (ago: string) =>
      sql`select r.id from mooring.reap(judged_at => clock_timestamp() - ${ago}::interval) r`
    t.equal((await judged('59 s')).length, 0)
    t.same(await loads(sql), { 'host-a': 3 })
    t.equal((await judged('-1 hour')).length, 3, 'a time in the future is now')
  },
)

story('each assignment ends with its own lease', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const [short, long] = [
    await deployment(sql, { lease_ttl: '2 s' }),
    await deployment(sql, { lease_ttl: '10 min' }),
  ]
  await claim(sql)
  await sql`update mooring.assignment set assigned_at = assigned_at - interval '1 hour'`
  await age(sql, 'host-a', '1 minute ago')
  t.equal((await reap(sql)).length, 1)
  t.equal((await assignments(sql, short))[0]!.node, null)
  t.equal((await assignments(sql, long))[0]!.node, 'host-a')
})

story(
  'work with a short lease claimed after the last beat is not reaped before the next beat',
  async (t, sql) => {
    await sql`update mooring.setting set reap_margin = '50 ms'`
    await node(sql, { name: 'host-a', seen: '2.9 seconds ago' })
    const id = await deployment(sql, { lease_ttl: '100 ms' })
    await claim(sql)
    t.same(await reap(sql), [], 'the node is live: it loses nothing')
    t.equal((await assignments(sql, id))[0]!.node, 'host-a')
    await age(sql, 'host-a', '12.1 seconds ago')
    t.equal((await reap(sql)).length, 1, 'it ends with the lease of the node')
  },
)

story('a lease that was given is not shortened by an edit of the setting', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await sql`
    update mooring.setting set beat_interval = '20 ms', lease_ttl = '100 ms', reap_margin = '50 ms'`
  await age(sql, 'host-a', '5 seconds ago')
  t.same(await reap(sql), [])
})

story('at most max_rows are freed at once, the rest next time', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployments(sql, 7)
  await claim(sql)
  await age(sql, 'host-a', '1 minute ago')
  t.equal((await reap(sql, 3)).length, 3)
  t.equal((await reap(sql, 3)).length, 3)
  t.equal((await reap(sql, 3)).length, 1)
  t.same(await reap(sql, 3), [])
})

story('the order of the queue survives the failover', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const later = await deployment(sql, { updated_at: '2026-01-06' })
  const sooner = await deployment(sql, { updated_at: '2026-01-05' })
  await claim(sql)
  await age(sql, 'host-a', '1 minute ago')
  await reap(sql)
  const last = await deployment(sql)
  await node(sql, { name: 'host-b' })
  await claim(sql)
  t.same(
    (await events(sql, 'claimed')).slice(2).map(({ deployment_id }) => deployment_id),
    [sooner, later, last],
  )
})

story('what was ordered to stop and cannot report any more ends with the lease', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const [off, gone] = [await deployment(sql), await deployment(sql)]
  await claim(sql)
  await sql`update mooring.deployment set enabled = false where id = ${off}`
  await sql`delete from mooring.deployment where id = ${gone}`
  await age(sql, 'host-a', '1 minute ago')
  t.equal((await reap(sql)).length, 2)
  t.match(await assignments(sql), [{ deployment_id: off, node: null, wanted: 'stop' }])
  t.equal((await assignments(sql)).length, 1)
})

story(
  'a daemon is not failed over, but one that was ordered to stop ends with the lease',
  async (t, sql) => {
    const [stays, ends] = [
      await deployment(sql, { type: 'daemon' }),
      await deployment(sql, { type: 'daemon' }),
    ]
    await node(sql, { name: 'host-a' })
    await sql`delete from mooring.deployment where id = ${ends}`
    await age(sql, 'host-a', '1 minute ago')
    t.equal((await reap(sql)).length, 1)
    t.match(await assignments(sql), [{ deployment_id: stays, node: 'host-a', wanted: 'run' }])
  },
)

story('the last observation of what was reaped says lost', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await report(sql, host, (await assignments(sql))[0]!, 'running', { pid: 42 })
  await age(sql, 'host-a', '1 minute ago')
  await reap(sql)
  const [run] =
    await sql`select state, pid, last_deployed_at is not null as deployed from mooring.run`
  t.same(run, { state: 'lost', pid: null, deployed: true })
})

story('the round comes back when the next lease would end', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await sql`update mooring_internal.round set due_at = clock_timestamp() + interval '1 minute'`
  await age(sql, 'host-a', '5 seconds ago')
  await reap(sql)
  const [round] = await sql`
      select r.due_at = h.beat_at + interval '15 s' as "then"
        from mooring_internal.round r, mooring.heartbeat h
       where r.name = 'reap'`
  t.same(round, { then: true })
})

story('after the clock was set back a silent node is not immortal', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await sql`update mooring.heartbeat set beat_at = clock_timestamp() + interval '1 hour'`
  t.same(await reap(sql), [], 'it gets a lease from now on')
  const [beat] = await sql`select beat_at <= clock_timestamp() as clamped from mooring.heartbeat`
  t.same(beat, { clamped: true })
  await age(sql, 'host-a', '15.1 seconds ago')
  t.equal((await reap(sql)).length, 1)
})
