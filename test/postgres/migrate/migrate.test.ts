import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import {
  committedMigrations,
  hashOf,
  migrationsFolder,
} from '../../../postgres/migrate/committed-migrations.js'
import { migrate } from '../../../postgres/migrate/migrate.js'
import { emptyDatabase, testDatabase } from '../../helpers/postgres.js'
import { program, tempDir } from '../../helpers/processes.js'
import { rudeServer } from '../../helpers/rude-server.js'
import { waitFor } from '../../helpers/wait-for.js'

const FILES = committedMigrations().map(({ file }) => file)

t.test('an empty database gets both schemas, and a second call finds nothing to do', async (t) => {
  const { url, client } = await emptyDatabase(t)
  const lines: string[] = []
  t.match(await migrate({ databaseUrl: url, log: (line) => lines.push(line) }), {
    applied: FILES,
    version: FILES.at(-1),
    searchPath: 'set',
    searchPathLine: null,
  })
  t.strictSame(
    lines,
    FILES.map((file) => `ran ${file}`),
  )
  t.match(await migrate({ databaseUrl: url }), {
    applied: [],
    version: FILES.at(-1),
    searchPath: 'present',
    searchPathLine: null,
  })
  const psql = client()
  const [row] = await psql`
      select (select count(*) from deployment)::int as deployments,
        to_regprocedure('mooring_jobs.add_job(text, json)') is not null as queue,
        to_regclass('fleet')::text as fleet
    `
  t.match(row, { deployments: 0, fleet: 'fleet' })
})

t.test('five at once: one migrates, four wait and find nothing to do', async (t) => {
  const { url, sql } = await emptyDatabase(t)
  const results = await Promise.all(Array.from({ length: 5 }, () => migrate({ databaseUrl: url })))
  t.strictSame(results.map(({ applied }) => applied.length).sort(), [0, 0, 0, 0, FILES.length])
  t.equal((await sql`select from mooring_internal.migration`).length, FILES.length)
})

t.test('a database that is newer than the program is left alone', async (t) => {
  const { url, sql } = await testDatabase(t)
  await sql`
    insert into mooring_internal.migration (hash, filename) values ('sha1:later', '999999.sql')
  `
  await t.rejects(migrate({ databaseUrl: url }), {
    name: 'MigrateError',
    code: 'DATABASE_NEWER',
    message: /999999\.sql/,
    hint: /update mooring/,
  })
})

t.test('a database with another wording of a migration is left alone', async (t) => {
  const { url, sql } = await testDatabase(t)
  await sql`
    update mooring_internal.migration m
    set hash = 'sha1:other'
    where m.filename = '000001.sql'
  `
  await t.rejects(migrate({ databaseUrl: url }), {
    code: 'MIGRATION_DIFFERS',
    message: /000001\.sql/,
  })
})

t.test('a committed file that was edited is not run', async (t) => {
  const { url, sql } = await emptyDatabase(t)
  const folder = nextMigrations(t, 'select 1;')
  const file = join(folder, 'committed', '999999-next.sql')
  writeFileSync(file, readFileSync(file, 'utf8').replace('select 1', 'select 2'))
  await t.rejects(migrate({ databaseUrl: url, folder }), {
    message: /999999-next\.sql was changed after it was committed/,
  })
  t.strictSame((await sql`select to_regnamespace('mooring') as schema`)[0], { schema: null })
})

t.test(
  'a failing migration is rolled back, keeps what ran before it, and says what the server said',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    const folder = nextMigrations(t, 'create table mooring.half (id int);\nselect 1 / 0;')
    await t.rejects(migrate({ databaseUrl: url, folder }), {
      code: '22012',
      message: /division by zero/,
    })
    t.strictSame(
      (
        await sql`
          select to_regclass('mooring.half') as half,
            (select count(*)::int from mooring_internal.migration) as migrations
        `
      )[0],
      { half: null, migrations: FILES.length },
    )
  },
)

