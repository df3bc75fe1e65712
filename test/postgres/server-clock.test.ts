import t from 'tap'
import { createAgentDb } from '../../agent/session/verbs.js'
import { createServerClock } from '../../postgres/server-clock.js'
import { testDatabase } from '../helpers/postgres.js'

t.test(
  'a tick says how long ago the last one was asked, and what the database showed then',
  (t) => {
    let now = 1_000
    const watch = createServerClock(() => now)
    t.same(watch.beforeTick(), { clockMs: null, sinceMs: null }, 'the first knows of none')
    now = 1_400 // the answer took that long
    watch.afterTick(77_000)
    now = 3_000
    t.same(watch.beforeTick(), { clockMs: 77_000, sinceMs: 2_000 })
    t.same(
      watch.beforeTick(),
      { clockMs: null, sinceMs: null },
      'after one without an answer it says nothing',
    )
    watch.afterTick(80_000)
    t.same(watch.beforeTick(), { clockMs: 80_000, sinceMs: 0 })
    t.end()
  },
)

t.test('an agent that runs the rounds tells it as a worker does', async (t) => {
  const { sql, url } = await testDatabase(t)
  await sql`alter function mooring.tick rename to tock`
  await sql`
    create table public.told (
      nr int generated always as identity,
      worker text,
      inline boolean,
      last_clock_ms float8,
      since_ms float8
    )
  `
  await sql`
    create function mooring.tick(
      worker text,
      pool_ids text[] default '{}',
      inline boolean default false,
      last_clock_ms float8 default null,
      since_ms float8 default null
    )
    returns table (clock_ms float8)
    language sql as $$
      insert into public.told (worker, inline, last_clock_ms, since_ms)
      values ($1, $3, $4, $5)
      returning 4711.5
    $$
  `
  const db = createAgentDb({ databaseUrl: url, node: 'host-a' })
  t.teardown(() => db.close())
  await db.tick('agent host-a')
  await db.tick('agent host-a')
  t.match(await sql`select worker, inline, last_clock_ms, since_ms from public.told order by nr`, [
    { worker: 'agent host-a', inline: true, last_clock_ms: null, since_ms: null },
    { worker: 'agent host-a', inline: true, last_clock_ms: 4711.5, since_ms: Number },
  ])
})
