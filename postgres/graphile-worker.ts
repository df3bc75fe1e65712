/**
 * The library graphile-worker. At its import it looks for a configuration from the working
 * directory upwards, and runs what it finds. So it is imported at the root of the file system,
 * where only root may put one: a command must run no code for being started in some folder.
 */
import { createRequire } from 'node:module'

type GraphileWorker = typeof import('graphile-worker')

let loaded: GraphileWorker | undefined

/** Synchronous, so that nothing else of this process sees the other working directory. */
export function graphileWorker(): GraphileWorker {
  if (loaded) return loaded
  const here = process.cwd()
  process.chdir('/')
  try {
    return (loaded = createRequire(import.meta.url)('graphile-worker') as GraphileWorker)
  } finally {
    process.chdir(here)
  }
}
