/**
 * The database of `mooring up`: the one of DATABASE_URL, which `up` never starts or stops, or the
 * embedded server. That server ends with the `up` that started it, or that inherited it from a
 * killed predecessor. A server that `mooring db up` started stays.
 */
import { parseDatabaseUrl } from '../../postgres/database-url.js'
import { clusterUrl, ensureCluster, stopCluster } from '../../postgres/embedded/cluster.js'
import { spawnMooring } from './child.js'
import { markOf } from '../../host/lock-file.js'
import type { ProcessMark } from '../../host/lock-file.js'
import type { UpLock } from './up-lock.js'

export interface UpServer {
  url(): string
  description(): string
  guard(): ProcessMark | null
  /**
   * Restarts the embedded server when it has ended and `up` owns it. True: it has a new address.
   */
  revive(): Promise<boolean>
  stop(): Promise<void>
}

export async function openUpServer(
  stateDir: string,
  lock: UpLock,
  note: (text: string) => void,
): Promise<UpServer> {
  const given = process.env['DATABASE_URL']
  if (given) {
    const { redacted } = parseDatabaseUrl(given)
    return {
      url: () => given,
      description: () => `DATABASE_URL, ${redacted}`,
      guard: () => null,
      revive: async () => false,
      stop: async () => {},
    }
  }
  const inherited = lock.inherited?.owns_server === true
  const found = await clusterUrl({ stateDir })
  const owns = found === undefined || inherited
  const guard = owns ? startGuard(stateDir) : null
  // noted before the server starts, so that a kill in between leaves no server behind
  lock.note({ owns_server: owns })
  let { url } = await ensureCluster({ stateDir, log: note })
  return {
    url: () => url,
    description: () => `embedded server, ${parseDatabaseUrl(url).redacted}`,
    guard: () => guard?.mark ?? null,
    async revive() {
      if (!owns) return false
      const cluster = await ensureCluster({ stateDir, log: note })
      if (cluster.started) note('the embedded server had ended and was started again')
      const moved = cluster.url !== url
      url = cluster.url
      return moved
    },
    async stop() {
      if (owns) await stopCluster({ stateDir })
      guard?.dismiss()
    },
  }
}

function startGuard(stateDir: string): { mark: ProcessMark; dismiss(): void } {
  const env = { ...process.env }
  const guard = spawnMooring(
    ['up-guard', '--state-dir', stateDir, '--of', String(process.pid)],
    env,
    `${stateDir}/up/guard.log`,
  )
  // without a guard a SIGKILL of this process leaves the server running; the rest works
  guard.on('error', () => {})
  guard.stdin?.on('error', () => {})
  guard.unref()
  return {
    mark: markOf(guard.pid ?? -1),
    dismiss() {
      guard.stdin?.end('done\n')
    },
  }
}
