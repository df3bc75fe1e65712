/**
 * The warden runs what its agent asks for, and ends each process at the deadline of its lease,
 * whatever happens to the agent.
 *
 *     agent     beat ─► confirmed ─► terms ─┐             killed, stopped, cut off: no more terms
 *     warden                                ▼ extended ... term: SIGTERM ─ grace ─ end: SIGKILL
 *     dead-man                              ▼ restarted ........ end + 50 ms: SIGKILL, if the
 *                                                                warden is gone too
 *
 * The rules of deadlines, and what happens when the agent goes: README.md, "Deadlines".
 */
import { bootClock, LONGEST_SLEEP_MS } from '../../host/boot-clock.js'
import type { BootClock } from '../../host/boot-clock.js'
import type { ContainmentLevel } from './containment.js'
import type { DeadMan, Doomed } from './dead-man.js'
import type { Exit, StartedProcess, StartSpec } from './process-runner.js'
import type { LocalRunner, LocalProcess } from './local-runner.js'
import { PROTOCOL } from './protocol.js'
import type { Deadlines, FromWarden, LeaseTerm, RunningProcess, ToWarden } from './protocol.js'

export interface Warden {
  /** An agent has connected. `send` reaches it; the first message lists what runs. */
  attach(send: (message: FromWarden) => void): void
  /** The agent is gone. */
  detach(): void
  receive(message: ToWarden): void
  /** The dead-man timer ended before its time: starts another. */
  rearm(): void
  /** The number of processes that are not gone. */
  running(): number
}

export interface WardenOptions {
  id: string
  containment: ContainmentLevel
  runner: LocalRunner
  deadMan: DeadMan
  /** The last of its processes is gone. */
  onEmpty(): void
  clock?: BootClock
}

/**
 * A renewal and the starts that follow it share one fork of the dead-man timer, and none waits for
 * it. A new process is armed as soon as it runs, but not more often than this. Why both are safe:
 * README.md, "Dead-man timer".
 */
const ARM_WITHIN_MS = 20
/** How much of a turn goes to stopping trees: each costs a tenth of a millisecond. */
const ORDERS_IN_A_TURN_MS = 20
/** Retry when no timer could be forked. It comes long before the deadlines armed last. */
const ARM_AGAIN_MS = 200

interface Entry {
  process: LocalProcess
  /** Null: no deadline. */
  deadlines: Deadlines | null
  started: StartedProcess | null
  exit: Exit | null
  gone: boolean
  fenced: boolean
  /** SIGKILL was ordered at the end of its lease; stop-tree.ts repeats it. */
  killed: boolean
  armed: boolean
}

