/**
 * The agent's side of its warden: finds the warden of an earlier life or starts one, has it run
 * processes, extends their deadlines, and watches it. A warden that ends or stays silent for
 * silenceMs() is lost: it is killed with all it ran. See README.md, "Agent and warden".
 */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Logger } from 'pino'
import { killByRunId } from './leftovers.js'
import { bootClock } from '../../host/boot-clock.js'
import { runIdPrefix } from '../../state-folder/process-files.js'
import type { ContainmentLevel } from './containment.js'
import type { ProcessRunner, ManagedProcess } from './process-runner.js'
import { createRemoteProcess } from './remote-process.js'
import type { RemoteProcess } from './remote-process.js'
import { addressOf, PROTOCOL, receive, send } from './protocol.js'
import type { FromWarden, LeaseTerm } from './protocol.js'

export interface WardenClient extends ProcessRunner {
  readonly pid: number
  readonly containment: ContainmentLevel
  /** Prefix of the run ids of everything it starts. */
  readonly runIdPrefix: string
  /** What an earlier agent left in its care. The supervisor takes each over or ends it. */
  readonly inherited: readonly ManagedProcess[]
  /** Extends the deadlines of what may run. The answer is also a sign of life. */
  renew(terms: readonly LeaseTerm[]): void
  /**
   * Sends a ping twice a beat. The warden is lost when no answer came for
   * silenceMs(beatIntervalMs, leaseTtlMs), counted only while this process was running.
   */
  watch(beatIntervalMs: number, leaseTtlMs: number): void
  /** Aborts when the warden has ended or is silent. The reason is a sentence. */
  readonly lost: AbortSignal
  /**
   * The agent leaves. Processes run on until their deadline; the warden ends after the last one.
   * Idempotent.
   */
  close(): Promise<void>
}

export interface AttachOptions {
  /** The agent's own folder, `<state>/agents/<node>`. One agent uses it at a time. */
  folder: string
  /** The highest level to use. Default: the highest that works on this host. */
  containment?: ContainmentLevel
  log: Logger
  /** The script that node runs as the warden. */
  program?: string
}

/**
 * From connecting to the warden's hello. Waiting is safe: its processes end with their leases, and
 * this agent has registered and started nothing yet. A warden that misses the limit is killed with
 * all it runs. Where nothing listens the kernel refuses the connection at once.
 */
const HELLO_WITHIN_MS = 10_000
const STARTED_WITHIN_MS = 15_000
const CLOSED_WITHIN_MS = 2_000
const FIRST_CHECK_MS = 10
const SLOWEST_CHECK_MS = 50
/** Added to a beat: the time a loaded machine may need to answer. */
const ANSWER_WITHIN_MS = 400
const DEFAULT_BEAT_MS = 3_000
const DEFAULT_LEASE_MS = 12_000
/** A warden holds little data. Without limits Node would let its heap grow needlessly. */
const NODE_FLAGS = ['--max-old-space-size=64', '--max-semi-space-size=1', '--no-warnings']
const PROGRAM = fileURLToPath(new URL('./main.js', import.meta.url))

/**
 * How long a warden may owe an answer. It decides only how soon lost work restarts: the deadlines
 * and the dead-man timer keep the leases. It is at least 3.4 s (the default beat of 3 s + 400 ms),
 * or a third of the lease where that is shorter, because SIGTERM would be near then.
 */
export function silenceMs(beatIntervalMs: number, leaseTtlMs: number): number {
  return Math.max(
    beatIntervalMs + ANSWER_WITHIN_MS,
    Math.min(DEFAULT_BEAT_MS + ANSWER_WITHIN_MS, leaseTtlMs / 3),
  )
}

/**
 * The warden of an earlier life, or a new one. Nothing is ended here: what no warden cares for is
 * ended once the database has let the agent in, see leftovers.ts.
 */
export async function attachWarden(given: AttachOptions): Promise<WardenClient> {
  // absolute, because the warden has another working directory
  const options = { ...given, folder: resolve(given.folder) }
  const { folder, log } = options
  const prefix = runIdPrefix(folder)
  const found = await greet(folder)
  if (found !== null) {
    log.info(
      { event: 'warden_found', pid: found.hello.pid, running: found.hello.running.length },
      'the warden of an earlier life of this agent goes on',
    )
    return createClient(found, prefix, options)
  }
  return createClient(await startWarden(prefix, options), prefix, options)
}

