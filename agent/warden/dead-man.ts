/**
 * The dead-man timer kills processes at their deadline when agent and warden are both killed or
 * stopped. It is a shell in a session of its own that sleeps and then kills.
 * Each renewal starts the next timer, then ends the previous one. See README.md, "Dead-man timer".
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import type { StartedProcess } from './process-runner.js'

export interface Doomed extends StartedProcess {
  /** Milliseconds from now. */
  inMs: number
}

export interface DeadMan {
  /**
   * The list is complete: a process that is not in it is not killed. False when no timer could be
   * started. Then the previous timer stays armed, and the caller tries again before it fires.
   */
  arm(doomed: readonly Doomed[]): boolean
}

/** Added to the deadline, so that a healthy warden has killed first. */
const AFTER_DEADLINE_MS = 50

/**
 * Arguments: `+2.35` sleeps; `pid:start` kills the group unless the pid has another start time by
 * now. Field 22 of /proc/PID/stat is the start time. The script cuts off the first two fields,
 * because the program name in the second may contain anything.
 */
const SCRIPT = `
for what do
  case $what in
    +*) sleep "\${what#+}" ;;
    *)
      pid=\${what%:*}
      if read -r line < "/proc/$pid/stat"; then
        set -- \${line##*) }
        [ "\${what#*:}" = "\${20}" ] || continue
      fi
      kill -KILL "-$pid" ;;
  esac
done 2>/dev/null`

export function createDeadMan(sh = 'sh'): DeadMan {
  let armed: ChildProcess | null = null

  function disarm(timer: ChildProcess | null): void {
    if (timer?.pid === undefined || timer.exitCode !== null || timer.signalCode !== null) return
    try {
      process.kill(-timer.pid, 'SIGKILL')
    } catch {
      // it has fired
    }
  }

  /** Null when this host has no room for another process. Node throws or emits the error. */
  function timerFor(doomed: readonly Doomed[]): ChildProcess | null {
    try {
      const timer = spawn(sh, ['-c', SCRIPT, 'mooring-dead-man', ...scheduleOf(doomed)], {
        detached: true,
        stdio: 'ignore',
        env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin' },
      })
      timer.once('error', () => {})
      timer.unref()
      return timer.pid === undefined ? null : timer
    } catch {
      return null
    }
  }

  return {
    arm(doomed) {
      const before = armed
      const next = doomed.length > 0 ? timerFor(doomed) : null
      // killing too early is safe, never killing is not: the old timer runs until the new one does
      if (next === null && doomed.length > 0) return false
      armed = next
      disarm(before)
      return true
    },
  }
}

function scheduleOf(doomed: readonly Doomed[]): string[] {
  let atMs = 0
  return [...doomed]
    .sort((a, b) => a.inMs - b.inMs)
    .flatMap(({ pid, startTicks, inMs }) => {
      const sleepMs = Math.max(0, inMs + AFTER_DEADLINE_MS) - atMs
      atMs += sleepMs
      const kill = `${pid}:${startTicks ?? ''}`
      return sleepMs > 0 ? [`+${(sleepMs / 1000).toFixed(3)}`, kill] : [kill]
    })
}
