/** Small workloads, and ways to see from outside what became of them. */
import { mkdirSync, watch } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import type { Sql } from 'postgres'
import { raceDeadline } from '../host/deadline.js'
import { readProcess } from '../host/process-table.js'
import type { Database } from './server.js'

const PATIENCE_MS = 30_000

export async function insertCommands(sql: Sql, count: number): Promise<void> {
  await sql`
    insert into mooring.deployment (command, args)
    select '/bin/sleep', '["1000000"]'
      from generate_series(1, ${count}::int)`
}

/**
 * Deletes every deployment and waits until the last process is gone: the next measurement finds an
 * idle fleet.
 */
export async function removeDeployments(sql: Sql): Promise<void> {
  await sql`delete from mooring.deployment`
  for (const deadline = performance.now() + PATIENCE_MS; ;) {
    const [left] = await sql<{ n: number }[]>`select count(*)::int as n from mooring.assignment`
    if (left!.n === 0) return
    if (performance.now() > deadline)
      throw new Error(`${left!.n} assignments were not stopped within ${PATIENCE_MS} ms`)
    await pause(5)
  }
}

/** How many the database says are running: on these nodes, or at all. */
export async function countRunning(sql: Sql, nodes?: readonly string[]): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::int as n
      from mooring.placement p
     where p.run_state = 'running'
       and ${nodes ? sql`p.node = any (${[...nodes]})` : sql`true`}`
  return row!.n
}

export async function untilCounted(
  sql: Sql,
  count: number,
  nodes: readonly string[],
): Promise<void> {
  for (const deadline = performance.now() + PATIENCE_MS; ;) {
    const running = await countRunning(sql, nodes)
    if (running === count) return
    if (performance.now() > deadline)
      throw new Error(`${running} of ${count} run after ${PATIENCE_MS} ms`)
    await pause(5)
  }
}

export interface Running {
  assignment_id: string
  node: string
  epoch: string
  pid: number
  startTicks: number
}

/**
 * What the database says is running and the kernel says is alive; a process is known by pid and
 * start time.
 */
export async function runningOf(sql: Sql): Promise<Running[]> {
  const rows = await sql<Omit<Running, 'startTicks'>[]>`
    select p.assignment_id, p.node, p.epoch, p.pid
      from mooring.placement p
     where p.run_state = 'running' and p.pid is not null
     order by p.assignment_id`
  return rows.flatMap((row) => {
    const process = readProcess(row.pid)
    return process === null ? [] : [{ ...row, startTicks: process.startTicks }]
  })
}

export async function untilRunning(
  sql: Sql,
  count: number,
  patienceMs = PATIENCE_MS,
): Promise<Running[]> {
  for (const deadline = performance.now() + patienceMs; ;) {
    const rows = await runningOf(sql)
    if (rows.length === count) return rows
    if (performance.now() > deadline)
      throw new Error(`${rows.length} of ${count} run after ${patienceMs} ms`)
    await pause(5)
  }
}

export const alive = ({ pid, startTicks }: Running): boolean =>
  readProcess(pid)?.startTicks === startTicks

/**
 * Wakes with the hints that agents get, which arrive with the commit that moved something, and then
 * queries. An answer is late by one round trip, not by the period of a poll.
 */
export async function hintsOf({
  sql,
  connect,
}: Database): Promise<{ until(condition: () => Promise<boolean>): Promise<void> }> {
  let wake = (): void => {}
  const listener = connect(1, 'bench: listener')
  for (const { id } of await sql<{ id: number }[]>`select n.id from mooring.node n`)
    await listener.listen(`mooring_node_${id}`, () => wake())
  return {
    async until(condition) {
      for (const deadline = performance.now() + PATIENCE_MS; ;) {
        const hinted = new Promise<void>((resolve) => (wake = resolve))
        if (await condition()) return
        if (performance.now() > deadline) throw new Error(`waited ${PATIENCE_MS} ms in vain`)
        await raceDeadline(500, hinted, () => {})
      }
    },
  }
}

export interface Appearances {
  /**
   * performance.now() of the moment at which the kernel reported the file to this process; waits
   * for it.
   */
  of(name: string): Promise<number>
  close(): void
}

/**
 * When files appear in these folders, as the kernel reports it (inotify): late by a wake-up of this
 * process, a tenth of a millisecond.
 */
export function watchFiles(folders: readonly string[]): Appearances {
  const times = new Map<string, number>()
  const waiting = new Map<string, (at: number) => void>()
  // an agent makes its folders when it needs them
  for (const folder of folders) mkdirSync(folder, { recursive: true, mode: 0o700 })
  const watchers = folders.map((folder) =>
    watch(folder, (_event, name) => {
      const at = performance.now()
      if (name === null || times.has(name)) return
      times.set(name, at)
      waiting.get(name)?.(at)
    }),
  )
  return {
    async of(name) {
      try {
        return (
          times.get(name) ??
          (await raceDeadline(
            PATIENCE_MS,
            new Promise<number>((resolve) => waiting.set(name, resolve)),
            () => {
              throw new Error(`no ${name} in ${folders.join(', ')} within ${PATIENCE_MS} ms`)
            },
          ))
        )
      } finally {
        waiting.delete(name)
      }
    },
    close: () => watchers.forEach((watcher) => watcher.close()),
  }
}
