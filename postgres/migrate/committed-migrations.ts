import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** One file of migrations/committed, as `graphile-migrate commit` writes it. */
export interface CommittedMigration {
  /** 000001-schema.sql, in the folder. */
  file: string
  /** 000001.sql, as in mooring_internal.migration. */
  filename: string
  hash: string
  previousHash: string | null
  body: string
}

/** The folder `migrations` of this package. */
export function migrationsFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) {
    if (folder === dirname(folder))
      throw new Error('the package of this program is incomplete: no package.json above it')
    folder = dirname(folder)
  }
  return join(folder, 'migrations')
}

/** In order. Throws when a file was changed after its commit, or one is missing in between. */
export function committedMigrations(folder = migrationsFolder()): CommittedMigration[] {
  const committed = join(folder, 'committed')
  const files = existsSync(committed)
    ? readdirSync(committed)
        .filter((file) => FILE.test(file))
        .sort()
    : []
  let previous: string | null = null
  return files.map((file) => {
    const migration = parse(file, readFileSync(join(committed, file), 'utf8'))
    if (migration.previousHash !== previous)
      throw new Error(`migrations/committed/${file} does not follow the file before it`)
    if (hashOf(migration.body, previous) !== migration.hash) {
      throw new Error(
        `migrations/committed/${file} was changed after it was committed: ` +
          'its hash is not the one it declares',
      )
    }
    previous = migration.hash
    return migration
  })
}

/** As graphile-migrate makes it: sha1 over the previous hash and the trimmed body. */
export function hashOf(body: string, previousHash: string | null): string {
  return `sha1:${createHash('sha1')
    .update(`${`${previousHash ?? ''}\n${body.trim()}`.trim()}\n`)
    .digest('hex')}`
}

const FILE = /^(\d{6})(-[-_a-zA-Z0-9]*)?\.sql$/

function parse(file: string, text: string): CommittedMigration {
  const lines = text.split('\n')
  const headers = new Map<string, string>()
  let line = 0
  for (; ; line++) {
    const [header, name = '', value = ''] =
      /^--! ([A-Z]\w*)(?::(.*))?$/.exec(lines[line] ?? '') ?? []
    if (header === undefined) break
    headers.set(name, value.trim())
  }
  const hash = headers.get('Hash')
  const previous = headers.get('Previous')
  if (!hash || !previous)
    throw new Error(`migrations/committed/${file} has no Hash or no Previous line`)
  return {
    file,
    filename: `${file.slice(0, 6)}.sql`,
    hash,
    previousHash: previous === '-' ? null : previous,
    body: `${lines.slice(line).join('\n').trim()}\n`,
  }
}
