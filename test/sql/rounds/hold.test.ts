import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, beat, deployment, node } from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const hold = async (sql: TransactionSql) =>
  (await sql<{ hold: boolean }[]>`select mooring_internal.notice_outage() as hold`)[0]!.hold
/**
 * Why the hold holds, and for how long when it began: the pulse is of that moment until a worker
 * ticks.
 */
const pulse = async (sql: TransactionSql) =>
  (
    await sql<{ hold_reason: string | null; seconds: number | null }[]>`
      select hold_reason, extract(epoch from hold_until - pulse_at)::float8 as seconds
        from mooring_internal.pulse`
  )[0]!
const ticked = (sql: TransactionSql, ago: string) =>
  sql`update mooring_internal.pulse set pulse_at = clock_timestamp() + ${ago}::interval`
const until = async (sql: TransactionSql) =>
  (
    await sql<
      { until: string | null }[]
    >`select hold_until::text as until from mooring_internal.pulse`
  )[0]!.until
/** It is over, and there were ticks. */
const ended = (sql: TransactionSql) =>
  sql`
    update mooring_internal.pulse
       set pulse_at = clock_timestamp(), hold_until = hold_until - interval '16 s'`

story(
  'an emptied marker is a crash: for one lease and margin nothing is reaped, claimed or started',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    await deployment(sql)
    await claim(sql)
    t.equal(await hold(sql), false)
    await deployment(sql)
    await age(sql, 'host-a', '1 minute ago')
    await sql`delete from mooring_internal.outage_marker`
    t.same([...(await sql`select * from mooring.reap()`)], [])
    t.match(await pulse(sql), {
      hold_reason: 'the database crashed, was promoted or restored',
      seconds: 15,
    })
    t.match(await events(sql, 'hold_started'), [
      { reason: 'the database crashed, was promoted or restored' },
    ])
    t.match(await beat(sql, host), { hold: true })
    t.same(await claim(sql), [])
    const [fleet] = await sql`select hold, hold_until is not null as until from mooring.fleet`
    t.same(fleet, { hold: 'the database crashed, was promoted or restored', until: true })
    await ended(sql)
    t.equal(await hold(sql), false, 'it ends by itself')
    t.equal((await claim(sql)).length, 1)
    t.same(await loads(sql), { 'host-a': 2 }, 'the node had beaten in the hold')
  },
)

story('a marker of another cluster or database is a restored dump', async (t, sql) => {
  await node(sql)
  await sql`update mooring_internal.outage_marker set system_identifier = 1`
  t.equal(await hold(sql), true)
})

story('a silence of the scheduler longer than half a lease is an outage', async (t, sql) => {
  await node(sql)
  await ticked(sql, '-3 s')
  t.equal(await hold(sql), false)
  await ticked(sql, '-6.1 s')
  t.equal(await hold(sql), true)
  t.match(await pulse(sql), {
    hold_reason: /^no worker or agent ticked for 00:00:0[6-9]/,
    seconds: 15,
  })
})

story(
  'the first observer of an outage starts the hold: a tick does not erase it',
  async (t, sql) => {
    await node(sql)
    await ticked(sql, '-1 hour')
    const [answer] = await sql`select hold from mooring.tick('me')`
    t.same(answer, { hold: true })
    const [next] = await sql`select hold from mooring.tick('me')`
    t.same(next, { hold: true })
    t.equal((await events(sql, 'hold_started')).length, 1, 'set once')
  },
)

story(
  'a hold is not renewed by looking at it, and healthy gaps after it start none',
  async (t, sql) => {
    await node(sql)
    await ticked(sql, '-1 hour')
    await hold(sql)
    const [before] = await sql`select hold_until from mooring_internal.pulse`
    await hold(sql)
    await sql`select mooring.tick('me')`
    const [after] = await sql`select hold_until from mooring_internal.pulse`
    t.same(after, before)
    await ended(sql)
    t.equal(await hold(sql), false)
  },
)

story(
  'an outage that begins in the middle of a hold, and is over after it, starts the next one',
  async (t, sql) => {
    await node(sql)
    await ticked(sql, '-1 hour')
    t.equal(await hold(sql), true)
    // a worker ticked, until five seconds after its beginning, and it ended two seconds ago
    await sql`
      update mooring_internal.pulse
         set pulse_at = pulse_at - interval '12 s', hold_until = hold_until - interval '17 s'`
    t.equal(await hold(sql), true)
    t.match(await pulse(sql), {
      hold_reason: /^no worker or agent ticked for 00:00:1[2-9]/,
      seconds: 15,
    })
  },
)

/**
 * The hold began `began` ago, and the last tick was `lastTick` ago. null: no worker has ticked
 * since it began.
 */
const inHold = async (sql: TransactionSql, began: string, lastTick: string | null) => {
  await ticked(sql, '-1 hour')
  await hold(sql)
  await sql`
    update mooring_internal.pulse
       set pulse_at = coalesce(
         clock_timestamp() - ${lastTick}::interval, pulse_at - ${began}::interval
       ),
           hold_until = hold_until - ${began}::interval`
}

story(
  'no tick in a hold that has just ended: an outage if agents have come since, else a quiet system',
  async (t, sql) => {
    await node(sql, { name: 'host-a', seen: '1 hour ago' })
    const justEnded = async () => {
      await ticked(sql, '-1 hour')
      await hold(sql)
      await sql`
        update mooring_internal.pulse
           set pulse_at = pulse_at - interval '17 s', hold_until = hold_until - interval '17 s'`
    }
    await justEnded()
    t.equal(await hold(sql), false)
    await age(sql, 'host-a', '16 s ago')
    t.equal(await hold(sql), true)
    t.match(await pulse(sql), {
      hold_reason: /^no worker or agent ticked for 00:00:(1[7-9]|2\d)/,
      seconds: 15,
    })
    await justEnded()
    await age(sql, 'host-a', '1 min ago')
    t.equal(await hold(sql), false, 'its last beat was before')
  },
)

