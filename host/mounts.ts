/** The mounts of this process's mount namespace. */
import { readFileSync } from 'node:fs'
import { realpath } from 'node:fs/promises'

/** The text changes with every mount and unmount. Throws without /proc. */
export function readMounts(): string {
  return readFileSync('/proc/self/mountinfo', 'latin1')
}

/**
 * True when a file system, or a part of one, is mounted on the folder or below it.
 * False without /proc, and for a folder that does not exist.
 */
export async function hasMountIn(folder: string): Promise<boolean> {
  let path: string
  let lines: string[]
  try {
    path = Buffer.from(await realpath(folder)).toString('latin1')
    lines = readMounts().split('\n')
  } catch {
    return false
  }
  // proc(5): the mount point is the fifth field. Space, tab, newline and backslash are octal.
  return lines
    .map((line) =>
      (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      ),
    )
    .some((point) => point === path || point.startsWith(`${path}/`))
}