/** `early`: messages that followed the hello before a client listened. */
interface Greeted {
  socket: Socket
  hello: Extract<FromWarden, { t: 'hello' }>
  early: FromWarden[]
  onMessage: { call(message: FromWarden): void }
}

/** Null when no warden answers with this version of the protocol. */
function greet(folder: string): Promise<Greeted | null> {
  return new Promise((done, fail) => {
    const { address, release } = addressOf(folder)
    const socket = connect(address)
    const onMessage = { call: (_: FromWarden): void => {} }
    const give = (greeted: Greeted | null): void => {
      clearTimeout(timer)
      if (greeted === null) socket.destroy()
      done(greeted)
    }
    const timer = setTimeout(give, HELLO_WITHIN_MS, null)
    onMessage.call = (message) => {
      // another agent is alive: this one must not end what runs there
      if (message.t === 'busy')
        return fail(
          new Error(`the warden in ${folder} is in the hands of another agent, pid ${message.pid}`),
        )
      if (message.t !== 'hello' || message.protocol !== PROTOCOL) return give(null)
      const early: FromWarden[] = []
      onMessage.call = (next) => void early.push(next)
      give({ socket, hello: message, early, onMessage })
    }
    socket.once('connect', () => {
      release()
      send(socket, { t: 'hello', protocol: PROTOCOL, pid: process.pid })
    })
    socket.on('error', release)
    socket.on('close', () => give(null))
    receive<FromWarden>(socket, (message) => onMessage.call(message))
  })
}

async function startWarden(
  prefix: string,
  { folder, containment = 'pid-namespace', program = PROGRAM }: AttachOptions,
): Promise<Greeted> {
  const id = randomUUID().slice(0, 8)
  const complaints = openSync(join(folder, 'warden.log'), 'a', 0o600)
  const child = spawn(process.execPath, [...NODE_FLAGS, program, folder, id, containment], {
    // its own session, so that Ctrl-C in the agent's terminal does not reach it
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', complaints],
    // no DATABASE_URL, because a warden does not use the database
    env: { PATH: process.env['PATH'] ?? '', MOORING_RUN: `${prefix}${id}.warden` },
  })
  closeSync(complaints)
  child.unref()
  let failure: string | null = null
  child.once('error', (error) => {
    failure = error.message
  })
  child.once('exit', (code, signal) => {
    failure = `it ended with ${signal ?? `code ${code}`}, see ${join(folder, 'warden.log')}`
  })
  const until = performance.now() + STARTED_WITHIN_MS
  for (
    let checkMs = FIRST_CHECK_MS;
    failure === null && performance.now() < until;
    checkMs = Math.min(checkMs * 1.5, SLOWEST_CHECK_MS)
  ) {
    await sleep(checkMs)
    const greeted = await greet(folder)
    if (greeted?.hello.id === id) return greeted
  }
  child.kill('SIGKILL')
  failure ??= `it did not answer within ${STARTED_WITHIN_MS / 1000} s`
  throw new Error(`the warden of this agent could not be started: ${failure}`)
}

