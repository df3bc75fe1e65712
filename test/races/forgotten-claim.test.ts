/**
 * A user types `begin; select mooring.claim()` in psql and goes to lunch. Placement is serialised,
 * so that loads are exact. With a plain lock, every worker's slot and every agent's rounds would
 * wait for that psql. Nothing would be placed or failed over until lunch ends.
 *
 * One transaction places, at most one waits for it, and every other claim returns at once. The
 * waiting one takes its first snapshot after it has the lock, so it observes their rows. The wait
 * is bounded, and the server ends a transaction that holds the lock and does nothing.
 */
import t from 'tap'
import { waitFor } from '../helpers/wait-for.js'
import { assignments, beat, deployment, deployments, node } from '../helpers/factories.js'
import { activity, stage, waitsFor, type Stage } from './stage.js'

/** The sessions that hold or await each of the two placement locks. */
const placementLocks = (pg: Stage) => pg.sql<
  { pid: number; lock: 'placing' | 'waiting'; granted: boolean }[]
>`
  select l.pid,
         case l.objid
           when mooring_internal.lock_key('placing') then 'placing'
           else 'waiting' end as lock,
         l.granted
    from pg_locks l
   where l.locktype = 'advisory'
     and l.classid = mooring_internal.lock_space()
     and l.database = (select oid from pg_database where datname = current_database())
   order by l.granted desc, 2, l.pid`

async function aForgottenClaim(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  await deployments(pg.sql, 3)
  const psql = await pg.session('psql')
  return { pg, hostA, psql }
}

t.test('one places, one waits, the others return at once, and no row is forgotten', async (t) => {
  const { pg, psql } = await aForgottenClaim(t)
  await psql.begin()
  t.equal((await psql.sql`select * from mooring.claim()`).length, 3)
  const second = await pg.session('a worker that waits')
  const waiting = second.start(
    (sql) => sql<{ deployment_id: string }[]>`select * from mooring.claim()`,
  )
  await waitsFor(t, pg, second, psql)
  // rows that are committed while psql holds the lock, each with its own claim, which finds one
  // waiting
  const late: string[] = []
  for (const name of ['third', 'fourth', 'fifth']) {
    late.push(await deployment(pg.sql))
    const other = await pg.session(name)
    t.equal((await other.sql`select * from mooring.claim()`).length, 0, `the ${name} goes home`)
  }
  t.same(
    (await placementLocks(pg)).map(({ pid, lock, granted }) => [pid, lock, granted]),
    [
      [psql.pid, 'placing', true],
      [second.pid, 'waiting', true],
      [second.pid, 'placing', false],
    ],
    'one holds, one waits',
  )
  t.match(
    (await pg.sql`select placement_lock_holder from mooring.fleet`)[0],
    { placement_lock_holder: psql.pid },
    'fleet names the holder',
  )
  await psql.commit()
  t.same(
    (await waiting.done).map((row) => row.deployment_id),
    late,
    'the claim that waited places the rows of those that returned',
  )
  t.same(await placementLocks(pg), [], 'and both locks are free')
})

t.test('inserts, beats and reports go on behind a forgotten claim', async (t) => {
  const { pg, hostA, psql } = await aForgottenClaim(t)
  await psql.begin()
  await psql.sql`select mooring.claim()`
  await pg.sql.begin(async (sql) => {
    await sql`set local statement_timeout = '30 s'`
    await deployments(sql, 100)
    await beat(sql, hostA)
    await sql`select * from mooring.assignments_of(${hostA.name}, ${hostA.session})`
    await sql`select * from mooring.report(${hostA.name}, ${hostA.session}, '[]')`
    await sql`select * from mooring.reap()`
    await sql`select * from mooring.fleet`
    await sql`select * from mooring.unplaced`
    await sql`select * from mooring.placement`
  })
  await node(pg.sql, { name: 'host-b' })
  t.equal((await assignments(pg.sql)).length, 103)
})

t.test(
  'the server ends a transaction that placed and idles; its claim is undone, the next places all',
  async (t) => {
    const { pg, psql } = await aForgottenClaim(t)
    await pg.sql`update mooring.setting set placement_lock_timeout = '300 ms'`
    await psql.begin()
    t.equal((await psql.sql`select * from mooring.claim()`).length, 3)
    await waitFor(
      async () => !(await pg.sql`select from pg_stat_activity where pid = ${psql.pid}`).length,
      { label: 'psql is gone', show: () => activity(pg.sql) },
    )
    t.match((await pg.sql`select placement_lock_holder from mooring.fleet`)[0], {
      placement_lock_holder: null,
    })
    t.equal((await pg.sql`select * from mooring.claim()`).length, 3)
  },
)

