/** Every part of agent and worker that has a life, under the contract of host/lifecycle.ts. */
import { randomUUID } from 'node:crypto'
import { setTimeout as timeout } from 'node:timers/promises'
import t from 'tap'
import { createAgent } from '../../agent/agent.js'
import { parseAgentConfig } from '../../agent/config.js'
import type { AssignmentReport } from '../../agent/rows.js'
import { createHeartbeat } from '../../agent/session/heartbeat.js'
import { createLeases } from '../../agent/session/lease.js'
import { createLogRequests } from '../../agent/session/log-requests.js'
import { createNotificationListener } from '../../agent/session/notifications.js'
import { createOwnedAssignments } from '../../agent/session/owned-assignments.js'
import { createReports } from '../../agent/session/reports.js'
import { createAgentDb, type AgentDb } from '../../agent/session/verbs.js'
import { createLifecycle } from '../../host/lifecycle.js'
import { createOnDemand } from '../../host/on-demand.js'
import { sleep } from '../../host/waiting.js'
import { createMetronome } from '../../workers/metronome.js'
import { createWorker } from '../../workers/runner.js'
import { createWorkerDb } from '../../workers/verbs.js'
import { silent } from '../agent/rig.js'
import { deadPort } from '../helpers/dead-port.js'
import { testDatabase } from '../helpers/postgres.js'
import { tempDir, WARDEN_PROGRAM } from '../helpers/processes.js'
import { lifecycleOffences } from './lifecycle.js'

const never = (): void => {}
const session = randomUUID()
const node = { node: 'host-a', session, log: silent, onSessionOver: never }

/** No server answers here: every call fails at once. */
const unreachable = async (): Promise<string> =>
  `postgres://nobody:nothing@127.0.0.1:${await deadPort()}/nowhere`

const report: AssignmentReport = {
  assignment_id: '1',
  epoch: '1',
  generation: '1',
  state: 'running',
  pid: 1,
  restarts: 0,
  exit_code: null,
  exit_signal: null,
  error: null,
  next_start_in_ms: null,
}

/** A part with a connection of its own. As in a session, its connections are closed at its stop. */
function withAgentDb(
  databaseUrl: string,
  make: (db: AgentDb) => { start(): void; stop(): Promise<void> },
): { start(): void; stop(): Promise<void> } {
  const db = createAgentDb({ databaseUrl, node: 'host-a' })
  const part = make(db)
  return {
    start: part.start,
    async stop() {
      db.close()
      await part.stop()
    },
  }
}

t.test('one life and work on demand', async (t) => {
  const lifecycle = () =>
    createLifecycle(async (stop) => {
      while (!stop.aborted) await sleep(3, stop)
    })
  t.same(await lifecycleOffences(lifecycle), [])
  const onDemand = () => {
    const work = createOnDemand((stop) => sleep(3, stop))
    return { start: work.request, stop: work.stop }
  }
  t.same(await lifecycleOffences(onDemand), [])
})

t.test('work on demand runs alone, and once more for all requests during a run', async (t) => {
  let runs = 0
  let parallel = 0
  const work = createOnDemand(async () => {
    parallel += 1
    t.equal(parallel, 1)
    runs += 1
    await timeout(1)
    parallel -= 1
  })
  work.request()
  t.equal(runs, 1, 'at once')
  for (let more = 0; more < 5; more += 1) work.request()
  await work.idle()
  t.equal(runs, 2)
  await work.stop()
  work.request()
  await work.idle()
  t.equal(runs, 2)
})