story(
  'an outage that begins in a hold, and ends before it, begins the hold again',
  async (t, sql) => {
    await node(sql)
    await inHold(sql, '9 s', '3 s')
    const before = await until(sql)
    t.equal(await hold(sql), true)
    t.equal(await until(sql), before, 'a gap shorter than half a lease is none')
    await inHold(sql, '14 s', '12 s')
    t.equal(await hold(sql), true)
    t.match(await pulse(sql), {
      hold_reason: /^no worker or agent ticked for 00:00:1[2-9]/,
      seconds: 15,
    })
    await hold(sql)
    t.equal((await events(sql, 'hold_started')).length, 3, 'and that is set once, too')
  },
)

story(
  'before the first tick in a hold, half a lease more is granted: the workers come back first',
  async (t, sql) => {
    await node(sql)
    await inHold(sql, '8 s', null)
    const before = await until(sql)
    t.equal(await hold(sql), true)
    t.equal(await until(sql), before, 'longer than half a lease, and not yet a whole one')
    await inHold(sql, '12.1 s', null)
    t.equal(await hold(sql), true)
    t.match(await pulse(sql), {
      hold_reason: /^no worker or agent ticked for 00:00:1[2-9]/,
      seconds: 15,
    })
  },
)

story('a crash in a hold begins it again', async (t, sql) => {
  await node(sql)
  await inHold(sql, '14 s', '1 s')
  await sql`delete from mooring_internal.outage_marker`
  t.equal(await hold(sql), true)
  t.match(await pulse(sql), {
    hold_reason: 'the database crashed, was promoted or restored',
    seconds: 15,
  })
})

story('a hold lasts as long as the longest lease that was given', async (t, sql) => {
  await sql`update mooring.setting set lease_ttl = '1 min'`
  await node(sql)
  await sql`update mooring.setting set lease_ttl = '12 s'`
  await sql`delete from mooring_internal.outage_marker`
  await hold(sql)
  t.match(await pulse(sql), { seconds: 63 })
})

story('a clock that was set back by more than the margin starts a hold', async (t, sql) => {
  await node(sql)
  await ticked(sql, '2 s')
  t.equal(await hold(sql), false, 'a small step')
  await ticked(sql, '1 hour')
  t.equal(await hold(sql), true)
  t.match(await pulse(sql), { hold_reason: /^the clock went back by 00:59/, seconds: 15 })
})

story(
  'a hold in whose middle the clock is set back does not last until the old time',
  async (t, sql) => {
    await node(sql)
    await sql`
      update mooring_internal.pulse
         set hold_until = clock_timestamp() + interval '1 hour', hold_reason = 'x'`
    t.equal(await hold(sql), true)
    t.match(await pulse(sql), { hold_reason: 'the clock went back during a hold', seconds: 15 })
  },
)

story(
  'where no agent holds a name nothing can run, and the first one that comes is not held up',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    await sql`select mooring.leave('host-a', ${host.session})`
    await sql`delete from mooring_internal.outage_marker`
    await ticked(sql, '-1 day')
    await node(sql, { name: 'host-b' })
    await deployment(sql)
    t.equal((await claim(sql)).length, 1)
    t.same([...(await events(sql, 'hold_started'))], [])
  },
)

story(
  'an agent that comes back after an outage finds the hold, though its own name was free',
  async (t, sql) => {
    await node(sql, { name: 'host-a', seen: '1 hour ago' })
    await ticked(sql, '-1 hour')
    await node(sql, { name: 'host-b' })
    await deployment(sql)
    t.same(await claim(sql), [], 'host-a might still run things')
  },
)

story(
  'a round that finds a hold counts as run: beats ask for a tick only while no worker runs rounds',
  async (t, sql) => {
    // so that none becomes overdue by itself
    await sql`update mooring.setting set lease_ttl = '1 hour', round_interval = '10 min'`
    const host = await node(sql)
    await sql`delete from mooring_internal.outage_marker`
    await sql`update mooring_internal.round set done_at = clock_timestamp() - interval '1 hour'`
    t.match(await beat(sql, host), { hold: true, round_overdue: true }, 'right after the outage')
    await sql`select mooring.reap(), mooring.claim()`
    t.match(await beat(sql, host), { hold: true, round_overdue: false })
    await sql`update mooring_internal.round set done_at = done_at - interval '15 min'`
    t.match(await beat(sql, host), { hold: true, round_overdue: true })
    await sql`select mooring.tick('agent', inline => true)`
    t.match(await beat(sql, host), { hold: true, round_overdue: false })
  },
)

story('reading says the same without writing', async (t, sql) => {
  await node(sql)
  const holding = async () =>
    (await sql`select mooring_internal.hold_reason() as holding`)[0]!.holding
  t.equal(await holding(), null)
  await sql`delete from mooring_internal.outage_marker`
  t.equal(await holding(), 'the database crashed, was promoted or restored')
  const [pulse] = await sql`select hold_until from mooring_internal.pulse`
  t.same(pulse, { hold_until: null })
})

story(
  'without the hold a reap after an outage takes the work of nodes that could not beat',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await deployment(sql)
    await claim(sql)
    await age(sql, 'host-a', '1 minute ago')
    await ticked(sql, '-1 minute')
    t.same([...(await sql`select * from mooring.reap()`)], [], 'with it')
    await sql`
      create or replace function mooring_internal.notice_outage() returns boolean
        language sql
        return false`
    t.equal((await sql`select * from mooring.reap()`).length, 1, 'without it')
  },
)
