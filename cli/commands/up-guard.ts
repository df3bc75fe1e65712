import { rmSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import type { Command } from 'commander'
import { stateDirOption } from '../options.js'
import type { DatabaseOptions } from '../options.js'
import { isAlive } from '../../host/lock-file.js'
import { readUpRecord, upFile } from '../up/up-lock.js'

/**
 * Longer than a graceful stop of agents. After it the server is stopped, even while some are left.
 */
const CHILDREN_WAIT_MS = 60_000

/**
 * Stops the embedded server after a killed `mooring up`. Other children end when their stdin does.
 * The server was started by pg_ctl and has no such pipe, so this process holds one for it. It does
 * nothing when `up` ended in order and wrote "done", or when another `up` has taken over.
 */
export function addUpGuard(program: Command): void {
  program
    .command('up-guard', { hidden: true })
    .addOption(stateDirOption())
    .requiredOption('--of <pid>', 'the process to outlive', Number)
    .action(guard)
}

async function guard({ stateDir, of }: DatabaseOptions & { of: number }): Promise<void> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
  let said = ''
  for await (const chunk of process.stdin.setEncoding('utf8')) said += String(chunk)
  if (said.includes('done')) return
  const isMine = () => readUpRecord(stateDir)?.pid === of
  const childrenLive = () =>
    readUpRecord(stateDir)?.children.some((child) => child.name !== 'guard' && isAlive(child)) ===
    true
  const deadline = performance.now() + CHILDREN_WAIT_MS
  while (isMine() && performance.now() < deadline && childrenLive()) await pause(100)
  if (!isMine()) return
  const { stopCluster } = await import('../../postgres/embedded/cluster.js')
  if (readUpRecord(stateDir)?.owns_server) await stopCluster({ stateDir })
  if (isMine()) rmSync(upFile(stateDir), { force: true })
}
