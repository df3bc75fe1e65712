/** A server of a test's own, with the schema, to be restarted and killed under a running fleet. */
import postgres from 'postgres'
import type { Sql } from 'postgres'
import type { Test } from 'tap'
import { readProcess } from '../../host/process-table.js'
import { ensureCluster } from '../../postgres/embedded/cluster.js'
import { postmasterPid } from '../../postgres/embedded/postmaster.js'
import { migrate } from '../../postgres/migrate/migrate.js'
import { descendantsOf, tempDir } from './processes.js'
import { waitFor } from './wait-for.js'

export interface OwnServer {
  /** Stays the same over all restarts. */
  url: string
  sql: Sql
  /** Ends and starts it in order. */
  restart(): Promise<void>
  /** SIGKILL to the postmaster, and a start. */
  crash(): Promise<void>
  /** Sends every process of the server SIGSTOP; the answer lets them go on. */
  pause(): () => void
}

/** The parent first: it would start new ones. They go on with the end of the test at the latest. */
export function pauseServer(t: Test, dataDir: string): () => void {
  const postmaster = postmasterPid(dataDir)
  process.kill(postmaster, 'SIGSTOP')
  const children = descendantsOf(postmaster).map(({ pid }) => pid)
  const send = (signal: 'SIGSTOP' | 'SIGCONT', pids: number[]) => {
    for (const pid of pids) {
      try {
        process.kill(pid, signal)
      } catch {
        // a worker that ended in this moment
      }
    }
  }
  send('SIGSTOP', children)
  const goOn = () => send('SIGCONT', [...children, postmaster])
  t.teardown(goOn)
  return goOn
}

export async function ownServer(
  t: Test,
  settings: Record<string, string> = {},
): Promise<OwnServer> {
  const stateDir = tempDir(t, 'server')
  const start = () => ensureCluster({ stateDir, durable: false, settings })
  let cluster = await start()
  t.teardown(() => cluster.stop())
  await migrate({ databaseUrl: cluster.url })
  const sql = postgres(cluster.url, { max: 2, onnotice: () => {}, backoff: () => 0.05 })
  t.teardown(() => sql.end({ timeout: 1 }))
  return {
    url: cluster.url,
    sql,
    async restart() {
      await cluster.stop()
      cluster = await start()
    },
    async crash() {
      const pid = postmasterPid(cluster.dataDir)
      process.kill(pid, 'SIGKILL')
      await waitFor(() => readProcess(pid) === null, { label: 'the postmaster is gone' })
      cluster = await start()
    },
    pause: () => pauseServer(t, cluster.dataDir),
  }
}
