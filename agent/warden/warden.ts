/**
 * The warden: runs what its agent asks for, and sees to it that nothing outlives its lease, whatever becomes of the agent.
 *
 *     agent    beat ──► confirmed ──► terms ─┐                      killed, stopped, blocked, cut off: no more terms
 *     warden                                 ▼ moved on ............ term: SIGTERM ── grace ── end: SIGKILL
 *     dead-man                               ▼ started anew ............................... end + 50 ms: SIGKILL, if the warden is gone too
 *
 * - A deadline is a moment of the boot clock, per assignment and epoch, as lease.ts reckons it. It comes before the process: what has none, or is past its
 *   term, is not started. It is only ever moved on. A process of another epoch than the terms speak of keeps its own.
 * - Daemons and on_lost='keep' are told to have no deadline, and run until somebody ends them.
 * - What ends by itself is followed by the rest of its tree. Nothing is started again here: that is for the agent to decide.
 * - When the agent goes, everything goes on until its deadline, for the next agent, which is told all of it. With no agent and nothing left to run the
 *   warden ends. An agent that finds its warden gone or silent kills what it ran (client.ts); so each of the two watches the other.
 */
import { bootClock, LONGEST_SLEEP_MS } from '../../host/boot-clock.js'
import type { BootClock } from '../../host/boot-clock.js'
import type { ContainmentLevel } from './containment.js'
import type { DeadMan, Doomed } from './dead-man.js'
import type { Exit, StartedProcess, StartSpec } from './host.js'
import type { LocalHost, LocalProcess } from './local-host.js'
import { PROTOCOL } from './protocol.js'
import type { FromWarden, LeaseTerm, RunningProcess, ToWarden } from './protocol.js'

export interface Warden {
  /** An agent is there; `say` reaches it. It is told what runs. */
  attach(say: (message: FromWarden) => void): void
  /** The agent is gone. */
  detach(): void
  receive(message: ToWarden): void
  /** How many processes it looks after. */
  running(): number
}

export interface WardenOptions {
  id: string
  containment: ContainmentLevel
  host: LocalHost
  deadMan: DeadMan
  /** Nothing is left of the last of its processes. */
  onEmpty(): void
  clock?: BootClock
}

/**
 * A renewal and the starts that follow it are one change, and none of them waits for the fork of a timer. What was armed before goes on meanwhile: it kills 50 ms after
 * a deadline, so a deadline that is moved on at the last moment is moved in time. What was just started is in no timer yet, and would outlive its lease if agent and warden
 * were both stopped now: it is armed as soon as it is told to run, but in a burst no more often than this.
 */
const ARM_WITHIN_MS = 20
/** Where this host has no room for another process: long before the lease that was armed last is over. */
const ARM_AGAIN_MS = 200

/** Null: has no deadline. */
type Term = { termAtMs: number; endAtMs: number } | null
interface Entry {
  process: LocalProcess
  term: Term
  started: StartedProcess | null
  exit: Exit | null
  gone: boolean
  fenced: boolean
  armed: boolean
}

