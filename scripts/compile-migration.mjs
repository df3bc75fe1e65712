// What migrations/current.sql becomes when it is committed: its includes resolved, and which number
// it gets.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Logger, compile } from 'graphile-migrate'
import { committedMigrations } from '../dist/postgres/migrate/committed-migrations.js'

export const FOLDER = join(import.meta.dirname, '..', 'migrations')
export const SILENT = new Logger(() => () => {})

/**
 * Null when current.sql is blank. `kept` are the committed migrations that stay; `replaces` is the
 * last one when current.sql is its newer wording.
 *
 * @typedef {{message: string, body: string, kept: object[], replaces?: object}} Compiled
 * @returns {Promise<null | Compiled>}
 */
export async function compileCurrent() {
  const text = readFileSync(join(FOLDER, 'current.sql'), 'utf8')
  if (text.replaceAll(/^\s*--.*$/gm, '').trim() === '' && !/^--!\s*include/m.test(text)) return null
  const committed = committedMigrations(FOLDER)
  const last = committed.at(-1)
  const message =
    /^--! Message:(.*)$/m.exec(text)?.[1]?.trim() ?? (committed.length <= 1 ? 'schema' : undefined)
  if (!message)
    throw new Error('migrations/current.sql needs a first line "--! Message: what-it-does"')
  const replaces = last?.file.slice(7, -4) === message ? last : undefined
  if (replaces && releasedFiles().includes(replaces.file)) {
    throw new Error(
      `${replaces.file} is released and never changes: give migrations/current.sql a ` +
        'message of its own',
    )
  }
  const source = text.replace(/^--! Message:.*\n+/, '')
  const settings = {
    connectionString: 'postgres://nobody@localhost/none',
    migrationsFolder: FOLDER,
    logger: SILENT,
  }
  const body = await compile(settings, source, { filename: join(FOLDER, 'current.sql') })
  const malformed = /^.*--!\s*include\b.*$/im.exec(body)
  if (malformed)
    throw new Error(
      `an include line is not understood and would be a comment: ${JSON.stringify(malformed[0])}`,
    )
  return {
    message,
    body: `${body.trim()}\n`,
    kept: replaces ? committed.slice(0, -1) : committed,
    replaces,
  }
}

/** migrations/released: one line per migration that a release has carried. */
export function releasedFiles() {
  const list = join(FOLDER, 'released')
  return existsSync(list)
    ? readFileSync(list, 'utf8')
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line && !line.startsWith('#'))
    : []
}