function createClient(
  { socket, hello, early, onMessage }: Greeted,
  prefix: string,
  { log }: AttachOptions,
): WardenClient {
  const processes = new Map<string, RemoteProcess>()
  const lost = new AbortController()
  const ownPrefix = `${prefix}${hello.id}.`
  let closing = false
  let nr = 0
  /** When the oldest unanswered `lease` message was sent. */
  let askedAtMs: number | null = null
  let watching: NodeJS.Timeout | undefined

  const endProcess = (runId: string, graceMs: number): void =>
    send(socket, { t: 'end', runId, graceMs })
  const inherited = hello.running.map((running) => {
    const process = createRemoteProcess(running, endProcess)
    processes.set(running.runId, process)
    return process
  })

  function ask(terms: readonly LeaseTerm[]): void {
    askedAtMs ??= bootClock()
    send(socket, { t: 'lease', nr: ++nr, terms })
  }

  onMessage.call = (message) => {
    switch (message.t) {
      case 'hello':
      case 'busy':
        return
      case 'ack':
        askedAtMs = message.nr === nr ? null : bootClock()
        return
      case 'no_log':
        return log.warn(
          {
            event: 'log_unavailable',
            assignment_id: processes.get(message.runId)?.about.assignment_id,
            code: message.code,
          },
          'started without a log: its file cannot be opened',
        )
      case 'stuck':
        return log.error(
          {
            event: 'process_unkillable',
            assignment_id: processes.get(message.runId)?.about.assignment_id,
          },
          'a process does not end on SIGKILL; its assignment stays here until it does',
        )
      case 'unarmed':
        return log.error(
          { event: 'dead_man_missing', warden_pid: hello.pid },
          'no dead-man timer can be started: the warden alone ends what runs; it tries again. ' +
            'Look for a limit of processes or memory on this host',
        )
      case 'armed':
        return log.info({ event: 'dead_man_armed' }, 'the dead-man timer is armed again')
      case 'gone':
        processes.get(message.runId)?.receive(message)
        processes.delete(message.runId)
        return
      default:
        return processes.get(message.runId)?.receive(message)
    }
  }

  function loseWarden(reason: string): void {
    if (closing || lost.signal.aborted) return
    clearInterval(watching)
    log.error(
      { event: 'warden_lost', warden_pid: hello.pid, reason, processes: processes.size },
      'the warden is lost: ending everything it ran',
    )
    lost.abort(reason)
    socket.destroy()
    void killByRunId(ownPrefix, log).then(() => {
      for (const process of processes.values()) process.wardenLost()
      processes.clear()
    })
  }

  const silentForMs = (): number => (askedAtMs === null ? 0 : bootClock() - askedAtMs)

  function watch(beatIntervalMs: number, leaseTtlMs: number): void {
    clearInterval(watching)
    const limitMs = silenceMs(beatIntervalMs, leaseTtlMs)
    const everyMs = Math.max(20, beatIntervalMs / 2)
    let checkedAtMs = bootClock()
    let excused = false
    watching = setInterval(() => {
      // this process was stopped or not scheduled, so the warden may have been too: its time starts
      // again, but only once in a row
      excused = !excused && bootClock() - checkedAtMs > everyMs + ANSWER_WITHIN_MS
      checkedAtMs = bootClock()
      if (excused && askedAtMs !== null) askedAtMs = checkedAtMs
      // an answer may be waiting in the socket: it is read before the second check
      if (silentForMs() > limitMs)
        setImmediate(() => {
          if (silentForMs() > limitMs) loseWarden(`it has not answered for ${silentForMs()} ms`)
        })
      ask([])
    }, everyMs)
  }

  socket.removeAllListeners('close').once('close', () => loseWarden('it ended'))
  if (socket.destroyed) loseWarden('it ended')
  early.forEach(onMessage.call)
  watch(DEFAULT_BEAT_MS, DEFAULT_LEASE_MS)

  return {
    pid: hello.pid,
    containment: hello.containment,
    runIdPrefix: ownPrefix,
    inherited,
    start(spec) {
      const process = createRemoteProcess(
        {
          ...spec,
          pid: null,
          rootPid: null,
          startTicks: null,
          startedAtMs: bootClock(),
          exit: null,
          fenced: false,
        },
        endProcess,
      )
      processes.set(spec.runId, process)
      if (lost.signal.aborted) process.wardenLost()
      else send(socket, { t: 'start', spec })
      return process
    },
    renew(terms) {
      if (!lost.signal.aborted) ask(terms)
    },
    watch,
    lost: lost.signal,
    close() {
      clearInterval(watching)
      if (closing || socket.destroyed) return Promise.resolve()
      closing = true
      return new Promise((done) => {
        // a stopped warden does not close its end; it notices when it continues
        const late = setTimeout(() => socket.destroy(), CLOSED_WITHIN_MS)
        socket.once('close', () => {
          clearTimeout(late)
          done()
        })
        socket.end()
      })
    },
  }
}
