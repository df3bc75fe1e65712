// npm run migration:commit
//
// Writes migrations/committed from migrations/current.sql, through `graphile-migrate commit`
// against a server that lives as long as this script. So what is written has run, from nothing and
// on top of the earlier migrations. graphile-migrate blanks current.sql afterwards. It does so in a
// duplicate, because ours stays until the release (migrations/README.md).
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { commit } from 'graphile-migrate'
import postgres from 'postgres'
import { committedMigrations } from '../dist/postgres/migrate/committed-migrations.js'
import { ensureCluster } from '../dist/postgres/embedded/cluster.js'
import { installJobsSchema } from '../dist/postgres/jobs-schema.js'
import { FOLDER, SILENT, compileCurrent } from './compile-migration.mjs'

const current = await compileCurrent()
if (!current) {
  console.log('migrations/current.sql is blank: nothing to commit')
  process.exit(0)
}
const workshop = mkdtempSync(join(tmpdir(), 'mooring-commit-'))
chmodSync(workshop, 0o755) // the server's user has to get in
let cluster
try {
  const folder = join(workshop, 'migrations')
  mkdirSync(join(folder, 'committed'), { recursive: true })
  symlinkSync(join(FOLDER, '..', 'sql'), join(folder, 'fixtures'))
  for (const { file } of current.kept)
    cpSync(join(FOLDER, 'committed', file), join(folder, 'committed', file))
  cpSync(join(FOLDER, 'current.sql'), join(folder, 'current.sql'))

  cluster = await ensureCluster({ stateDir: join(workshop, 'state'), durable: false })
  const urlOf = (database) => Object.assign(new URL(cluster.url), { pathname: `/${database}` }).href
  const sql = postgres(cluster.url, { max: 1, onnotice() {} })
  await sql`create database fresh`
  await sql`create database shadow`
  await sql.end()
  const { afterReset, ...settings } = createRequire(import.meta.url)('../.gmrc.cjs')
  await installJobsSchema({ connectionString: urlOf('fresh') })
  await commit(
    {
      ...settings,
      afterReset,
      migrationsFolder: folder,
      logger: SILENT,
      connectionString: urlOf('fresh'),
      shadowConnectionString: urlOf('shadow'),
      rootConnectionString: cluster.url,
    },
    current.message,
  )
  const [written] = readdirSync(join(folder, 'committed')).filter(
    (file) => !current.kept.some((kept) => kept.file === file),
  )
  const text = readFileSync(join(folder, 'committed', written), 'utf8')
  if (current.replaces) rmSync(join(FOLDER, 'committed', current.replaces.file))
  writeFileSync(join(FOLDER, 'committed', written), text)
  committedMigrations(FOLDER) // reads back what `mooring migrate` will read
  console.log(
    `${current.replaces ? 'rewrote' : 'wrote'} migrations/committed/${written} ` +
      `(${text.split('\n').length} lines)`,
  )
} catch (error) {
  // a server's error points into the compiled text: show the place, for the includes have moved it
  const at = Number(error.position ?? error.internalPosition) || 0
  const line = at && !error.internalPosition ? current.body.slice(0, at).split('\n').length : 0
  console.error(
    'not committed: ' +
      error.message +
      (error.detail ? `\ndetail: ${error.detail}` : '') +
      (error.where ? `\nwhere: ${error.where}` : ''),
  )
  if (line) {
    const lines = current.body.split('\n')
    const included = lines.slice(0, line).reduce((open, text) => {
      const [, kind, file] = /^--! (Included|EndIncluded) (\S+)/.exec(text) ?? []
      return kind === 'Included' ? [...open, file] : kind ? open.slice(0, -1) : open
    }, [])
    console.error(`near line ${line} of the compiled text, in ${included.at(-1) ?? 'current.sql'}:`)
    console.error(
      lines
        .slice(Math.max(0, line - 3), line + 2)
        .map((text, index) => `${index === Math.min(2, line - 1) ? '>' : ' '} ${text}`)
        .join('\n'),
    )
  }
  process.exitCode = 1
} finally {
  // graphile-migrate keeps idle connections for 200 ms and ends this process when one of them
  // breaks
  await setTimeout(300)
  await cluster?.stop()
  rmSync(workshop, { recursive: true, force: true })
}