export function createWarden(options: WardenOptions): Warden {
  const { runner, deadMan, clock = bootClock } = options
  const entries = new Map<string, Entry>()
  /** By assignment: the deadline that its next process gets. */
  const leases = new Map<string, { epoch: string; deadlines: Deadlines | null }>()
  let sendToAgent: (message: FromWarden) => void = () => {}
  let attached = false
  /** One start per turn, so that a thousand starts do not delay the answers to the agent. */
  const waiting: StartSpec[] = []
  let turn: NodeJS.Immediate | null = null
  /** Stops, for the same reason. */
  const orders: (() => void)[] = []
  let timer: NodeJS.Timeout | undefined
  let arming: NodeJS.Timeout | undefined
  let armedAtMs = -Infinity
  /** No dead-man timer could be started, and the agent was told. */
  let unarmed = false

  function startNext(): void {
    if (turn !== null) return
    const spec = waiting.shift()
    if (spec === undefined) return
    try {
      start(spec)
    } catch (error) {
      // one failing start must not end everything else that runs here
      notStarted(
        spec.runId,
        `the warden failed (${(error as NodeJS.ErrnoException).code ?? (error as Error).name})`,
      )
    }
    turn = setImmediate(() => {
      turn = null
      startNext()
    })
  }

  /** The first order is carried out at once, those that come meanwhile in the turns after. */
  function order(stop: () => void): void {
    orders.push(stop)
    if (orders.length === 1) carryOut()
  }

  function carryOut(): void {
    const untilMs = performance.now() + ORDERS_IN_A_TURN_MS
    while (orders.length > 0 && performance.now() < untilMs) {
      try {
        orders[0]!()
      } finally {
        orders.shift()
      }
    }
    if (orders.length > 0) setImmediate(carryOut)
  }

  /** True when the start was still waiting and has been cancelled. */
  function cancelStart(runId: string): boolean {
    const at = waiting.findIndex((spec) => spec.runId === runId)
    if (at < 0) return false
    waiting.splice(at, 1)
    notStarted(runId, 'it was cancelled')
    return true
  }

  function notStarted(runId: string, why: string): void {
    sendToAgent({
      t: 'exit',
      runId,
      exit: { code: null, signal: null, error: `cannot start: ${why}` },
    })
    sendToAgent({ t: 'gone', runId })
  }

  function start(spec: StartSpec): void {
    const { runId, about } = spec
    const known = leases.get(about.assignment_id)
    const deadlines = known?.epoch === about.epoch ? known.deadlines : null
    if (
      (about.leased && known?.epoch !== about.epoch) ||
      (deadlines !== null && clock() >= deadlines.termAtMs)
    ) {
      return notStarted(runId, 'the lease it would run under is over')
    }
    const process = runner.start(spec)
    const entry: Entry = {
      process,
      deadlines,
      started: null,
      exit: null,
      gone: false,
      fenced: false,
      killed: false,
      armed: false,
    }
    entries.set(runId, entry)
    void process.started.then((started) => {
      entry.started = started
      if (!started) return
      sendToAgent({
        t: 'started',
        runId,
        pid: started.pid,
        rootPid: process.rootPid(),
        startTicks: started.startTicks,
      })
      if (entry.deadlines !== null && !entry.armed) setImmediate(armSoon)
    })
    void process.exit.then((exit) => {
      entry.exit = exit
      sendToAgent({ t: 'exit', runId, exit })
    })
    // a killed tree may be found gone before its root is reaped: `exit` is sent before `gone`
    void Promise.all([process.exit, process.gone]).then(() => {
      entry.gone = true
      if (attached) sendToAgent({ t: 'gone', runId })
      forgetGone()
    })
    enforceDeadlines()
  }

  function renew(renewed: readonly LeaseTerm[]): void {
    for (const [id, epoch, termAtMs, endAtMs] of renewed) {
      const before = leases.get(id)
      leases.set(id, {
        epoch,
        deadlines: later(
          before?.epoch === epoch ? before.deadlines : undefined,
          termAtMs === null || endAtMs === null ? null : { termAtMs, endAtMs },
        ),
      })
    }
    for (const entry of entries.values()) {
      const known = leases.get(entry.process.about.assignment_id)
      if (known?.epoch === entry.process.about.epoch) entry.deadlines = known.deadlines
    }
    const nowMs = clock()
    // a renewal names all assignments, a ping none: what it does not name keeps its deadline
    const named = new Set(renewed.map(([id]) => id))
    for (const [id, { deadlines }] of leases)
      if (deadlines === null ? named.size > 0 && !named.has(id) : nowMs >= deadlines.endAtMs)
        leases.delete(id)
    enforceDeadlines()
  }

  /**
   * Stops what is due, and sets a timer for the next deadline. The boot clock decides what is due,
   * because it counts while the machine sleeps and a timer does not.
   */
  function enforceDeadlines(): void {
    clearTimeout(timer)
    const nowMs = clock()
    let soonestMs = Infinity
    for (const entry of entries.values()) {
      if (entry.deadlines === null || entry.gone) continue
      const { termAtMs, endAtMs } = entry.deadlines
      if (nowMs >= endAtMs && !entry.killed) {
        entry.killed = true
        order(() => entry.process.end(0))
      }
      if (nowMs < termAtMs) soonestMs = Math.min(soonestMs, termAtMs)
      else if (nowMs < endAtMs) soonestMs = Math.min(soonestMs, endAtMs)
      if (nowMs < termAtMs || entry.fenced) continue
      entry.fenced = true
      sendToAgent({ t: 'fenced', runId: entry.process.runId })
      order(() => entry.process.fence(Math.max(0, endAtMs - clock())))
    }
    arming ??= setTimeout(arm, ARM_WITHIN_MS)
    if (soonestMs < Infinity)
      timer = setTimeout(enforceDeadlines, Math.min(LONGEST_SLEEP_MS, soonestMs - nowMs))
  }

  function armSoon(): void {
    if (
      [...entries.values()].every(
        ({ armed, deadlines, gone }) => armed || deadlines === null || gone,
      )
    )
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
      ({ process, deadlines, gone }) => process.root !== null && deadlines !== null && !gone,
    )
    if (
      !deadMan.arm(
        doomed.map(({ process, deadlines }): Doomed => ({
          ...process.root!,
          inMs: deadlines!.endAtMs - nowMs,
        })),
      )
    )
      return armAgain()
    for (const entry of doomed) entry.armed = true
    if (unarmed) sendToAgent({ t: 'armed' })
    unarmed = false
  }

  /** No timer could be started. The deadlines are kept by this process alone until one can. */
  function armAgain(): void {
    if (!unarmed) sendToAgent({ t: 'unarmed' })
    unarmed = true
    arming = setTimeout(arm, ARM_AGAIN_MS)
  }

  /** Forgets what is gone, once an agent has been informed. */
  function forgetGone(): void {
    if (attached) for (const [runId, entry] of entries) if (entry.gone) entries.delete(runId)
    enforceDeadlines()
    if ([...entries.values()].every((entry) => entry.gone)) options.onEmpty()
  }

  return {
    attach(send) {
      attached = true
      sendToAgent = send
      sendToAgent({
        t: 'hello',
        protocol: PROTOCOL,
        id: options.id,
        pid: process.pid,
        containment: options.containment,
        running: [...entries.values()].map(describe),
      })
      for (const [runId, entry] of entries) if (entry.gone) sendToAgent({ t: 'gone', runId })
      forgetGone()
    },
    detach() {
      attached = false
      sendToAgent = () => {}
      // the next agent does not know of these starts
      waiting.length = 0
    },
    receive(message) {
      switch (message.t) {
        case 'start':
          waiting.push(message.spec)
          return startNext()
        case 'end':
          if (!cancelStart(message.runId))
            order(() => entries.get(message.runId)?.process.end(message.graceMs))
          return
        case 'lease':
          renew(message.terms)
          return sendToAgent({ t: 'ack', nr: message.nr })
        case 'hello':
          return
      }
    },
    rearm() {
      for (const entry of entries.values()) entry.armed = false
      arming ??= setTimeout(arm, ARM_AGAIN_MS)
    },
    running: () => [...entries.values()].filter((entry) => !entry.gone).length,
  }
}

/** A deadline is only ever extended. After `null` (no deadline) any deadline is accepted. */
function later(before: Deadlines | null | undefined, now: Deadlines | null): Deadlines | null {
  return before && now && before.endAtMs > now.endAtMs ? before : now
}

function describe({ process, started, exit, fenced }: Entry): RunningProcess {
  const { runId, about, startedAtMs } = process
  return {
    runId,
    about,
    pid: started?.pid ?? null,
    rootPid: process.rootPid(),
    startTicks: started?.startTicks ?? null,
    startedAtMs,
    exit,
    fenced,
  }
}
