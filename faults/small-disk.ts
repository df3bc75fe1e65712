/**
 * A disk that can be full: a small tmpfs below the rig's folder. Needs root. A dead rig's are
 * unmounted by the next one (sweep).
 */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'

export interface SmallDisk {
  /** Not one byte is free afterwards. */
  fill(): void
  empty(): void
}

export const whyNoSmallDisk = (): string | null =>
  process.getuid?.() === 0 ? null : 'a small file system needs root to be mounted'

export function mountSmallDisk(folder: string, megabytes: number): SmallDisk {
  mkdirSync(folder, { recursive: true })
  execFileSync('mount', [
    '-t',
    'tmpfs',
    '-o',
    `size=${megabytes}m,mode=755`,
    'mooring-faults',
    folder,
  ])
  const ballast = join(folder, 'ballast')
  return {
    fill() {
      const file = openSync(ballast, 'a')
      try {
        for (const block of [Buffer.alloc(1 << 20), Buffer.alloc(4_096), Buffer.alloc(1)]) {
          try {
            for (;;) writeSync(file, block)
          } catch {
            // smaller pieces still fit
          }
        }
      } finally {
        closeSync(file)
      }
    },
    empty: () => rmSync(ballast, { force: true }),
  }
}

/** Everything mounted below that folder. */
export function unmountBelow(folder: string): void {
  const mounted = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${folder}/`))
  for (const path of mounted.reverse()) {
    try {
      // a process that still has a file open there keeps it until the end
      execFileSync('umount', ['-l', path], { stdio: 'ignore' })
    } catch {
      // unmounted by itself in between
    }
  }
}
