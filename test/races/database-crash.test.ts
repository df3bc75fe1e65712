/**
 * The database goes down hard and comes back after some time. No agent could beat meanwhile, so
 * every lease in the table has ended. The first reap after the restart would free all work of all
 * live hosts. That is a reap storm, and a double run wherever an agent has not yet noticed.
 *
 * An unlogged table is emptied by crash recovery and by nothing else. While it is empty there was
 * an outage: for one lease and margin nothing is reaped, claimed or started. The stories run on a
 * server of their own, because they kill it.
 */
import t from 'tap'
import { age, assignments, beat, deployments, node } from '../helpers/factories.js'
import { waitFor } from '../helpers/wait-for.js'
import { aFleetOn, CRASHED, hold } from './own-server.js'
import { stage } from './stage.js'

t.test(
  'after a kill -9 of the server nothing is reaped, claimed or started for one lease and margin',
  async (t) => {
    const { server, sql: before } = await aFleetOn(t)
    const hostA = await node(before, { name: 'host-a' })
    await deployments(before, 3)
    await before`set synchronous_commit = off`
    t.equal((await before`select * from mooring.claim()`).length, 3)
    await before`select mooring.tick('worker')`
    await age(before, 'host-a', '11 minutes ago')
    await before`set synchronous_commit = on`
    await deployments(before, 1)
    await server.killPostmaster()

    const { sql } = await server.open()
    t.equal(
      (await assignments(sql)).filter((row) => row.node === 'host-a').length,
      3,
      'what was claimed has survived, whatever the session preferred',
    )
    t.equal((await hold(sql)).hold, CRASHED, 'reported before any session has noticed it')
    const others = await Promise.all(
      ['first', 'second', 'third', 'fourth'].map((name) => server.open(name)),
    )
    const answers = await Promise.all(
      others.map(({ sql }, nr) =>
        nr % 2 === 0 ? sql`select * from mooring.reap()` : sql`select * from mooring.claim()`,
      ),
    )
    t.same(
      answers.map((rows) => rows.length),
      [0, 0, 0, 0],
      'nothing is reaped, nothing claimed',
    )
    t.match(
      await beat(sql, hostA),
      { owned: 3, hold: true },
      'agents hear of it with their first beat',
    )
    const first = await hold(sql)
    t.ok(first.ends_in! > 590 && first.ends_in! <= 603, `it ends ${first.ends_in} s from now`)
    await sql`select mooring.tick('worker')`
    await sql`select mooring.tick('agent host-a', inline => true)`
    t.ok((await hold(sql)).ends_in! < first.ends_in!, 'and is not set again')
    t.equal(
      (await sql`select from mooring.event where kind = 'hold_started'`).length,
      1,
      'it was noticed once',
    )

    // eleven minutes later: host-a is dead after all
    await sql`
      update mooring_internal.pulse
         set hold_until = clock_timestamp(), pulse_at = clock_timestamp()`
    await age(sql, 'host-a', '11 minutes ago')
    t.equal((await hold(sql)).hold, null)
    t.equal((await sql`select * from mooring.reap()`).length, 3)
    await node(sql, { name: 'host-b' })
    t.equal((await sql`select * from mooring.claim()`).length, 4)
    t.equal((await sql`select from mooring.event where kind = 'hold_started'`).length, 1)
  },
)

t.test(
  'the same when one backend is killed: the server restarts itself, and no start time shows it',
  async (t) => {
    const { server, sql: before } = await aFleetOn(t)
    await node(before, { name: 'host-a' })
    await deployments(before, 3)
    await before`select * from mooring.claim()`
    await before`select mooring.tick('worker')`
    await age(before, 'host-a', '11 minutes ago')
    const [started] = await before`select pg_postmaster_start_time()::text as at`
    const victim = await server.open('victim')
    process.kill(victim.pid, 'SIGKILL')
    const sql = await waitFor(async () => (await server.open()).sql, {
      label: 'the server is back',
      timeoutMs: 30_000,
    })
    t.same([...(await sql`select pg_postmaster_start_time()::text as at`)], [started])
    t.equal((await sql`select * from mooring.reap()`).length, 0)
    t.equal((await hold(sql)).hold, CRASHED)
  },
)

t.test('a clean restart shorter than the lease changes nothing', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  const hostA = await node(before, { name: 'host-a' })
  await deployments(before, 3)
  await before`select * from mooring.claim()`
  await before`select mooring.tick('worker')`
  await server.stopFast()
  const { sql } = await server.open()
  t.equal((await hold(sql)).hold, null)
  t.equal((await sql`select * from mooring.reap()`).length, 0)
  t.match(await beat(sql, hostA), { owned: 3, hold: false })
  await deployments(sql, 1)
  t.equal((await sql`select * from mooring.claim()`).length, 1, 'work goes on at once')
  t.equal((await sql`select from mooring.event where kind = 'hold_started'`).length, 0)
})

t.test('a clean restart after a time longer than the lease: the old pulse shows it', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  await node(before, { name: 'host-a' })
  await deployments(before, 3)
  await before`select * from mooring.claim()`
  await before`select mooring.tick('worker')`
  // the server was down for twenty minutes
  await before`update mooring_internal.pulse set pulse_at = pulse_at - interval '20 min'`
  await age(before, 'host-a', '20 minutes ago')
  await server.stopFast()
  const { sql } = await server.open()
  t.equal((await sql`select * from mooring.reap()`).length, 0)
  t.match((await hold(sql)).hold, /^no worker or agent ticked for 00:20:/)
})

