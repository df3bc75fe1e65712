// Stops a test server when no client has been connected for IDLE_MS.
// It drops the databases that killed tests left in the server.
// Usage: KEEPER_URL=... node server-keeper.mjs DATA_DIR
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import postgres from 'postgres'

const IDLE_MS = 10_000
const sql = postgres(process.env.KEEPER_URL, {
  max: 1,
  onnotice() {},
  connection: { application_name: 'test server keeper' },
})
const [{ mine }] =
  await sql`select pg_try_advisory_lock(hashtextextended('test server keeper', 0)) as mine`
if (mine) {
  for (let idleSince = performance.now(); performance.now() - idleSince < IDLE_MS;) {
    const [{ others }] = await sql`
      select count(*)::int as others
      from pg_stat_activity a
      where a.backend_type = 'client backend' and a.pid <> pg_backend_pid()`
    if (others > 0) idleSince = performance.now()
    await pause(500)
  }
  const left = await sql`
    select d.datname
    from pg_database d
    where d.datname like 'test\\_%' or d.datname like 'unfinished\\_%'
  `
  for (const { datname } of left) {
    await sql.unsafe(`drop database if exists ${datname} with (force)`)
  }
}
await sql.end({ timeout: 1 })
if (mine)
  process.kill(
    Number(readFileSync(join(process.argv[2], 'postmaster.pid'), 'utf8').split('\n')[0]),
    'SIGINT',
  )
