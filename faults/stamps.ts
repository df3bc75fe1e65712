/**
 * From the files the workloads write to lives. A last line that was cut off in the middle is left
 * out.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Life } from './judge.js'

export function readLives(folder: string): Life[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.stamps'))
    .flatMap((name) => lifeOf(readFileSync(join(folder, name), 'utf8')) ?? [])
}

export function lifeOf(text: string): Life | undefined {
  const lines = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .slice(0, -1)
  const [first] = lines
  const last = lines.at(-1)
  if (first === undefined || last === undefined) return undefined
  const [firstAt, , assignment, epoch, node, pid, copy, role] = first.split(' ') as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    Life['role'],
  ]
  return {
    assignment,
    node,
    epoch: BigInt(epoch),
    pid: Number(pid),
    copy,
    role,
    firstMs: Number(firstAt),
    lastMs: Number(last.split(' ')[0]),
  }
}

/** The clock the workloads stamp with. */
export const nowMs = (): number => Number(process.hrtime.bigint() / 1000n) / 1000

/**
 * Time the machine slept moves the boot clock and not the monotonic one: when this changes during a
 * run, its stamps mean nothing. Grain 10 ms.
 */
export const suspendedMs = (): number =>
  Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000 - nowMs()
