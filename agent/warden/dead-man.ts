/**
 * The dead-man timer kills processes at their deadline when agent and warden are both killed or
 * stopped. It is a shell in a session of its own that sleeps and then kills.
 * Each renewal starts the next timer, then ends the previous one. See README.md, "Dead-man timer".
 *
 * It never fires by a failure. Only a deadline that is over by the boot clock kills, however the
 * sleep ended. A timer that ends early is replaced, and one that cannot be replaced in time is
 * ended: the warden, which is alive then, kills at the deadline itself.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { bootClock, type BootClock } from '../../host/boot-clock.js'
import { hasProc } from '../../host/process-table.js'
import type { StartedProcess } from './process-runner.js'

export interface Doomed extends StartedProcess {
  /** Milliseconds from now. */
  inMs: number
}

export interface DeadMan {
  /**
   * The list is complete: a process that is not in it is not killed. False when no timer could be
   * started. Then the previous timer stays armed until shortly before it fires, and the caller
   * tries again.
   */
  arm(doomed: readonly Doomed[]): boolean
}

export interface DeadManOptions {
  /** The armed timer ended before its time: the caller arms another. */
  onEnded?(): void
  sh?: string
  clock?: BootClock
}

/** Added to the deadline, so that a healthy warden has killed first. */
const AFTER_DEADLINE_MS = 50
/** A timer that could not be replaced is ended so long before it fires. */
const GIVE_UP_BEFORE_MS = 500

/**
 * Arguments: `@1234` waits until the machine has been up for 12.34 s, suspension included. `+2.35`
 * sleeps, where there is no /proc/uptime. `pid:start` kills the group unless the pid has another
 * start time by now. Field 22 of /proc/PID/stat is the start time. The script cuts off the first
 * two fields, because the program name in the second may contain anything.
 * A clock that cannot be read or a `sleep` that is not there ends the script: it kills nothing.
 * On SIGTERM the shell ends its sleep and reaps it, which would be left to process 1 otherwise.
 * SIGKILL, because a child that has not become `sleep` yet would lose any other signal.
 */
const SCRIPT = `
trap 'kill -KILL $!; wait $!; exit 0' TERM
for what do
  case $what in
    +*) sleep "\${what#+}" & wait $! || exit 1 ;;
    @*)
      while :; do
        read -r up rest < /proc/uptime || exit 1
        left=$((\${what#@} - \${up%.*}\${up#*.}))
        [ "$left" -gt 0 ] || break
        sleep "$((left / 100)).$((left % 100 / 10))$((left % 10))" & wait $!
        case $? in 126 | 127) exit 1 ;; esac
      done ;;
    *)
      pid=\${what%:*}
      if read -r line < "/proc/$pid/stat"; then
        set -- \${line##*) }
        [ "\${what#*:}" = "\${20}" ] || continue
      fi
      kill -KILL "-$pid" ;;
  esac
done 2>/dev/null`

export function createDeadMan({
  onEnded = () => {},
  sh = 'sh',
  clock = bootClock,
}: DeadManOptions = {}): DeadMan {
  let armed: ChildProcess | null = null
  /** When the armed timer kills first, on the boot clock. */
  let firesAtMs = Infinity

  function disarm(timer: ChildProcess | null): void {
    if (timer?.pid === undefined || timer.exitCode !== null || timer.signalCode !== null) return
    try {
      process.kill(timer.pid, 'SIGTERM')
    } catch {
      // it has fired
    }
  }

  /** Null when this host has no room for another process. Node throws or emits the error. */
  function timerFor(doomed: readonly Doomed[], nowMs: number): ChildProcess | null {
    try {
      const timer = spawn(sh, ['-c', SCRIPT, 'mooring-dead-man', ...scheduleOf(doomed, nowMs)], {
        detached: true,
        stdio: 'ignore',
        env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin' },
      })
      timer.once('error', () => {})
      timer.once('exit', () => {
        if (timer === armed && clock() < firesAtMs) onEnded()
      })
      timer.unref()
      return timer.pid === undefined ? null : timer
    } catch {
      return null
    }
  }

  return {
    arm(doomed) {
      const before = armed
      const nowMs = clock()
      const next = doomed.length > 0 ? timerFor(doomed, nowMs) : null
      if (next === null && doomed.length > 0) {
        // the warden that is running this kills at the deadlines that hold now
        if (firesAtMs - nowMs < GIVE_UP_BEFORE_MS) {
          armed = null
          disarm(before)
        }
        return false
      }
      armed = next
      firesAtMs = nowMs + Math.min(...doomed.map(({ inMs }) => inMs)) + AFTER_DEADLINE_MS
      disarm(before)
      return true
    },
  }
}

/** Nothing but /proc/uptime tells a shell the boot clock. */
function scheduleOf(doomed: readonly Doomed[], nowMs: number): string[] {
  let afterMs = 0
  return [...doomed]
    .sort((a, b) => a.inMs - b.inMs)
    .flatMap(({ pid, startTicks, inMs }) => {
      const dueMs = Math.max(0, inMs + AFTER_DEADLINE_MS)
      const waitMs = dueMs - afterMs
      afterMs = Math.max(afterMs, dueMs)
      const kill = `${pid}:${startTicks ?? ''}`
      if (waitMs <= 0) return [kill]
      return hasProc
        ? [`@${Math.ceil((nowMs + dueMs) / 10)}`, kill]
        : [`+${(waitMs / 1000).toFixed(3)}`, kill]
    })
}