export function createWarden(options: WardenOptions): Warden {
  const { host, deadMan, clock = bootClock } = options
  const entries = new Map<string, Entry>()
  /** By assignment: what its next process may run until. */
  const terms = new Map<string, { epoch: string; term: Term }>()
  let say: (message: FromWarden) => void = () => {}
  let attached = false
  /** One start a turn: a thousand at once must not keep the agent waiting for a sign of life. */
  const waiting: StartSpec[] = []
  let turn: NodeJS.Immediate | null = null
  let timer: NodeJS.Timeout | undefined
  let arming: NodeJS.Timeout | undefined
  let armedAtMs = -Infinity

  function startNext(): void {
    if (turn !== null) return
    const spec = waiting.shift()
    if (spec === undefined) return
    try {
      start(spec)
    } catch (error) {
      // what one row asks for must not end everything else that runs here
      notStarted(
        spec.mark,
        `the warden failed (${(error as NodeJS.ErrnoException).code ?? (error as Error).name})`,
      )
    }
    turn = setImmediate(() => {
      turn = null
      startNext()
    })
  }

  /** Said in the same turn: it was called off before it was started. */
  function callOff(mark: string): boolean {
    const at = waiting.findIndex((spec) => spec.mark === mark)
    if (at < 0) return false
    waiting.splice(at, 1)
    notStarted(mark, 'it was called off')
    return true
  }

  function notStarted(mark: string, why: string): void {
    say({ t: 'exit', mark, exit: { code: null, signal: null, error: `cannot start: ${why}` } })
    say({ t: 'gone', mark })
  }

  function start(spec: StartSpec): void {
    const { mark, about } = spec
    const known = terms.get(about.assignment_id)
    const term = known?.epoch === about.epoch ? known.term : null
    if (
      (about.leased && known?.epoch !== about.epoch) ||
      (term !== null && clock() >= term.termAtMs)
    ) {
      return notStarted(mark, 'the lease it would run under is over')
    }
    const process = host.start(spec)
    const entry: Entry = {
      process,
      term,
      started: null,
      exit: null,
      gone: false,
      fenced: false,
      armed: false,
    }
    entries.set(mark, entry)
    void process.started.then((started) => {
      entry.started = started
      if (!started) return
      say({
        t: 'started',
        mark,
        pid: started.pid,
        rootPid: process.rootPid(),
        startTicks: started.startTicks,
      })
      if (entry.term !== null && !entry.armed) setImmediate(armSoon)
    })
    void process.exit.then((exit) => {
      entry.exit = exit
      say({ t: 'exit', mark, exit })
    })
    // of what was killed the end of the tree may be seen before that of its root: who hears that it is gone has heard how it ended
    void Promise.all([process.exit, process.gone]).then(() => {
      entry.gone = true
      if (attached) say({ t: 'gone', mark })
      tidy()
    })
    look()
  }

  function renew(renewed: readonly LeaseTerm[]): void {
    for (const [id, epoch, termAtMs, endAtMs] of renewed) {
      const before = terms.get(id)
      terms.set(id, {
        epoch,
        term: later(
          before?.epoch === epoch ? before.term : undefined,
          termAtMs === null || endAtMs === null ? null : { termAtMs, endAtMs },
        ),
      })
    }
    for (const entry of entries.values()) {
      const known = terms.get(entry.process.about.assignment_id)
      if (known?.epoch === entry.process.about.epoch) entry.term = known.term
    }
    const nowMs = clock()
    // a renewal is complete, a ping is empty; what it does not name keeps its deadline until that is over
    const named = new Set(renewed.map(([id]) => id))
    for (const [id, { term }] of terms)
      if (term === null ? named.size > 0 && !named.has(id) : nowMs >= term.endAtMs) terms.delete(id)
    look()
  }

  /** Stops what is due and comes back for the next. The boot clock decides, not the timer: it goes on while a machine sleeps. */
  function look(): void {
    clearTimeout(timer)
    const nowMs = clock()
    let soonestMs = Infinity
    for (const entry of entries.values()) {
      if (entry.term === null || entry.gone) continue
      const { termAtMs, endAtMs } = entry.term
      if (nowMs >= endAtMs) entry.process.end(0)
      if (nowMs < termAtMs) soonestMs = Math.min(soonestMs, termAtMs)
      else if (nowMs < endAtMs) soonestMs = Math.min(soonestMs, endAtMs)
      if (nowMs < termAtMs || entry.fenced) continue
      entry.fenced = true
      say({ t: 'fenced', mark: entry.process.mark })
      entry.process.fence(Math.max(0, endAtMs - nowMs))
    }
    arming ??= setTimeout(arm, ARM_WITHIN_MS)
    if (soonestMs < Infinity)
      timer = setTimeout(look, Math.min(LONGEST_SLEEP_MS, soonestMs - nowMs))
  }

  function armSoon(): void {
    if ([...entries.values()].every(({ armed, term, gone }) => armed || term === null || gone))
      return
    const inMs = armedAtMs + ARM_WITHIN_MS - performance.now()
    if (inMs <= 0) return arm()
    clearTimeout(arming)
    arming = setTimeout(arm, inMs)
  }

  function arm(): void {
    clearTimeout(arming)
    arming = undefined
    armedAtMs = performance.now()
    const nowMs = clock()
    const doomed = [...entries.values()].filter(
      ({ process, term, gone }) => process.root !== null && term !== null && !gone,
    )
    if (
      !deadMan.arm(
        doomed.map(({ process, term }): Doomed => ({
          ...process.root!,
          inMs: term!.endAtMs - nowMs,
        })),
      )
    )
      return void (arming = setTimeout(arm, ARM_AGAIN_MS))
    for (const entry of doomed) entry.armed = true
  }

  /** What is gone and told is forgotten. */
  function tidy(): void {
    if (attached) for (const [mark, entry] of entries) if (entry.gone) entries.delete(mark)
    look()
    if ([...entries.values()].every((entry) => entry.gone)) options.onEmpty()
  }

  return {
    attach(agent) {
      attached = true
      say = agent
      say({
        t: 'hello',
        protocol: PROTOCOL,
        id: options.id,
        pid: process.pid,
        containment: options.containment,
        running: [...entries.values()].map(told),
      })
      for (const [mark, entry] of entries) if (entry.gone) say({ t: 'gone', mark })
      tidy()
    },
    detach() {
      attached = false
      say = () => {}
      // nobody knows of them
      waiting.length = 0
    },
    receive(message) {
      switch (message.t) {
        case 'start':
          waiting.push(message.spec)
          return startNext()
        case 'end':
          if (!callOff(message.mark)) entries.get(message.mark)?.process.end(message.graceMs)
          return
        case 'lease':
          renew(message.terms)
          return say({ t: 'ack', nr: message.nr })
        case 'hello':
          return
      }
    },
    running: () => [...entries.values()].filter((entry) => !entry.gone).length,
  }
}

/** A deadline is moved on, never back; one that was lifted is given again when it is named again. */
function later(before: Term | undefined, now: Term): Term {
  return before && now && before.endAtMs > now.endAtMs ? before : now
}

function told({ process, started, exit, fenced }: Entry): RunningProcess {
  const { mark, about, startedAtMs } = process
  return {
    mark,
    about,
    pid: started?.pid ?? null,
    rootPid: process.rootPid(),
    startTicks: started?.startTicks ?? null,
    startedAtMs,
    exit,
    fenced,
  }
}
