// npm run lint: the laws of the house that a compiler cannot know. Prints one line per offence.
import { readFileSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { committedMigrations } from '../dist/postgres/migrate/committed-migrations.js'
import { brokenImportLaws } from './import-laws.mjs'
import { MAX_COLUMNS, proseOffences } from './prose.mjs'
import { brokenSqlLaws } from './sql-laws.mjs'
import { FOLDER, compileCurrent, releasedFiles } from './compile-migration.mjs'

const ROOT = join(import.meta.dirname, '..')
const offences = []
const offend = (file, line, law) => offences.push(`${file}${line ? `:${line}` : ''}  ${law}`)

const files = filesOf(ROOT).map((path) => relative(ROOT, path))
const texts = new Map(
  files
    .filter((file) => /\.(ts|mjs|cjs|sql|md|json|yml|sh|pml)$|(^|\/)run$/.test(file))
    .map((file) => [file, readFileSync(join(ROOT, file), 'utf8')]),
)
const product = (file) =>
  /^(agent|workers|cli|host|postgres|state-folder|syntax)\/.*\.ts$/.test(file)

const GENERATED = /^(migrations\/committed\/|package-lock\.json)/

// where a statement may stand: the doors to the database, and what makes one
const DOORS = new RegExp(
  `^(${[
    'agent/session/verbs',
    'cli/queries/[^/]+',
    'workers/verbs',
    'workers/tasks/[^/]+',
    'postgres/migrate/queries',
    'postgres/migrate/uninstall-queries',
    'postgres/find-primary',
    'postgres/embedded/data-folder',
  ].join('|')})\\.ts$`,
)
const STATEMENT = /((?<![.\w])sql(<[^`]*>)?`|\.(query|unsafe)(<[^(]*>)?\(\s*['"`])/
// deployment is the user's table, and a command stands for what the user would type
const UPDATE = /update\s+(?!mooring\.deployment\b)[a-z_]+(\.[a-z_]+)?(\s+as\s+\w+|\s+\w+)?\s+set/
const DELETE = /delete\s+from(?!\s+mooring\.deployment\b)/
const WRITE = new RegExp(`\\b(${UPDATE.source}|${DELETE.source})\\b`, 'i')

const LINE_LAWS = [
  {
    law: 'unfinished: no TODO, FIXME or XXX',
    where: /\.(ts|mjs|cjs|sql)$/,
    pattern: /\b(TO[D]O|FIX[M]E|X[X]X)\b/,
  },
  {
    law: 'a test that runs alone or not at all',
    where: /^test\/.*\.ts$/,
    pattern: /\b(t|tap)\.(only|skip|todo)\(|\bonly: true\b/,
  },
  {
    law: 'a fixed sleep: wait for a row, a notification or an event',
    where: /^test\/.*\.ts$/,
    pattern:
      /^\s*await (new Promise\(.*setTimeout\(\w+, ?\d{3,}|(sleep|delay|pause|setTimeout)\(\d{3,})/,
  },
  {
    law: 'a path of one machine',
    where: /./,
    pattern: /(^|[^\w.])\/(w[o]rk|h[o]me\/\w|U[s]ers\/\w|tmp\/b[u]ild)\//,
  },
  {
    law: 'an address of a package registry',
    where: /./,
    pattern: /\b(registry|deb)\.[a-z]+\.(org|com)\b|"resolved": "http/,
  },
  {
    law: 'an import without .js',
    where: /\.ts$/,
    pattern: /from '\.{1,2}\/[^']*(?<!\.js|\.json)'/,
  },
  {
    law: 'SQL outside the files that may hold it',
    where: /^(agent|workers|cli|host|postgres|state-folder|syntax)\/.*\.ts$/,
    except: DOORS,
    pattern: STATEMENT,
  },
  { law: 'a table is changed by a verb, never by TypeScript', where: DOORS, pattern: WRITE },
]

for (const [file, text] of texts) {
  if (file === 'scripts/lint.mjs') continue // it has to name what it forbids
  const lines = text.split('\n')
  for (const { law, where, except, pattern } of LINE_LAWS) {
    if (!where.test(file) || except?.test(file)) continue
    lines.forEach(
      (line, index) =>
        pattern.test(line.replace(/^\s*(\/\/|\*).*$/, where.source === '.' ? line : '')) &&
        offend(file, index + 1, law),
    )
  }
  if (product(file) && /(^|\/)(utils?|helpers?|types|index)\.ts$/.test(file))
    offend(file, 0, 'a drawer, not a noun: no utils, helpers, types or index in the product')
}

for (const { file, law } of brokenImportLaws(texts)) offend(file, 0, law)
for (const { file, line, law } of brokenSqlLaws(texts)) offend(file, line, law)
for (const [file, text] of texts) {
  if (GENERATED.test(file)) continue
  if (file.endsWith('.md')) {
    for (const { line, law } of proseOffences(text)) offend(file, line, law)
  } else if (/\.(ts|mjs|cjs|sql|pml)$/.test(file)) checkColumns(file, text)
}
checkTableOfContents()
await checkMigrations()

for (const offence of offences) console.log(`error: ${offence}`)
console.log(`lint: ${texts.size} files, ${offences.length} errors`)
process.exitCode = offences.length > 0 ? 1 : 0

/** A line without a space inside cannot be broken: a regular expression, a key. */
function checkColumns(file, text) {
  text.split('\n').forEach((line, index) => {
    if (line.length > MAX_COLUMNS && /\S\s+\S/.test(line))
      offend(file, index + 1, `${line.length} columns, ${MAX_COLUMNS} at most`)
  })
}

/** sql/all.sql names every definition once. */
function checkTableOfContents() {
  const named = [...(texts.get('sql/all.sql') ?? '').matchAll(/^--!\s*include\s+(\S+)/gm)].map(
    ([, file]) => `sql/${file}`,
  )
  for (const file of files.filter(
    (file) => /^sql\/.*\.sql$/.test(file) && file !== 'sql/all.sql',
  )) {
    const times = named.filter((name) => name === file).length
    if (times !== 1) offend(file, 0, `named ${times} times in sql/all.sql`)
  }
}

async function checkMigrations() {
  try {
    const committed = committedMigrations(FOLDER)
    for (const file of releasedFiles())
      if (!committed.some((migration) => migration.file === file))
        offend('migrations/released', 0, `${file} is not in migrations/committed`)
    const current = await compileCurrent()
    if (current && current.replaces?.body !== current.body) {
      offend(
        'migrations/current.sql',
        0,
        'it or a file of sql/ has changed since the last `npm run migration:commit`',
      )
    }
  } catch (error) {
    offend('migrations', 0, error.message)
  }
}

function filesOf(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (/^(node_modules|dist|\.git|\.tap|\.mooring)$/.test(entry.name)) return []
    const path = join(folder, entry.name)
    return entry.isDirectory() ? filesOf(path) : entry.isFile() ? [path] : []
  })
}