t.test(
  'behind a busy transaction a claim gives up, with the pid; the next one may wait again',
  async (t) => {
    const { pg, psql } = await aForgottenClaim(t)
    await pg.sql`update mooring.setting set placement_lock_timeout = '200 ms'`
    await psql.begin()
    // claim and nap in one round trip: between two the server would end it
    const napping = psql.start((sql) => sql`select count(*), pg_sleep(600) from mooring.claim()`)
    await waitFor(async () => (await placementLocks(pg)).length === 1, {
      label: 'psql holds the lock',
    })
    const worker = await pg.session('worker')
    for (const time of ['first', 'second']) {
      await t.rejects(
        worker.sql`select * from mooring.claim()`,
        { code: 'MR004', detail: `pid ${psql.pid} holds it`, hint: /pg_terminate_backend/ },
        `the ${time} time`,
      )
      t.same(
        (await placementLocks(pg)).map(({ pid, lock }) => [pid, lock]),
        [[psql.pid, 'placing']],
        'nothing of the one that gave up is left',
      )
    }
    t.match(
      (await worker.sql`select current_setting('lock_timeout') as patience`)[0],
      { patience: '0' },
      'its own settings are as before',
    )
    // a worker whose wait is cancelled leaves nothing behind either
    await pg.sql`update mooring.setting set placement_lock_timeout = '1 min'`
    const waiting = worker.start((sql) => sql`select * from mooring.claim()`)
    await waitsFor(t, pg, worker, psql)
    await pg.sql`select pg_cancel_backend(${worker.pid})`
    await t.rejects(waiting.done, { code: '57014' })
    t.same(
      (await placementLocks(pg)).map(({ pid, lock }) => [pid, lock]),
      [[psql.pid, 'placing']],
    )
    await pg.sql`select pg_cancel_backend(${psql.pid})`
    await t.rejects(napping.done, { code: '57014' })
    await psql.rollback()
    t.equal((await worker.sql`select * from mooring.claim()`).length, 3)
  },
)

t.test('a savepoint that is rolled back gives the lock and the patience back', async (t) => {
  const { pg, psql } = await aForgottenClaim(t)
  await psql.begin()
  await psql.sql`savepoint before`
  t.equal((await psql.sql`select * from mooring.claim()`).length, 3)
  await psql.sql`rollback to before`
  t.same(await placementLocks(pg), [])
  t.match(
    (await psql.sql`select current_setting('idle_in_transaction_session_timeout') as timeout`)[0],
    { timeout: '0' },
  )
  t.equal((await pg.sql`select * from mooring.claim()`).length, 3)
})

t.test('a shorter idle timeout that the session brought stays', async (t) => {
  const { psql } = await aForgottenClaim(t)
  await psql.sql`set idle_in_transaction_session_timeout = '40 s'`
  await psql.begin()
  await psql.sql`select mooring.claim()`
  t.match(
    (await psql.sql`select current_setting('idle_in_transaction_session_timeout') as timeout`)[0],
    { timeout: '40s' },
  )
})

t.test('a hold that begins while a claim waits is kept: it places nothing', async (t) => {
  const { pg, psql } = await aForgottenClaim(t)
  await psql.begin()
  await psql.sql`select mooring.claim(1)`
  const worker = await pg.session('worker')
  const waiting = worker.start((sql) => sql`select * from mooring.claim()`)
  await waitsFor(t, pg, worker, psql)
  await pg.sql`
    update mooring_internal.pulse
       set pulse_at = clock_timestamp(),
           hold_until = clock_timestamp() + interval '14 s',
           hold_reason = 'noticed by somebody else'`
  await psql.commit()
  t.equal((await waiting.done).length, 0)
  t.match((await pg.sql`select waiting from mooring.fleet`)[0], { waiting: 2 })
})

t.test(
  'negative control: behind a plain lock every session waits for the forgotten psql, which may sit',
  async (t) => {
    const { pg, psql } = await aForgottenClaim(t)
    await pg.sql.unsafe(`create or replace function mooring_internal.lock_placement(
      must_wait boolean default false) returns boolean language plpgsql as $$
    begin
      perform pg_advisory_xact_lock(
        mooring_internal.lock_space(), mooring_internal.lock_key('placing'));
      return true;
    end; $$`)
    await psql.begin()
    await psql.sql`select mooring.claim()`
    t.match(
      (await psql.sql`select current_setting('idle_in_transaction_session_timeout') as timeout`)[0],
      { timeout: '0' },
      'no end in sight',
    )
    const workers = await Promise.all(['first', 'second', 'third'].map((name) => pg.session(name)))
    const claims = workers.map((worker) =>
      worker.start((sql) => sql`select * from mooring.claim()`),
    )
    await waitFor(async () => (await placementLocks(pg)).length === 4, { label: 'all three wait' })
    t.same(
      claims.map((claim) => claim.over()),
      [false, false, false],
      'three workers, three slots gone',
    )
    await psql.commit()
    await Promise.all(claims.map((claim) => claim.done))
  },
)

t.test(
  'negative control: when every other claim returns, rows that came during a claim are forgotten',
  async (t) => {
    const { pg, psql } = await aForgottenClaim(t)
    await pg.sql.unsafe(`
        create or replace function mooring_internal.lock_placement(
          must_wait boolean default false
        ) returns boolean
          language sql
          return pg_try_advisory_xact_lock(
            mooring_internal.lock_space(), mooring_internal.lock_key('placing')
          )`)
    await psql.begin()
    await psql.sql`select mooring.claim()`
    const late = await deployment(pg.sql)
    t.equal((await pg.sql`select * from mooring.claim()`).length, 0, 'its claim returns')
    await psql.commit()
    t.match(await assignments(pg.sql, late), [{ node: null }], 'and no other session looks')
  },
)
