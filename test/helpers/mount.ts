import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import type { Test } from 'tap'

/** Options of a test that mounts. */
export const mounting = {
  skip: process.getuid?.() === 0 && process.platform === 'linux' ? false : 'only root mounts',
}

/** A file system of its own on the folder, until the test ends. */
export function mountTmpfs(t: Test, folder: string, ...options: readonly string[]): void {
  mkdirSync(folder, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', ...options, 'mooring-test', folder])
  t.teardown(() => execFileSync('umount', ['-l', folder]))
}
