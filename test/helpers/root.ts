import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The checkout. Tests run as JavaScript in dist/test/ and read files of the sources. */
export const ROOT = above(import.meta.dirname)
/** The program `mooring`. */
export const MAIN = join(ROOT, 'dist', 'cli', 'main.js')

function above(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : above(dirname(folder))
}
