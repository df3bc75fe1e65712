/**
 * The agent's side of its warden: finds the one an earlier life left, or starts one; asks it to run things; moves their deadlines on; and watches it.
 *
 * Warden and agent watch each other. A warden that ends, or does not answer for a beat and 400 ms or a third of a lease (silenceMs), is `lost`: it is killed, and
 * with it everything it ran, by the kernel where the level of containment has it so and by the mark of its processes in any case. What was lost is told as killed
 * when it is gone, not before, so nothing is started or given back too early. A lost warden is not used again.
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
import { killLeftovers, killMarked } from './leftovers.js'
import { bootClock } from '../../host/boot-clock.js'
import { markPrefix } from '../../state-folder/process-files.js'
import type { ContainmentLevel } from './containment.js'
import type { Host, HostedProcess } from './host.js'
import { createRemoteProcess } from './remote-process.js'
import type { RemoteProcess } from './remote-process.js'
import { addressOf, PROTOCOL, receive, send } from './protocol.js'
import type { FromWarden, LeaseTerm } from './protocol.js'

export interface WardenClient extends Host {
  readonly pid: number
  readonly containment: ContainmentLevel
  /** What is started through it carries a mark that begins so. */
  readonly markPrefix: string
  /** What an earlier agent left in its care; to be taken over, or ended, by whoever supervises. */
  readonly inherited: readonly HostedProcess[]
  /** Deadlines of what may run; doubles as a sign of life. */
  renew(terms: readonly LeaseTerm[]): void
  /** It is asked for a sign of life twice a beat, and is lost when it owes one for silenceMs(beatIntervalMs, leaseTtlMs) in which we were there to hear it. */
  watch(beatIntervalMs: number, leaseTtlMs: number): void
  /** Aborts when the warden is gone or silent; the reason is a sentence. What it ran is being killed then. */
  readonly lost: AbortSignal
  /** The agent goes. The warden ends when nothing runs; what runs goes on until its deadline. Idempotent. */
  close(): Promise<void>
}

export interface AttachOptions {
  /** The agent's own, `<state>/agents/<node>`: one agent at a time. */
  folder: string
  /** At most this much containment; the best this host has, when not given. */
  containment?: ContainmentLevel
  log: Logger
  /** What node runs as the warden. */
  program?: string
}

/**
 * From the connection to the answer; where nobody listens it is refused at once. One that is late has not lost its work: the lease bounds that, kept by itself or the
 * dead-man timer, and the agent that waits here has registered nothing and started nothing. One that is taken for dead is killed with all of it.
 */
const HELLO_WITHIN_MS = 10_000
const STARTED_WITHIN_MS = 15_000
const CLOSED_WITHIN_MS = 2_000
const FIRST_LOOK_MS = 10
const SLOWEST_LOOK_MS = 50
/** On top of a beat: what a loaded machine may need to answer. */
const ANSWER_WITHIN_MS = 400
const DEFAULT_BEAT_MS = 3_000
const DEFAULT_LEASE_MS = 12_000
/** A warden holds little: without a limit, Node would let its heap grow for nothing. */
const NODE_FLAGS = ['--max-old-space-size=64', '--max-semi-space-size=1', '--no-warnings']
const PROGRAM = fileURLToPath(new URL('./main.js', import.meta.url))

/**
 * How long a warden may owe an answer. Nothing hangs on it but how soon its work is begun anew: that nothing outlives its lease is the deadlines' part, which the
 * dead-man timer keeps when the warden does not. So a fleet of short beats grants its wardens what the default does (3.4 s: a beat each 3 s, a lease of 12), unless
 * that is more than a third of its lease: by then SIGTERM would be near.
 */
export function silenceMs(beatIntervalMs: number, leaseTtlMs: number): number {
  return Math.max(
    beatIntervalMs + ANSWER_WITHIN_MS,
    Math.min(DEFAULT_BEAT_MS + ANSWER_WITHIN_MS, leaseTtlMs / 3),
  )
}

/** When it returns, everything in this folder that another life of the agent left is in the care of the warden it returns, or dead. */
export async function attachWarden(given: AttachOptions): Promise<WardenClient> {
  // the warden is at home in another one
  const options = { ...given, folder: resolve(given.folder) }
  const { folder, log } = options
  const prefix = markPrefix(folder)
  const found = await greet(folder)
  if (found !== null) {
    log.info(
      { event: 'warden_found', pid: found.hello.pid, running: found.hello.running.length },
      'the warden of an earlier life of this agent goes on',
    )
    const client = createClient(found, prefix, options)
    await killLeftovers(folder, log, { keep: client.markPrefix })
    return client
  }
  await killLeftovers(folder, log)
  return createClient(await startWarden(prefix, options), prefix, options)
}

