import t, { type Test } from 'tap'
import { createWorker } from '../../../workers/runner.js'
import { ownServer } from '../../helpers/own-server.js'
import { testDatabase } from '../../helpers/postgres.js'
import { tcpProxy } from '../../helpers/tcp-proxy.js'
import { waitFor } from '../../helpers/wait-for.js'
import { heardLog, placements, running, scaleDown, sleeper, testAgent } from '../fleet.js'

function testWorker(t: Test, databaseUrl: string) {
  const heard = heardLog()
  const worker = createWorker({ databaseUrl, log: heard.log })
  t.teardown(() => worker.stop())
  worker.start()
  return { worker, ...heard }
}

const sameProcesses = (rows: Awaited<ReturnType<typeof placements>>) =>
  rows.map((row) => [row.assignment_id, row.epoch, row.node, row.pid])

t.test(
  'a database that restarts within the lease moves nothing, and what is inserted afterwards runs',
  async (t) => {
    const server = await ownServer(t)
    await server.sql`update mooring.setting set beat_interval = '500 ms', lease_ttl = '30 s'`
    testWorker(t, server.url)
    const { agent, events } = testAgent(t, server.url)
    await agent.start()
    await sleeper(server.sql, { replicas: 3 })
    const before = await running(server.sql, 3)
    const beatAt = async () =>
      (
        await server.sql<{ at: string }[]>`select h.beat_at::text as at from mooring.heartbeat h`
      )[0]!.at
    for (let restarts = 0; restarts < 3; restarts += 1) {
      const before = await beatAt()
      await server.restart()
      await waitFor(async () => (await beatAt()) !== before, { label: 'the agent beats again' })
    }
    await sleeper(server.sql)
    const after = await running(server.sql, 4)
    t.strictSame(sameProcesses(after.slice(0, 3)), sameProcesses(before))
    t.equal(events('lease_ending').length, 0)
    t.equal(events('registered').length, 1, 'the session is the same')
    await agent.stop()
  },
)

t.test(
  'a database that crashes starts a hold: nothing moves, nothing new starts until it is over',
  async (t) => {
    const server = await ownServer(t)
    await server.sql`
      update mooring.setting
      set beat_interval = '500 ms', lease_ttl = '15 s', reap_margin = '500 ms'`
    testWorker(t, server.url)
    const { agent, events } = testAgent(t, server.url)
    await agent.start()
    await sleeper(server.sql, { replicas: 2 })
    const before = await running(server.sql, 2)
    await server.crash()
    const fleet = await waitFor(
      () => server.sql<{ hold: boolean }[]>`select hold from mooring.fleet`,
      { label: 'the database is back' },
    )
    t.ok(fleet[0]?.hold)
    await sleeper(server.sql)
    const after = await running(server.sql, 3)
    t.strictSame(
      sameProcesses(after.slice(0, 2)),
      sameProcesses(before),
      'and the agent told again what the crash had lost',
    )
    t.equal(
      (await server.sql`select 1 from mooring.last_events(200) e where e.kind = 'reaped'`).length,
      0,
    )
    t.equal(events('lease_ending').length, 0)
    await agent.stop()
  },
)

t.test('an agent and a worker survive a storm of cuts, resets and killed backends', async (t) => {
  const { url, sql } = await testDatabase(t)
  await scaleDown(sql)
  const proxy = await tcpProxy(t, url)
  const { worker } = testWorker(t, proxy.url)
  const { agent } = testAgent(t, proxy.url)
  await agent.start()
  await sleeper(sql, { replicas: 4 })
  await running(sql, 4)
  const faults = [
    () => proxy.cut(),
    () => proxy.restore(),
    () => proxy.reset(),
    () => proxy.restore(),
    () =>
      void sql`
          select pg_terminate_backend(a.pid) from pg_stat_activity a
          where a.datname = current_database() and a.application_name like 'mooring %'`.catch(
        () => {},
      ),
  ]
  for (let round = 0; round < 40; round += 1) {
    faults[round % faults.length]!()
    await sql`select pg_sleep(${(round * 37) % 150} / 1000.0)` // of different length each time
  }
  proxy.restore()
  await sleeper(sql)
  await running(sql, 5)
  await agent.stop()
  await worker.stop()
  t.same(
    (await placements(sql)).map((row) => row.node),
    [null, null, null, null, null],
  )
  t.equal(
    (
      await sql`
          select 1 from mooring_jobs.jobs j
          where j.locked_at is not null and j.locked_at < now() - interval '1 hour'`
    ).length,
    0,
  )
})