t.test(
  'out of a dump, or copied, the database holds: it knows nothing of what has happened since',
  async (t) => {
    const { server, sql: before } = await aFleetOn(t)
    await node(before, { name: 'host-a' })
    await deployments(before, 3)
    await before`select * from mooring.claim(2)`
    await before`select mooring.tick('worker')`
    await age(before, 'host-a', '11 minutes ago')
    const { sql } = await server.restored()
    t.equal((await hold(sql)).hold, CRASHED)
    t.equal((await sql`select * from mooring.reap()`).length, 0)
    t.equal((await sql`select * from mooring.claim()`).length, 0)
    t.equal((await sql`select from mooring.event where kind = 'hold_started'`).length, 1)
  },
)

t.test('a crash with no agent anywhere holds nothing: nothing can be running', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  const hostA = await node(before, { name: 'host-a' })
  await before`select mooring.tick('worker')`
  await before`select mooring.leave('host-a', ${hostA.session})`
  await deployments(before, 3)
  await server.killPostmaster()
  const { sql } = await server.open()
  await node(sql, { name: 'host-a' })
  t.equal(
    (await sql`select * from mooring.claim()`).length,
    3,
    'the first agent that comes gets work at once',
  )
  t.equal((await hold(sql)).hold, null)
})

t.test(
  'negative control: with a marker that survives the crash, the first reap frees everything',
  async (t) => {
    const { server, sql: before } = await aFleetOn(t)
    await before`alter table mooring_internal.outage_marker set logged`
    await node(before, { name: 'host-a' })
    await deployments(before, 3)
    await before`select * from mooring.claim()`
    await before`select mooring.tick('worker')`
    await age(before, 'host-a', '11 minutes ago')
    await server.killPostmaster()
    const { sql } = await server.open()
    t.equal((await sql`select * from mooring.reap()`).length, 3)
  },
)

// what needs no crash runs on the server that all tests share

t.test(
  'a gap in the pulse begins one hold for any number of observers, and none waits for its writer',
  async (t) => {
    const pg = await stage(t)
    const hostA = await node(pg.sql, { name: 'host-a' })
    await deployments(pg.sql, 2)
    await pg.sql`select * from mooring.claim(1)`
    await pg.sql`select mooring.tick('worker')`
    await pg.sql`update mooring_internal.pulse set pulse_at = clock_timestamp() - interval '7 s'`
    const [slow, other] = [await pg.session('slow'), await pg.session('other')]
    await other.sql`select set_config('lock_timeout', '10 s', false)`
    await slow.begin()
    t.equal((await slow.sql`select * from mooring.reap()`).length, 0, 'noticed, not yet committed')
    t.equal((await other.sql`select * from mooring.reap()`).length, 0)
    t.equal((await other.sql`select * from mooring.claim()`).length, 0)
    t.match(
      await beat(other.sql, hostA),
      { hold: true },
      'all others hold as well, without waiting',
    )
    await slow.commit()
    const crowd = await Promise.all(
      Array.from({ length: 8 }, (_, nr) => pg.session(`one of many ${nr}`)),
    )
    await Promise.all(
      crowd.map(({ sql, name }) => sql`select mooring.tick(${name}, inline => true)`),
    )
    t.equal((await pg.sql`select from mooring.event where kind = 'hold_started'`).length, 1)
    // healthy gaps, shorter than half a lease, neither renew it nor begin another
    const [began] = await pg.sql`select hold_until from mooring_internal.pulse`
    for (const gap of ['1 s', '4 s', '3 s'])
      await pg.sql.unsafe(
        `
          update mooring_internal.pulse set pulse_at = clock_timestamp() - interval '${gap}';
          select mooring.tick('worker')`,
      )
    t.same([...(await pg.sql`select hold_until from mooring_internal.pulse`)], [began])
    await pg.sql`
      update mooring_internal.pulse
         set hold_until = clock_timestamp() - interval '1 s',
             pulse_at = clock_timestamp() - interval '1 s'`
    t.equal((await pg.sql`select * from mooring.claim()`).length, 1, 'and it ends by itself')
    t.equal((await pg.sql`select from mooring.event where kind = 'hold_started'`).length, 1)
  },
)

t.test(
  'a quiet database without an agent: the first agent is not held, and no transaction waits',
  async (t) => {
    const pg = await stage(t)
    await pg.sql`select mooring.tick('worker')`
    await pg.sql`update mooring_internal.pulse set pulse_at = clock_timestamp() - interval '1 day'`
    const [psql, agent] = [await pg.session('psql'), await pg.session('agent')]
    await agent.sql`select set_config('lock_timeout', '10 s', false)`
    await psql.begin()
    await psql.sql`select * from mooring.reap()`
    await node(agent.sql, { name: 'host-a' })
    await psql.commit()
    await deployments(pg.sql, 1)
    t.equal((await pg.sql`select * from mooring.claim()`).length, 1)
  },
)
