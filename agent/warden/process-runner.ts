/**
 * What the supervisor needs of the thing that runs processes. Two implementations:
 * local-runner.ts runs them in this process (a warden consists of it), client.ts asks a warden.
 */
import type { Command } from './start-errors.js'

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  /** Why the program could not be started; null when it was started. */
  error: string | null
}

export interface StartedProcess {
  pid: number
  /** Identifies the process together with its pid. Null where /proc does not show it. */
  startTicks: number | null
}

/** What a process is for. The warden keeps it for the next agent, which takes the process over. */
export interface About {
  assignment_id: string
  epoch: string
  generation: string
  stop_grace_ms: number
  /** The process may run only up to the deadline of its lease, which renewals move on. */
  leased: boolean
  restarts: number
}

export interface StartSpec extends Command {
  /** Identifies this start. Everything it starts has it in its environment as MOORING_RUN. */
  runId: string
  about: About
  /** Output is appended to it; null discards output. */
  logFile: string | null
}

export interface ManagedProcess {
  readonly runId: string
  readonly about: About
  /** The workload's own pid; null before it runs, and when it could not be started. */
  pid(): number | null
  /** The process that leads the workload's session, or contains it. Resource usage is its. */
  rootPid(): number | null
  /** Resolves with null when the program could not be started; `exit` then says why. */
  readonly started: Promise<StartedProcess | null>
  /** On the boot clock. */
  readonly startedAtMs: number
  /** The exit of the workload itself. Its remaining tree is then ended with about.stop_grace_ms. */
  readonly exit: Promise<Exit>
  /** Resolves when nothing of the tree is alive. */
  readonly gone: Promise<void>
  /** Resolves when the lease ended first. The process is being stopped for that reason. */
  readonly fenced: Promise<void>
  /** SIGTERM, then SIGKILL after graceMs. A second call can only shorten the grace. */
  end(graceMs: number): void
}

export interface ProcessRunner {
  start(spec: StartSpec): ManagedProcess
}