t.test(
  'a table deployment of somebody else keeps its name, and the line for the search_path is told',
  async (t) => {
    const { url, name, sql, client } = await emptyDatabase(t)
    await sql`create table public.deployment (mine int)`
    t.match(await migrate({ databaseUrl: url }), {
      searchPath: 'left',
      searchPathLine: `alter database "${name}" set search_path = "$user", public, mooring;`,
    })
    t.match(await client()`select * from deployment`, { columns: [{ name: 'mine' }] })
  },
)

t.test('a search_path the database had before is kept, with mooring after it', async (t) => {
  const { url, name, sql, client } = await emptyDatabase(t)
  await sql`create schema "Our Apps"`
  await sql.unsafe(`alter database ${name} set search_path = "Our Apps", public`)
  t.match(await migrate({ databaseUrl: url }), { searchPath: 'set' })
  t.strictSame((await client()`select current_schemas(false) as schemas`)[0], {
    schemas: ['Our Apps', 'public', 'mooring'],
  })
})

t.test(
  'a role that does not own the database migrates it and is told the line to run',
  async (t) => {
    const { url, name, sql } = await emptyDatabase(t)
    const role = `role_of_${name}`
    t.teardown(() => sql.unsafe(`drop owned by ${role}; drop role ${role}`))
    await sql.unsafe(
      `create role ${role} login password 'secret'; grant create on database ${name} to ${role}`,
    )
    const databaseUrl = Object.assign(new URL(url), { username: role, password: 'secret' }).href
    t.match(await migrate({ databaseUrl }), {
      applied: FILES,
      searchPath: 'left',
      searchPathLine: /^alter database/,
    })
  },
)

t.test('what cannot be reached is said with its code and without its password', async (t) => {
  const { url, name } = await emptyDatabase(t)
  const wrong = Object.assign(new URL(url), { password: 'hunter2' }).href
  const error = (await migrate({ databaseUrl: wrong }).catch((error: unknown) => error)) as Error
  t.match(error, { code: '28P01' })
  t.notMatch(JSON.stringify({ ...error, message: error.message }), /hunter2/)
  await t.rejects(migrate({ databaseUrl: url.replace(name, 'no_such_database') }), {
    code: '3D000',
  })
  await t.rejects(migrate({ databaseUrl: `${url}?sslmode=sometimes` }), {
    name: 'DatabaseUrlError',
    message: /sslmode/,
  })
})

// A forgotten psql has read the heartbeat table in a transaction that is still open. A migration
// wants ACCESS EXCLUSIVE on it and queues behind that reader; every beat that comes later queues
// behind the migration. Beats then stop for as long as the psql stays open, and the whole fleet
// fences itself. So the migration must leave the queue soon and come back later.
t.test('a server that takes the connection and says nothing is said to do that', async (t) => {
  const { port } = await rudeServer(t, () => {})
  await t.rejects(
    migrate({ databaseUrl: `postgres://u:hunter2@127.0.0.1:${port}/d?connect_timeout=1` }),
    { code: 'CALL_DEADLINE', message: 'the database did not answer within 1 s' },
  )
})

t.test('a migration behind a forgotten psql lets every heartbeat through', async (t) => {
  const { url, sql, client } = await testDatabase(t)
  const folder = nextMigrations(t, 'alter table mooring.heartbeat add column spare int;')
  const forgotten = client('forgotten psql')
  const [{ pid } = { pid: 0 }] = await forgotten<{ pid: number }[]>`select pg_backend_pid() as pid`
  await forgotten`begin`
  await forgotten`select from mooring.heartbeat`
  // more than a real one waits (2 s): where nothing is scheduled for a while, it is not the
  // migration that keeps a beat waiting
  const agent = await beating(t, client('an agent'), '20s')

  const lines: string[] = []
  const migrating = migrate({ databaseUrl: url, folder, log: (line) => lines.push(line) })
  await waitFor(() => lines.some((line) => line.includes(`pid ${pid} (forgotten psql`)), {
    label: 'the log names who holds the lock',
  })
  const before = agent.beats()
  await waitFor(() => agent.beats() > before + 20, {
    label: 'beats go on while the migration tries again',
    show: agent.failures,
  })
  await forgotten`commit`
  t.match(await migrating, { applied: ['999999-next.sql'] })
  t.strictSame(agent.failures(), [], 'no beat was given up')
  t.equal(
    (
      await sql`
        select from information_schema.columns
        where table_schema = 'mooring' and column_name = 'spare'
      `
    ).length,
    1,
  )
})

