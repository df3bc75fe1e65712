/**
 * One child process. It is started, restarted with a back-off when it ends by itself, and stopped
 * with SIGTERM.
 *
 * The child leads its own session, so Ctrl-C in a terminal reaches the parent alone. Its stdin is a
 * pipe that the parent never writes to and that ends when the parent dies in any way.
 */
import type { ChildProcess as Spawned } from 'node:child_process'
import { createBackoff } from './backoff.js'

export type ChildState = 'starting' | 'running' | 'stopping' | 'stopped' | 'waiting' | 'failed'

export interface ChildEnd {
  /** How it ended, in words. */
  how: string
  /** Null: it was ended by a signal, or could not be started. */
  exitCode: number | null
}

export interface ChildOptions {
  /** Starts the process, with stdin as a pipe. */
  spawn(): Spawned
  /** Adds the reason to how it ended. */
  explain(end: ChildEnd): string
  /** True where the same start would end the same way: the child is not restarted. */
  isFinal(end: ChildEnd): boolean
  onChange(): void
  firstBackoffMs: number
  maxBackoffMs: number
  /** After a life of this length the back-off begins again. */
  stableMs: number
  /** Between force() and SIGKILL. */
  killAfterMs: number
}

export interface RestartedChild {
  start(): void
  /** SIGTERM, for good. Resolves when the process is gone. Idempotent, legal before start. */
  stop(): Promise<void>
  /** A second SIGTERM, which children take as "at once", and SIGKILL after killAfterMs. */
  force(): void
  /** Stops it and starts it again. Does nothing before start and after stop. */
  restart(): Promise<void>
  state(): { state: ChildState; pid: number | null; restarts: number; note: string | null }
}

export function createRestartedChild(options: ChildOptions): RestartedChild {
  // up to a handful of children on one host: their waits need no jitter, and people read them
  const backoff = createBackoff(options.firstBackoffMs, options.maxBackoffMs, () => 1)
  let child: Spawned | null = null
  let state: ChildState = 'starting'
  let note: string | null = null
  let restarts = 0
  let wanted = false
  let closed = false
  let timer: NodeJS.Timeout | undefined
  let gone: Promise<void> = Promise.resolve()

  const become = (next: ChildState, why: string | null = null) => {
    state = next
    note = why
    options.onChange()
  }

  const launch = () => {
    const startedAt = performance.now()
    const spawned = options.spawn()
    child = spawned
    spawned.stdin?.on('error', () => {}) // the child closed its end first: 'exit' follows
    gone = new Promise((resolve) => {
      const finish = (end: ChildEnd) => {
        ended(end, performance.now() - startedAt)
        resolve()
      }
      spawned.once('error', (error) =>
        finish({ how: `could not be started: ${error.message}`, exitCode: null }),
      )
      spawned.once('exit', (code, signal) =>
        finish({ how: signal ? `ended by ${signal}` : `exited with ${code}`, exitCode: code }),
      )
    })
    if (spawned.pid !== undefined) become('running')
  }

  const ended = (end: ChildEnd, livedMs: number) => {
    child = null
    if (!wanted) return become('stopped')
    const why = options.explain(end)
    if (options.isFinal(end)) return become('failed', why)
    if (livedMs > options.stableMs) backoff.reset()
    const waitMs = backoff.nextMs()
    timer = setTimeout(() => {
      restarts += 1
      if (wanted) launch()
    }, waitMs)
    become('waiting', `${why}; again in ${waitMs / 1000} s`)
  }

  const stop = async () => {
    wanted = false
    clearTimeout(timer)
    if (child) {
      become('stopping')
      child.kill('SIGTERM')
    } else if (state !== 'stopped') become('stopped')
    await gone
  }

  return {
    start() {
      if (wanted || closed) return
      wanted = true
      launch()
    },
    stop() {
      closed = true
      return stop()
    },
    force() {
      const target = child
      target?.kill('SIGTERM')
      setTimeout(() => {
        target?.kill('SIGKILL')
      }, options.killAfterMs).unref()
    },
    async restart() {
      if (!wanted) return
      await stop()
      if (closed) return // stop() was called meanwhile
      wanted = true
      launch()
    },
    state: () => ({ state, pid: child?.pid ?? null, restarts, note }),
  }
}
