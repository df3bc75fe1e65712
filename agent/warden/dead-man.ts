/**
 * The dead-man timer: kills what runs at its deadline when nobody is left who could, because agent and warden are both killed or both stopped.
 *
 * A shell in a session of its own that sleeps and then kills: it needs neither of them, only the kernel's clock. Each renewal starts the next one and ends
 * the one before, in this order, so there is no moment without. A number that was given to another process meanwhile is known by its start time and
 * left alone. It sleeps on the monotonic clock: of a machine that was suspended the warden, on the boot clock, is the one that is in time.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import type { StartedProcess } from './host.js'

export interface Doomed extends StartedProcess {
  /** Milliseconds from now. */
  inMs: number
}

export interface DeadMan {
  /**
   * Complete: what is not listed is not killed. Empty: nothing is armed. False when no process could be started for it: then the one of before is still
   * armed, with its earlier deadlines, and the caller tries again before they come.
   */
  arm(doomed: readonly Doomed[]): boolean
}

/** After the deadline: a warden that is well has killed by then, and there is nothing to do. */
const AFTER_DEADLINE_MS = 50

/**
 * Arguments: `+2.35` sleeps, `pid:start` kills the group, unless that pid has another start time by now. Field 22 of stat is the start time; the first two
 * fields are cut off because the name in the second may contain anything.
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
      // has done its work
    }
  }

  /** Null where this host has no room for another process now; some errors are thrown, others told. */
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
      // early is safe, never is not: the timer of before goes on until there is another
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
