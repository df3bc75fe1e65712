/**
 * An agent's folder has one agent at a time: whoever came second would end, as leftovers, what the first one runs. A second one waits, since the first may
 * be ending; one that comes to take over asks it to.
 */
import { join } from 'node:path'
import type { Logger } from 'pino'
import { LockHeldError, takeLock } from '../host/lock-file.js'
import { sleep } from '../host/waiting.js'

const LOOK_MS = 100

function ask(pid: number): void {
  try {
    process.kill(pid, 'SIGUSR2')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EPERM')
      throw new Error(
        `the agent of this name, pid ${pid}, belongs to another user and cannot be asked to hand over: run this one as that user, or as root`,
      )
    // it has just ended
    if (code !== 'ESRCH') throw error
  }
}

/** Resolves with what gives it back; null when the signal aborted. */
export async function takeFolder(
  folder: string,
  { handOver, log }: { handOver: boolean; log: Logger },
  signal: AbortSignal,
): Promise<(() => void) | null> {
  const told = new Set<number>()
  while (!signal.aborted) {
    try {
      return takeLock(join(folder, 'lock.json'), {}).release
    } catch (error) {
      if (!(error instanceof LockHeldError)) throw error
      const { pid } = error.holder
      if (!told.has(pid)) {
        told.add(pid)
        if (handOver) ask(pid)
        log.warn(
          { event: 'folder_taken', pid, since: error.holder.since, handing_over: handOver },
          handOver
            ? `asked the agent of this name, pid ${pid}, to hand over`
            : `the agent of this name runs here already, pid ${pid}: waiting for its end; --handover takes its work over`,
        )
      }
    }
    await sleep(LOOK_MS, signal)
  }
  return null
}
