/** What is mounted where, as this process sees it. */
import { readFileSync } from 'node:fs'
import { realpath } from 'node:fs/promises'

/** Differs when anything was mounted or unmounted. Throws where there is no /proc. */
export function readMounts(): string {
  return readFileSync('/proc/self/mountinfo', 'latin1')
}

/** True when a file system, or a part of one, is mounted on the folder or below it. False where there is no /proc, or no such folder. */
export async function hasMountIn(folder: string): Promise<boolean> {
  let path: string
  let lines: string[]
  try {
    path = Buffer.from(await realpath(folder)).toString('latin1')
    lines = readMounts().split('\n')
  } catch {
    return false
  }
  // proc(5): the fifth field; a space, tab, newline or backslash in it is written as an octal number
  return lines
    .map((line) =>
      (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    )
    .some((point) => point === path || point.startsWith(`${path}/`))
}
