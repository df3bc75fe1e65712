/**
 * One life of a session, from the answer of register_node to its end.
 *
 *   registered ─► beating, listening, reading, running ─┬─ stop ─► stopped, reported, left
 *                                                       ├─ MR001, warden lost ─► stopped
 *                                                       └─ handed over ─► reported
 *
 * After MR001 or the loss of the warden the agent registers again, with new parts: nothing is
 * repaired. An unreachable database ends no session. Beats, reads and reports are retried for ever,
 * and only its lease stops what runs.
 */
import type { Logger } from 'pino'
import { createOwnedAssignments } from './owned-assignments.js'
import type { AgentConfig } from '../config.js'
import type { AgentDb } from './verbs.js'
import type { UsageSample } from '../rows.js'
import { createHeartbeat } from './heartbeat.js'
import { raceDeadline } from '../../host/deadline.js'
import { createLeases } from './lease.js'
import { createNotificationListener } from './notifications.js'
import { createLogRequests } from './log-requests.js'
import { firstAbort } from '../../host/waiting.js'
import type { Registered } from './register.js'
import { createReports } from './reports.js'
import { describeError } from '../../postgres/errors.js'
import type { Supervisor, SupervisorDependencies } from '../supervisor/supervisor.js'
import { createCleanup } from '../cleanup/cleanup.js'
import type { WardenClient } from '../warden/client.js'

/** Over: another session holds the name, the node was forgotten, or the warden is lost. */
export type SessionEnd = 'left' | 'over' | 'handed_over'

export interface Session {
  /**
   * Runs until a signal aborts or the session is over.
   * 'left' and 'over': every process is gone. 'handed_over': the processes go on without it.
   */
  run(signals: { stop: AbortSignal; handOver: AbortSignal }): Promise<SessionEnd>
  /** SIGKILL to every tree, at once. Nothing is reported to the database. */
  kill(): void
}

export interface SessionOptions extends Registered {
  config: AgentConfig
  db: AgentDb
  warden: WardenClient
  /** The agent's folder, `<state>/agents/<node>`. */
  folder: string
  createSupervisor(events: Pick<SupervisorDependencies, 'report' | 'onFenced'>): Supervisor
  sample(pids: readonly number[]): UsageSample | Promise<UsageSample>
  log: Logger
}

export function createSession(options: SessionOptions): Session {
  const { config, db, session, registration, warden } = options
  const node = config.name
  const log = options.log.child({ session })
  const over = new AbortController()
  const onSessionOver = (error: unknown): void => {
    if (!over.signal.aborted)
      log.warn(
        { event: 'session_over', ...describeError(error) },
        'this session is over; stopping everything that it runs',
      )
    over.abort()
  }
  const parts = { db, node, session, onSessionOver, log }
  let killed = false
  let reportsSentAt = db.connectionEpoch()

  const reports = createReports(parts)
  const supervisor = options.createSupervisor({
    report: reports.push,
    onFenced: (id) => leases.noteFenced(id),
  })
  const leases = createLeases({
    reapMarginMs: registration.reap_margin_ms,
    fence: supervisor.fence,
    onOver: supervisor.forgetRan,
    renew: warden.renew,
    log,
  })
  const heartbeat = createHeartbeat({
    ...parts,
    leaseTtlMs: registration.lease_ttl_ms,
    beatIntervalMs: registration.beat_interval_ms,
    sample: () => options.sample(supervisor.pids()),
    running: supervisor.running,
    onBeat(beat) {
      assignments.noteBeat(beat)
      // a server that crashed or was promoted may have lost accepted reports
      if (beat.connectionEpoch !== reportsSentAt) reports.repeat()
      reportsSentAt = beat.connectionEpoch
    },
  })
  const cleanup = createCleanup({
    folder: options.folder,
    node,
    keep: {
      logsMs: config.keepLogsMs,
      packagesMs: config.keepPackagesMs,
      workMs: config.keepWorkMs,
    },
    needed() {
      const owned = assignments.owned()
      return owned && supervisor.needed(owned)
    },
    log,
  })
  const assignments = createOwnedAssignments({
    ...parts,
    leases,
    reconcile(owned, options) {
      supervisor.reconcile(owned, options)
      cleanup.noteNeeded()
      cleanup.start()
    },
    requestBeat: heartbeat.beatSoon,
  })
  const logRequests = createLogRequests({
    ...parts,
    folder: options.folder,
    whyGone: cleanup.whyLogIsGone,
  })
  const listener = createNotificationListener({
    databaseUrl: config.databaseUrl,
    applicationName: `mooring agent ${node}: listen`,
    channel: registration.channel,
    onHint: assignments.hint,
    onLogHint: logRequests.hint,
    log,
  })

  async function run({
    stop,
    handOver,
  }: {
    stop: AbortSignal
    handOver: AbortSignal
  }): Promise<SessionEnd> {
    warden.watch(registration.beat_interval_ms, registration.lease_ttl_ms)
    heartbeat.start()
    listener.start()
    await firstAbort(over.signal, warden.lost, stop, handOver)
    const end =
      over.signal.aborted || warden.lost.aborted ? 'over' : stop.aborted ? 'left' : 'handed_over'
    assignments.freeze()
    const cleanedUp = cleanup.stop()
    if (end === 'handed_over') await leaveRunning()
    else {
      if (end === 'left' && !killed) beginLeave()
      // beats and leases go on until the last process is gone, so a long grace keeps its lease
      await supervisor.stopAll()
    }
    await leases.stop()
    if (end === 'left' && !killed) await leave()
    // calls in flight have no reader any more
    db.close()
    await Promise.all([
      listener.stop(),
      heartbeat.stop(),
      assignments.stop(),
      reports.stop(),
      logRequests.stop(),
      cleanedUp,
    ])
    return end
  }

  /** The processes go on under their leases. The next session must come before those end. */
  async function leaveRunning(): Promise<void> {
    supervisor.detach()
    await reports.flush(config.leaveTimeoutMs)
  }

  /** Prevents new placements during a long stop. Not awaited: leave() releases any that come. */
  function beginLeave(): void {
    db.beginLeave(node, session).catch((error: unknown) => {
      log.debug(
        { event: 'begin_leave_failed', ...describeError(error) },
        'the database did not learn that this agent stops',
      )
    })
  }

  /**
   * Reports the end within leaveTimeoutMs. When that fails, other nodes take over at the end of the
   * lease: later, but as safely.
   */
  async function leave(): Promise<void> {
    const deadline = performance.now() + config.leaveTimeoutMs
    const remainingMs = (): number => Math.max(1, deadline - performance.now())
    try {
      if (!(await reports.flush(remainingMs())))
        throw new Error(`${reports.pending()} reports were not accepted`)
      // a beat after leave() would be refused as that of an old session
      await raceDeadline(remainingMs(), heartbeat.stop(), tooLate)
      const freed = await raceDeadline(remainingMs(), db.leave(node, session), tooLate)
      log.info({ event: 'node_left', freed }, 'everything is stopped and released')
    } catch (error) {
      log.warn(
        { event: 'leave_failed', ...describeError(error) },
        'everything is stopped, but the database does not know: others wait for the lease to end',
      )
    }
  }

  return {
    run,
    kill() {
      killed = true
      supervisor.killAll()
    },
  }
}

function tooLate(): never {
  throw new Error('the database did not answer in time')
}
