/**
 * Removes large trees in the background, with one call of the file system at a time.
 * So it holds neither the event loop nor more than one of Node's four file threads.
 */
import { chmod, lstat, readdir, rmdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Follows no link. Stops when the signal aborts. A file that vanishes meanwhile is no failure.
 * After removing what it can, it rejects with the first failure.
 */
export async function removeSlowly(path: string, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  try {
    if (!(await lstat(path)).isDirectory()) return await unlink(path)
    // a workload may have made its folder read-only
    await chmod(path, 0o700)
    const failures: unknown[] = []
    for (const name of await readdir(path))
      await removeSlowly(join(path, name), signal).catch((error: unknown) => failures.push(error))
    if (failures.length > 0) throw failures[0]
    if (!signal.aborted) await rmdir(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/**
 * True when a file below the folder changed after the file `since` in it, by ctime, which no
 * program can set. True as well when that cannot be decided, as when the signal aborts.
 * Folders named .cache do not count.
 */
export async function isWrittenSince(
  folder: string,
  since: string,
  signal: AbortSignal,
): Promise<boolean> {
  const reference = await lstat(join(folder, since), { bigint: true }).catch(() => null)
  return reference === null || (await hasNewer(folder, reference.ctimeNs, signal))
}

async function hasNewer(folder: string, ctimeNs: bigint, signal: AbortSignal): Promise<boolean> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (signal.aborted) return true
    const path = join(folder, entry.name)
    if (
      entry.isDirectory()
        ? entry.name !== '.cache' && (await hasNewer(path, ctimeNs, signal))
        : (await lstat(path, { bigint: true })).ctimeNs > ctimeNs
    )
      return true
  }
  return false
}