t.test('negative control: the same change without lock_timeout stops the heartbeats', async (t) => {
  const { client } = await testDatabase(t)
  const forgotten = client('forgotten psql')
  await forgotten`begin`
  await forgotten`select from mooring.heartbeat`
  const agent = await beating(t, client('an agent'), '1s')
  const altering = client(
    'alter table',
  )`alter table mooring.heartbeat add column spare int`.execute()
  await waitFor(() => agent.failures().length > 0, { label: 'a beat waits in vain' })
  await forgotten`commit`
  await altering
  t.match(agent.failures()[0], '55P03')
})

t.test('a migration that never gets its lock gives up and names the holder', async (t) => {
  const { url, client } = await testDatabase(t)
  const folder = nextMigrations(t, 'alter table mooring.heartbeat add column spare int;')
  const forgotten = client('forgotten psql')
  await forgotten`begin`
  await forgotten`select from mooring.heartbeat`
  await t.rejects(migrate({ databaseUrl: url, folder, retryForMs: 100 }), {
    code: '55P03',
    message: /forgotten psql/,
    hint: /pg_terminate_backend/,
  })
  await forgotten`rollback`
})

t.test('the packed package migrates from wherever it is installed', async (t) => {
  const { url } = await emptyDatabase(t)
  const folder = tempDir(t, 'installed')
  const root = join(migrationsFolder(), '..')
  execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'ignore'],
  })
  execFileSync('sh', ['-c', 'tar xzf mooring-*.tgz'], { cwd: folder })
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  const run = program(
    t,
    process.execPath,
    [join(folder, 'package', 'dist', 'cli', 'main.js'), 'migrate', '--json'],
    { databaseUrl: url, cwd: folder },
  )
  t.match(await run.exited, { code: 0 })
  t.match(JSON.parse(run.stdout()), { applied: FILES, searchPath: 'set' })
})

/** The package's migrations and one more. */
function nextMigrations(t: Test, body: string): string {
  const folder = tempDir(t, 'migrations')
  mkdirSync(join(folder, 'committed'))
  cpSync(join(migrationsFolder(), 'committed'), join(folder, 'committed'), { recursive: true })
  const previous = committedMigrations(folder).at(-1)?.hash ?? null
  writeFileSync(
    join(folder, 'committed', '999999-next.sql'),
    `--! Previous: ${previous ?? '-'}\n--! Hash: ${hashOf(body, previous)}\n` +
      `--! Message: next\n\n${body.trim()}\n`,
  )
  return folder
}

/** An agent that beats as fast as it can, and gives a beat up after so long. */
async function beating(
  t: Test,
  session: ReturnType<Awaited<ReturnType<typeof testDatabase>>['client']>,
  lockTimeout: string,
) {
  const me = '00000000-0000-4000-8000-000000000001'
  await session.unsafe(`set lock_timeout = '${lockTimeout}'`)
  await session`select from mooring.register_node('host-a', ${me})`
  const failures: string[] = []
  let beats = 0
  let going = true
  const loop = (async () => {
    while (going) {
      await session`select from mooring.heartbeat('host-a', ${me})`.then(
        () => beats++,
        (error: { code?: string }) => failures.push(error.code ?? String(error)),
      )
    }
  })()
  t.teardown(() => {
    going = false
    return loop
  })
  return { beats: () => beats, failures: () => failures }
}
