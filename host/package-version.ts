/** Reads package.json: one folder above the source, two above the same file in dist. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

interface Manifest {
  version: string
  peerDependencies?: Record<string, string>
}

export const packageVersion = (): string => manifest()?.version ?? 'unknown'

/** The version of a package that this one works with and does not bring along. */
export const peerVersion = (name: string): string => manifest()?.peerDependencies?.[name] ?? '*'

function manifest(): Manifest | null {
  for (
    let folder = dirname(fileURLToPath(import.meta.url));
    folder !== dirname(folder);
    folder = dirname(folder)
  ) {
    try {
      return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest
    } catch {
      // no package.json in this folder
    }
  }
  return null
}
