// mooring.help is what a stranger reads first: everything that is public is in it, and what it says
// to type works.
import t from 'tap'
import { deployment, node } from '../helpers/factories.js'
import { testDatabase } from '../helpers/postgres.js'

interface Line {
  topic: string
  verb: string
  what_for: string
  example: string
}

t.test('every public function, view and table is in mooring.help, and nothing else', async (t) => {
  const { sql } = await testDatabase(t)
  const there = await sql<{ name: string }[]>`
    select distinct p.proname::text as name
      from pg_proc p
     where p.pronamespace = 'mooring'::regnamespace
    union
    select c.relname
      from pg_class c
     where c.relnamespace = 'mooring'::regnamespace and c.relkind in ('r', 'v')
     order by 1`
  const told = await sql<
    { name: string }[]
  >`select distinct h.verb as name from mooring.help h order by 1`
  t.strictSame(
    told.map(({ name }) => name),
    there.map(({ name }) => name),
  )
})

t.test('an example names what it is an example of, and only what is there', async (t) => {
  const { sql } = await testDatabase(t)
  for (const { verb, example } of await sql<Line[]>`select * from mooring.help`) {
    const named = [...example.matchAll(/\bmooring\.(\w+)/g)].map(([, name]) => name!)
    const policy = verb.startsWith('policy_') && example.includes(`'${verb.slice(7)}'`)
    t.ok(named.includes(verb) || policy, `${verb}: ${example}`)
    for (const name of named) {
      const [found] = await sql`
        select
          from pg_proc p
         where p.pronamespace = 'mooring'::regnamespace and p.proname = ${name}
        union all
        select
          from pg_class c
         where c.relnamespace = 'mooring'::regnamespace and c.relname = ${name}`
      t.ok(found, `${verb}: mooring.${name} exists`)
    }
  }
})

t.test('each example that only reads runs, and as a viewer where a viewer may', async (t) => {
  const { sql } = await testDatabase(t)
  await node(sql, { name: 'host-a' })
  await deployment(sql)
  await sql`select from mooring.claim()`
  const writes = await sql<{ name: string }[]>`
    select p.proname::text as name
      from pg_proc p
     where p.pronamespace = 'mooring'::regnamespace and p.provolatile = 'v'`
  const verbs = new Set(writes.map(({ name }) => name))
  let run = 0
  for (const { verb, example } of await sql<Line[]>`select * from mooring.help`) {
    const calls = [...example.matchAll(/\bmooring\.(\w+)\s*\(/g)].map(([, name]) => name!)
    if (!example.startsWith('select') || calls.some((name) => verbs.has(name))) continue
    await t.resolves(
      sql.begin('read only', (sql) => sql.unsafe(example)),
      `${verb}: ${example}`,
    )
    run++
  }
  t.ok(run >= 25, `${run} of them`)
  await sql.begin(async (sql) => {
    await sql`set local role mooring_viewer`
    t.ok((await sql`select from mooring.help`).length > 50)
  })
})
