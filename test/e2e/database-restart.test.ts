import t, { type Test } from 'tap'
import { placements, running, sleeper } from '../agent/fleet.js'
import { ownServer } from '../helpers/own-server.js'
import { waitFor } from '../helpers/wait-for.js'
import { alive, eventsOf, hosts, live, PATIENCE_MS, processes, shortLeases } from './hosts.js'

async function fleetOnItsOwnServer(t: Test) {
  const server = await ownServer(t, { synchronous_commit: 'on' })
  const { sql } = server
  // a lease longer than any restart, on the slowest machine; a hold lasts as long
  await shortLeases(sql, '15 s')
  const { agent, worker } = hosts(t, server.url)
  const programs = [worker(), agent('host-a'), agent('host-b')]
  await live(sql, 'host-a', 'host-b')
  await sleeper(sql, { replicas: 6 })
  const before = await running(sql, 6, PATIENCE_MS)
  return {
    ...server,
    before,
    programs,
    /** Every agent has come back, and everything is as it was. */
    async unchanged(t: Test, restartedAt: string) {
      const back = () =>
        sql`
          select
            from mooring.node_status s
            join mooring.heartbeat h using (node)
           where h.beat_at > ${restartedAt}::timestamptz`
      await waitFor(async () => (await back()).length === 2, {
        label: 'both agents beat again',
        timeoutMs: PATIENCE_MS,
      })
      await waitFor(
        async () =>
          (
            await sql`
              select from mooring_internal.worker w where w.ticked_at > ${restartedAt}::timestamptz`
          ).length === 1,
        { label: 'the worker ticks again', timeoutMs: PATIENCE_MS },
      )
      const after = await running(sql, 6, PATIENCE_MS)
      t.strictSame(processes(after), processes(before), 'nothing moved, nothing was started again')
      t.ok(after.every((row) => alive(row.pid)))
      t.equal(await eventsOf(sql, 'reaped'), 0)
      t.notOk(
        programs.some((program) => program.ended()),
        'agents and worker have lived through it',
      )
      await sleeper(sql, { replicas: 2 })
      const all = await running(sql, 8, PATIENCE_MS)
      t.strictSame(processes(all.slice(0, 6)), processes(before), 'and what is inserted now runs')
    },
    now: async () => (await sql<{ now: string }[]>`select clock_timestamp()::text as now`)[0]!.now,
  }
}

t.test(
  'the database restarts under a fleet: all come back, nothing moves (defect 5: stolen rows)',
  async (t) => {
    const fleet = await fleetOnItsOwnServer(t)
    await fleet.restart()
    await fleet.restart()
    const restartedAt = await waitFor(fleet.now, {
      label: 'the database answers',
      timeoutMs: PATIENCE_MS,
    })
    await fleet.unchanged(t, restartedAt)
  },
)

t.test('a database that is killed: the same, after a hold of one lease', async (t) => {
  const fleet = await fleetOnItsOwnServer(t)
  await fleet.crash()
  const restartedAt = await waitFor(fleet.now, {
    label: 'the database answers',
    timeoutMs: PATIENCE_MS,
  })
  const [{ hold }] = await fleet.sql<[{ hold: string | null }]>`select f.hold from mooring.fleet f`
  t.equal(hold, 'the database crashed, was promoted or restored')
  await fleet.unchanged(t, restartedAt)
  t.equal(await eventsOf(fleet.sql, 'hold_started'), 1)
  t.same(
    (await placements(fleet.sql)).filter((row) => row.last_error),
    [],
  )
})