t.test('the parts of a session', async (t) => {
  const { url } = await testDatabase(t)
  for (const databaseUrl of [url, await unreachable()]) {
    const heartbeat = () =>
      withAgentDb(databaseUrl, (db) =>
        createHeartbeat({
          ...node,
          db,
          leaseTtlMs: 12_000,
          beatIntervalMs: 5,
          sample: () => ({
            cpu_pct: null,
            memory_mb: null,
            disk_free_pct: null,
            disk_free_bytes: null,
          }),
          running: () => 0,
          onBeat: never,
        }),
      )
    t.same(await lifecycleOffences(heartbeat), [], 'heartbeat')

    const assignments = () =>
      withAgentDb(databaseUrl, (db) => {
        const part = createOwnedAssignments({
          ...node,
          db,
          leases: { confirm: () => false, isLive: () => true },
          reconcile: never,
          requestBeat: never,
        })
        return { start: part.hint, stop: part.stop }
      })
    t.same(await lifecycleOffences(assignments), [], 'owned assignments')

    const reports = () =>
      withAgentDb(databaseUrl, (db) => {
        const part = createReports({ ...node, db })
        return { start: () => part.push(report), stop: part.stop }
      })
    t.same(await lifecycleOffences(reports), [], 'reports')

    const logRequests = () =>
      withAgentDb(databaseUrl, (db) => {
        const part = createLogRequests({ ...node, db, folder: '/nowhere', whyGone: () => null })
        return { start: part.hint, stop: part.stop }
      })
    t.same(await lifecycleOffences(logRequests), [], 'log requests')

    const listener = () =>
      createNotificationListener({
        databaseUrl,
        applicationName: 'test: listen',
        channel: 'mooring_test',
        onHint: never,
        onLogHint: never,
        log: silent,
      })
    t.same(await lifecycleOffences(listener), [], 'notifications')
  }
  const leases = () => {
    const part = createLeases({
      reapMarginMs: 10,
      fence: () => 0,
      onOver: never,
      renew: never,
      log: silent,
    })
    const row = {
      assignment_id: '1',
      epoch: '1',
      type: 'deployment',
      on_lost: 'stop',
      lease_ttl_ms: 12_000,
      stop_grace_ms: 0,
    } as const
    return { start: () => part.confirm([row], 1e12), stop: part.stop }
  }
  t.same(await lifecycleOffences(leases), [], 'leases')
})

t.test('the metronome and the worker', async (t) => {
  const { url } = await testDatabase(t)
  for (const databaseUrl of [url, await unreachable()]) {
    const metronome = () => {
      const db = createWorkerDb({ databaseUrl })
      const { start, stop } = createMetronome({
        db,
        worker: 'test',
        poolIds: [],
        onSilence: never,
        log: silent,
      })
      return {
        start,
        async stop() {
          db.close()
          await stop()
        },
      }
    }
    t.same(await lifecycleOffences(metronome), [], 'metronome')
    const worker = () => createWorker({ databaseUrl, log: silent })
    t.same(
      await lifecycleOffences(worker, { rounds: 12, longestWaitMs: 200, stopWithinMs: 30_000 }),
      [],
      'worker',
    )
  }
})

t.test('the agent, with a warden of its own', async (t) => {
  const { url } = await testDatabase(t)
  for (const databaseUrl of [url, await unreachable()]) {
    const stateDir = tempDir(t)
    const agent = () =>
      createAgent(
        parseAgentConfig({
          name: 'host-a',
          databaseUrl,
          stateDir,
          leaveTimeoutMs: 100,
          workloadUser: process.getuid?.() === 0 ? 'root' : null,
        }),
        {
          log: silent,
          wardenProgram: WARDEN_PROGRAM,
        },
      )
    t.same(
      await lifecycleOffences(agent, { rounds: 3, longestWaitMs: 400, stopWithinMs: 60_000 }),
      [],
    )
  }
})

t.test('the stress test itself finds each way to break the contract', async (t) => {
  const timers: NodeJS.Timeout[] = []
  const leaky = () => ({
    start: () => void timers.push(setTimeout(never, 60_000)),
    stop: () => Promise.resolve(),
  })
  t.match(await lifecycleOffences(leaky), [/left behind: \d+ Timeout/])
  for (const timer of timers) clearTimeout(timer)

  const stuck = () => ({ start: never, stop: () => new Promise<void>(never) })
  t.match((await lifecycleOffences(stuck, { stopWithinMs: 10 }))[0], /did not resolve/)

  const rejecting = () => ({ start: never, stop: () => Promise.reject(new Error('no')) })
  t.match((await lifecycleOffences(rejecting))[0], /rejected: Error: no/)
})
