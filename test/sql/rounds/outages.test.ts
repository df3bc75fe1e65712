import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, beat, deployments, node } from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

// Every way in which the database can be away or wrong about the time, each against the same
// expectations. A step of the clock is simulated: the clock stays, and everything written before
// becomes older, or younger, by the step. ../races/database-*.test.ts really crash, promote, pause
// and clone a database.

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

interface Outage {
  name: string
  happen(sql: TransactionSql): Promise<unknown>
  reason: RegExp
  /** The session that looks first. Left out: a reap. */
  noticedBy?(sql: TransactionSql): PromiseLike<unknown>
  /** A reap that does not hold takes the work of nodes that are alive. */
  robs: boolean
}

/** The database's clock is stepped by so many seconds; less than nothing is back. */
const step = (sql: TransactionSql, seconds: number) => sql`
  with beats as (
    update mooring.heartbeat set beat_at = beat_at - ${seconds} * interval '1 s' returning 1
  )
  update mooring_internal.pulse set pulse_at = pulse_at - ${seconds} * interval '1 s'`

const clockMs = async (sql: TransactionSql) =>
  (
    await sql<
      { clock_ms: number }[]
    >`select extract(epoch from clock_timestamp())::float8 * 1000 as clock_ms`
  )[0]!.clock_ms

/**
 * A tick of a worker whose last tick was `elapsedMs` ago by its own clock, and `sinceMs` by the
 * database clock. Both are read as the tick begins.
 */
const tickTold = async (sql: TransactionSql, elapsedMs: number, sinceMs: number) =>
  sql`
    select hold
      from mooring.tick(
        'worker',
        last_clock_ms => extract(
          epoch from clock_timestamp()
        )::float8 * 1000 - ${elapsedMs}::float8,
        since_ms => ${sinceMs}::float8
      )`

/**
 * A tick of a worker that ticked one second ago by its own clock. The database's clock, stepped
 * since, showed a time that differs by the step.
 */
const tickAfterStep = (sql: TransactionSql, seconds: number) =>
  tickTold(sql, 1000 * seconds + 1000, 1000)

const outages: Outage[] = [
  {
    name: 'a crash, or a promotion',
    happen: async (sql) => {
      await step(sql, 20)
      await sql`delete from mooring_internal.outage_marker`
    },
    reason: /^the database crashed, was promoted or restored$/,
    robs: true,
  },
  {
    name: 'a crash that took a moment',
    happen: (sql) => sql`delete from mooring_internal.outage_marker`,
    reason: /^the database crashed, was promoted or restored$/,
    robs: false,
  },
  {
    name: 'a dump that was restored the day after',
    happen: async (sql) => {
      await step(sql, 86_400)
      await sql`update mooring_internal.outage_marker set system_identifier = 1`
    },
    reason: /^the database crashed, was promoted or restored$/,
    robs: true,
  },
  {
    name: 'a database that was paused',
    happen: (sql) => step(sql, 20),
    reason: /^no worker or agent ticked for 00:00:2/,
    robs: true,
  },
  {
    name: 'a reaper that was away, while every node beat',
    happen: (sql) => sql`update mooring_internal.pulse set pulse_at = pulse_at - interval '7 s'`,
    reason: /^no worker or agent ticked for 00:00:(0[7-9]|1)/,
    robs: false,
  },
  {
    name: 'a clock that went forward by an hour',
    happen: (sql) => step(sql, 3600),
    reason: /^no worker or agent ticked for 01:00:0/,
    robs: true,
  },
  {
    name: 'a clock that went forward by little more than the margin, right after a tick',
    happen: (sql) => step(sql, 5),
    noticedBy: (sql) => tickAfterStep(sql, 5),
    reason: /^the clock went forward by 00:00:0[4-9]/,
    robs: true,
  },
  {
    name: 'a clock that went back by an hour',
    happen: (sql) => step(sql, -3600),
    reason: /^the clock went back by 00:59/,
    robs: false,
  },
  {
    name: 'a clock that went back by little more than the margin',
    happen: (sql) => step(sql, -4),
    noticedBy: (sql) => tickAfterStep(sql, -4),
    reason: /^the clock went back by 00:00:0[34]/,
    robs: false,
  },
]

const fleet = async (sql: TransactionSql) =>
  (
    await sql<{ hold: string | null; until_ms: number | null }[]>`
  select hold, extract(epoch from hold_until)::float8 * 1000 as until_ms from mooring.fleet`
  )[0]!
const holdUntil = async (sql: TransactionSql) =>
  (await sql<{ at: string }[]>`select hold_until::text as at from mooring_internal.pulse`)[0]!.at
const reap = async (sql: TransactionSql) => (await sql`select from mooring.reap()`).length

/**
 * Two nodes that last beat eleven seconds ago, as after some lost beats; two assignments each, and
 * one that waits.
 */
async function aFleet(sql: TransactionSql) {
  const [a, b] = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  await deployments(sql, 4)
  await claim(sql)
  await deployments(sql, 1)
  await sql`select mooring.tick('worker')`
  for (const { name } of [a, b]) await age(sql, name, '11 seconds ago')
  return { a, b }
}