/** `early`: what it said right after its hello, before anybody listened. */
interface Greeted {
  socket: Socket
  hello: Extract<FromWarden, { t: 'hello' }>
  early: FromWarden[]
  onMessage: { call(message: FromWarden): void }
}

/** Null: there is none, or none that answers and speaks our language. */
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
      // its agent lives, and this one should not be here: what runs there is not ours to end
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
    // a session of its own: Ctrl-C in the agent's terminal is not for it. No DATABASE_URL: it has no business with it
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', complaints],
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
    let lookMs = FIRST_LOOK_MS;
    failure === null && performance.now() < until;
    lookMs = Math.min(lookMs * 1.5, SLOWEST_LOOK_MS)
  ) {
    await sleep(lookMs)
    const greeted = await greet(folder)
    if (greeted?.hello.id === id) return greeted
  }
  child.kill('SIGKILL')
  throw new Error(
    `the warden of this agent could not be started: ${failure ?? `it did not answer within ${STARTED_WITHIN_MS / 1000} s`}`,
  )
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
  /** Of the oldest question that is not answered yet. */
  let askedAtMs: number | null = null
  let watching: NodeJS.Timeout | undefined

  const endProcess = (mark: string, graceMs: number): void =>
    send(socket, { t: 'end', mark, graceMs })
  const inherited = hello.running.map((running) => {
    const process = createRemoteProcess(running, endProcess)
    processes.set(running.mark, process)
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
            assignment_id: processes.get(message.mark)?.about.assignment_id,
            code: message.code,
          },
          'started without a log: its file cannot be opened',
        )
      case 'stuck':
        return log.error(
          {
            event: 'process_unkillable',
            assignment_id: processes.get(message.mark)?.about.assignment_id,
          },
          'a process does not end on SIGKILL; its assignment stays here until it does',
        )
      case 'gone':
        processes.get(message.mark)?.tell(message)
        processes.delete(message.mark)
        return
      default:
        return processes.get(message.mark)?.tell(message)
    }
  }

  function lose(reason: string): void {
    if (closing || lost.signal.aborted) return
    clearInterval(watching)
    log.error(
      { event: 'warden_lost', warden_pid: hello.pid, reason, processes: processes.size },
      'the warden is lost: ending everything it ran',
    )
    lost.abort(reason)
    socket.destroy()
    void killMarked(ownPrefix, log).then(() => {
      for (const process of processes.values()) process.lose()
      processes.clear()
    })
  }

  const silentForMs = (): number => (askedAtMs === null ? 0 : bootClock() - askedAtMs)

  function watch(beatIntervalMs: number, leaseTtlMs: number): void {
    clearInterval(watching)
    const limitMs = silenceMs(beatIntervalMs, leaseTtlMs)
    const everyMs = Math.max(20, beatIntervalMs / 2)
    let lookedAtMs = bootClock()
    let excused = false
    watching = setInterval(() => {
      // where we were stopped or not scheduled it was hardly better off: once, its time begins anew
      excused = !excused && bootClock() - lookedAtMs > everyMs + ANSWER_WITHIN_MS
      lookedAtMs = bootClock()
      if (excused && askedAtMs !== null) askedAtMs = lookedAtMs
      // the answer may wait for us, where we were busy: it gets its turn before it is missed
      if (silentForMs() > limitMs)
        setImmediate(() => {
          if (silentForMs() > limitMs) lose(`it has not answered for ${silentForMs()} ms`)
        })
      ask([])
    }, everyMs)
  }

  socket.removeAllListeners('close').once('close', () => lose('it ended'))
  if (socket.destroyed) lose('it ended')
  early.forEach(onMessage.call)
  watch(DEFAULT_BEAT_MS, DEFAULT_LEASE_MS)

  return {
    pid: hello.pid,
    containment: hello.containment,
    markPrefix: ownPrefix,
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
      processes.set(spec.mark, process)
      if (lost.signal.aborted) process.lose()
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
        // one that is stopped takes no leave; it finds us gone when it goes on
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
