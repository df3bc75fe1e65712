/**
 * One agent at a time uses an agent's folder. A second one would end the processes of the first as
 * leftovers. So it waits, because the first may be ending. With --handover it requests that end,
 * once the database would let it in.
 */
import { join } from 'node:path'
import type { Logger } from 'pino'
import { LockHeldError, readLock, takeLock } from '../host/lock-file.js'
import { sleep } from '../host/waiting.js'
import { runIdPrefix } from '../state-folder/process-files.js'

const RETRY_MS = 100

function requestHandOver(pid: number): void {
  try {
    process.kill(pid, 'SIGUSR2')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EPERM')
      throw new Error(
        `the agent of this name, pid ${pid}, belongs to another user and cannot hand over: ` +
          'run this one as that user, or as root',
      )
    // ESRCH: it has just ended
    if (code !== 'ESRCH') throw error
  }
}

export interface FolderLockOptions {
  handOver: boolean
  /**
   * Resolves once this agent would be let in by the database. Before that no agent is asked to go,
   * because its work would end then. Rejects when it never will be.
   */
  admitted(): Promise<void>
  log: Logger
}

/** Resolves with the function that unlocks the folder; null when the signal aborted. */
export async function lockFolder(
  folder: string,
  { handOver, admitted, log }: FolderLockOptions,
  signal: AbortSignal,
): Promise<(() => void) | null> {
  const known = new Set<number>()
  const file = join(folder, 'lock.json')
  // a folder that was copied brings the lock of a living agent with it
  const own = runIdPrefix(folder)
  while (!signal.aborted) {
    try {
      return takeLock(file, { folder: own }, (record) => record.folder === own).release
    } catch (error) {
      if (!(error instanceof LockHeldError)) throw error
      const { pid } = error.holder
      if (!known.has(pid)) {
        if (handOver) {
          await admitted()
          if (signal.aborted) return null
          // the holder may have changed meanwhile
          if (readLock(file)?.pid !== pid) continue
          requestHandOver(pid)
        }
        known.add(pid)
        log.warn(
          { event: 'folder_locked', pid, since: error.holder.since, handing_over: handOver },
          handOver
            ? `requested a handover from the agent of this name, pid ${pid}`
            : `an agent of this name runs here, pid ${pid}; waiting for its end ` +
                '(--handover takes its processes over)',
        )
      }
    }
    await sleep(RETRY_MS, signal)
  }
  return null
}
