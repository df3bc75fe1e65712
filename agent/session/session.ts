/**
 * One life of a session, from the answer of register_node to its end.
 *
 *     registered ──► beating, listening, reading, running ──┬─ stop asked ──────────► everything stopped, reports told, left
 *                                                           ├─ MR001, warden lost ──► everything stopped; the agent registers anew
 *                                                           └─ handed over ─────────► reports told; what runs goes on for the next session
 *
 * A database that is away ends nothing: beats, reads and reports are each tried for ever, and what runs is stopped by its lease alone. What
 * ends a session is the database saying that it is over. Then nothing is repaired: all parts are thrown away and made anew.
 */
import type { Logger } from 'pino'
import { createAssignments } from './owned-assignments.js'
import type { AgentConfig } from '../config.js'
import type { AgentDb } from './verbs.js'
import type { UsageSample } from '../rows.js'
import { createHeartbeat } from './heartbeat.js'
import { inTime } from '../../host/deadline.js'
import { createLeases } from './lease.js'
import { createListener } from './notifications.js'
import { createLogRequests } from './log-requests.js'
import { firstAbort } from '../../host/waiting.js'
import type { Registered } from './register.js'
import { createReports } from './reports.js'
import { describeError } from '../../postgres/errors.js'
import type { Supervisor, SupervisorDependencies } from '../supervisor/supervisor.js'
import { createCleanup } from '../cleanup/cleanup.js'
import type { WardenClient } from '../warden/client.js'

export type SessionEnd = 'left' | 'over' | 'handed_over'

export interface Session {
  /**
   * Runs until it is told to stop ('left'), the database says that the session is over or the warden is lost ('over'): resolves when every process is
   * gone; or until it is told to hand over ('handed_over'): resolves when it has nothing more to do with what goes on running.
   */
  run(signals: { stop: AbortSignal; handOver: AbortSignal }): Promise<SessionEnd>
  /** SIGKILL to every tree, at once; nothing is said to the database. */
  kill(): void
}

export interface SessionOptions extends Registered {
  config: AgentConfig
  db: AgentDb
  warden: WardenClient
  /** The agent's own, `<state>/agents/<node>`. */
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
  const onOver = (error: unknown): void => {
    if (!over.signal.aborted)
      log.warn(
        { event: 'session_over', ...describeError(error) },
        'this session is over; stopping everything it runs',
      )
    over.abort()
  }
  const parts = { db, node, session, onOver, log }
  let killed = false
  let repeatedAt = db.connectionEpoch()

  const reports = createReports(parts)
  const supervisor = options.createSupervisor({
    report: reports.push,
    onFenced: (id) => leases.noteFenced(id),
  })
  const leases = createLeases({
    reapMarginMs: registration.reap_margin_ms,
    fence: supervisor.fence,
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
      assignments.beaten(beat)
      // a server that crashed or was promoted may have lost what it had taken
      if (beat.connectionEpoch !== repeatedAt) reports.repeat()
      repeatedAt = beat.connectionEpoch
    },
  })
  const tidying = createCleanup({
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
  const assignments = createAssignments({
    ...parts,
    leases,
    reconcile(owned, options) {
      supervisor.reconcile(owned, options)
      tidying.noteNeeded()
      tidying.start()
    },
    wantBeat: heartbeat.beatSoon,
  })
  const logRequests = createLogRequests({
    ...parts,
    folder: options.folder,
    whyGone: tidying.whyLogIsGone,
  })
  const listener = createListener({
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
    const tidied = tidying.stop()
    if (end === 'handed_over') await handOn()
    else {
      if (end === 'left' && !killed) beginLeave()
      // beats and leases go on until the last process is gone: a long grace does not outlive the right to run
      await supervisor.stopAll()
    }
    leases.stop()
    if (end === 'left' && !killed) await leave()
    // what is still in flight has nobody left to tell
    db.close()
    await Promise.all([
      listener.stop(),
      heartbeat.stop(),
      assignments.stop(),
      reports.stop(),
      logRequests.stop(),
      tidied,
    ])
    return end
  }

  /** What runs stays as it is, under the leases it has: the next session has until their end to come. */
  async function handOn(): Promise<void> {
    supervisor.letGo()
    await reports.flush(config.leaveTimeoutMs)
  }

  /** So that nothing is placed here while the stop takes its time. Not waited for: what is placed here all the same is given back by leave. */
  function beginLeave(): void {
    db.beginLeave(node, session).catch((error: unknown) => {
      log.debug(
        { event: 'begin_leave_failed', ...describeError(error) },
        'the database could not be told that this agent stops',
      )
    })
  }

  /** Tells the database, within leaveTimeoutMs. When that fails, the lease runs out and the others take over then: slower, not worse. */
  async function leave(): Promise<void> {
    const deadline = performance.now() + config.leaveTimeoutMs
    const left = (): number => Math.max(1, deadline - performance.now())
    try {
      if (!(await reports.flush(left())))
        throw new Error(`${reports.pending()} reports were not taken`)
      // a beat after leave would be an old session's
      await inTime(left(), heartbeat.stop(), tooLate)
      const freed = await inTime(left(), db.leave(node, session), tooLate)
      log.info({ event: 'node_left', freed }, 'everything is stopped and given back')
    } catch (error) {
      log.warn(
        { event: 'leave_failed', ...describeError(error) },
        'everything is stopped, but the database was not told: the others take over when the lease runs out',
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