for (const { name, happen, reason, noticedBy = reap } of outages) {
  story(
    `${name}: a lease and a margin long nothing is reaped, claimed or started, then all goes on`,
    async (t, sql) => {
      const { a, b } = await aFleet(sql)
      await happen(sql)
      const beforeMs = await clockMs(sql)
      await noticedBy(sql)
      const afterMs = await clockMs(sql)
      t.equal(await reap(sql), 0, 'no live node is reaped')
      t.same(await claim(sql), [], 'nothing is claimed')
      t.match(await beat(sql, a), { owned: 2, hold: true }, 'an agent that beats starts nothing')
      t.match(await sql`select hold from mooring.tick('agent host-a', inline => true)`, [
        { hold: true },
      ])
      t.same(await loads(sql), { 'host-a': 2, 'host-b': 2 })
      const seen = await fleet(sql)
      t.match(seen.hold, reason, 'fleet says why')
      t.ok(
        seen.until_ms! >= beforeMs + 14_999 && seen.until_ms! <= afterMs + 15_001,
        `and until when: ${seen.until_ms! - beforeMs} ms after it was noticed`,
      )

      const until = await holdUntil(sql)
      await tickAfterStep(sql, 0)
      await noticedBy(sql)
      for (const gap of ['1 s', '4 s', '3 s'])
        await sql.unsafe(
          `
            update mooring_internal.pulse set pulse_at = clock_timestamp() - interval '${gap}';
            select mooring.tick('worker')`,
        )
      t.equal(
        await holdUntil(sql),
        until,
        'set once: neither another observer nor a healthy gap renews it',
      )

      // a lease and a margin later: host-a has beaten, host-b never came back
      await sql`
        update mooring_internal.pulse
           set hold_until = clock_timestamp() - interval '1 s',
               pulse_at = clock_timestamp() - interval '1 s'`
      await age(sql, b.name, '16 seconds ago')
      await beat(sql, a)
      t.equal((await fleet(sql)).hold, null, 'it ends by itself')
      t.equal((await claim(sql)).length, 1)
      t.equal(await reap(sql), 2, 'a node that did not come back is dead')
      for (const gap of ['1 s', '4 s', '3 s']) {
        await sql.unsafe(
          `
            update mooring_internal.pulse
               set pulse_at = clock_timestamp() - interval '${gap}',
                   hold_until = clock_timestamp() - interval '1 min';
            select mooring.tick('worker')`,
        )
      }
      t.equal((await fleet(sql)).hold, null)
      t.equal((await events(sql, 'hold_started')).length, 1, 'one outage, one event')
      t.ok((await assignments(sql)).every(({ epoch }) => ['1', '2'].includes(epoch)))
    },
  )
}

for (const { name, happen } of outages.filter(({ robs }) => robs)) {
  story(
    `${name}: without the hold a reap takes the work of nodes that are alive`,
    async (t, sql) => {
      await sql`
        create or replace function mooring_internal.notice_outage() returns boolean
          language sql
          return false`
      await aFleet(sql)
      t.equal(await reap(sql), 0, 'before')
      await happen(sql)
      t.equal(await reap(sql), 4)
    },
  )
}

story(
  'a step right after a tick is noticed only by a worker that ticks with a clock of its own',
  async (t, sql) => {
    await aFleet(sql)
    // half of it may pass between two ticks; leases that were given stay as they are
    await sql`update mooring.setting set lease_ttl = '1 min'`
    await step(sql, 5)
    t.match(await sql`select hold from mooring.tick('worker')`, [{ hold: false }])
    t.equal(await reap(sql), 4, 'the obvious tick, and they are robbed')
  },
)

story(
  'a worker that comes late or ticks slowly is not a step: both clocks went on',
  async (t, sql) => {
    await aFleet(sql)
    for (const [elapsedMs, sinceMs] of [
      [1000, 1000],
      [11_000, 11_000],
      [3500, 1000],
      [1000, 3500],
    ] as const)
      t.match(await tickTold(sql, elapsedMs, sinceMs), [{ hold: false }])
    // a request that took a second on its way is no step, however small the margin
    await sql`update mooring.setting set reap_margin = '50 ms'`
    t.match(await tickTold(sql, 1500, 1000), [{ hold: false }])
    t.match(await tickTold(sql, 2100, 1000), [{ hold: true }])
  },
)

story(
  'what is older than a lease is left to the pulse, and nonsense is no clock',
  async (t, sql) => {
    await aFleet(sql)
    const now = await clockMs(sql)
    for (const [clock, since] of [
      [now - 60_000, 12_001],
      [now - 60_000, -1],
      [NaN, 1000],
      [now, NaN],
      [Infinity, 1000],
      [-Infinity, 1000],
      [now - 60_000, Infinity],
      [null, 1000],
      [now - 60_000, null],
      [1e300, 1000],
    ] as const) {
      t.match(
        await sql`
          select hold
            from mooring.tick(
              'worker', last_clock_ms => ${clock}::float8, since_ms => ${since}::float8
            )`,
        [{ hold: false }],
        `${clock}, ${since}`,
      )
    }
  },
)

story(
  'a hold that a step has shortened begins again, once, for any number of observers',
  async (t, sql) => {
    await aFleet(sql)
    await sql`delete from mooring_internal.outage_marker`
    await reap(sql)
    // ten seconds are missing from it
    await sql`update mooring_internal.pulse set hold_until = hold_until - interval '10 s'`
    await step(sql, 10)
    const beforeMs = await clockMs(sql)
    await tickAfterStep(sql, 10)
    const seen = await fleet(sql)
    t.match(seen, { hold: /^the clock went forward by 00:00:(09|1)/ })
    t.ok(seen.until_ms! >= beforeMs + 14_999, `${seen.until_ms! - beforeMs} ms`)
    const until = await holdUntil(sql)
    for (let other = 0; other < 3; other++) await tickAfterStep(sql, 10)
    t.equal(await holdUntil(sql), until)
    t.equal((await events(sql, 'hold_started')).length, 2)
  },
)

story('where no agent holds a name a step holds nothing up', async (t, sql) => {
  await sql`select mooring.tick('worker')`
  await tickAfterStep(sql, 3600)
  await node(sql, { name: 'host-a' })
  await deployments(sql, 1)
  t.equal((await claim(sql)).length, 1)
})
