/**
 * What supervision needs of whoever runs the processes, wherever that is: local-host.ts runs them in this process and is what a warden is made of,
 * client.ts asks a warden.
 */
import type { Command } from './start-errors.js'

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  /** Why it could not be started at all; null when it was. */
  error: string | null
}

export interface StartedProcess {
  /** The workload's own. */
  pid: number
  startTicks: number | null
}

/** What a process is for. Kept beside it, so that the next agent finds all it must know to go on with it. */
export interface About {
  assignment_id: string
  epoch: string
  generation: string
  stop_grace_ms: number
  /** Dies with its lease: it may run only up to a deadline that is moved on by renewals. */
  leased: boolean
  restarts: number
}

export interface StartSpec extends Command {
  /** Names this start, and is found in the environment of everything it starts (MOORING_RUN). */
  mark: string
  about: About
  /** Appended to; null is nowhere. */
  logFile: string | null
}

export interface HostedProcess {
  readonly mark: string
  readonly about: About
  /** The workload's own pid; null before it runs, and where it could not be started. */
  pid(): number | null
  /** Leads its session, or contains it: what is measured. */
  rootPid(): number | null
  /** Resolves with null where it could not be started; then `exit` says why. */
  readonly started: Promise<StartedProcess | null>
  /** Boot clock. */
  readonly startedAtMs: number
  /** Of the workload itself. What it leaves behind is ended by itself, with the grace of `about`. */
  readonly exit: Promise<Exit>
  /** Nothing of it is alive. */
  readonly gone: Promise<void>
  /** Resolves when its lease ended before anything else did: it is being stopped for that. */
  readonly fenced: Promise<void>
  /** SIGTERM, then SIGKILL after graceMs. Said again it shortens the grace, never lengthens it. */
  end(graceMs: number): void
}

export interface Host {
  start(spec: StartSpec): HostedProcess
}
