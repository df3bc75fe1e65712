/** Removing large trees beside everything else: one call of the file system at a time, so that neither the event loop nor the four threads for files are taken from others. */
import { chmod, lstat, readdir, rmdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'

/** Follows no link. What is left when the signal aborts, or somebody removes it too, is left. Rejects with the first that could not be removed, when all that could be is. */
export async function removeSlowly(path: string, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  try {
    if (!(await lstat(path)).isDirectory()) return await unlink(path)
    // a folder that was made read only by what ran in it
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
 * True when a file below the folder was made or changed after the file `since` in it, or where that cannot be told, as when the signal aborts. By the time of change, which nobody can set.
 * What lies in a folder .cache is no data.
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
