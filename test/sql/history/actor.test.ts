import t from 'tap'
import { assignments, deployment, deployments, node } from '../../helpers/factories.js'
import { login } from '../../helpers/logins.js'
import { testDatabase } from '../../helpers/postgres.js'
import { claim, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const called = async (
  sql: typeof pg.sql | Parameters<typeof claim>[0],
  name: string,
): Promise<string> => {
  await sql`select set_config('application_name', ${name}, false)`
  return (await sql<{ actor: string }[]>`select mooring_internal.actor() as actor`)[0]!.actor
}

story('an event names the login and what its client calls itself', async (t, sql) => {
  const actor = await called(sql, 'psql')
  t.match(actor, /^\w+ \(psql\)$/)
  await node(sql)
  const id = await deployment(sql)
  await claim(sql)
  await sql`delete from mooring.deployment where id = ${id}`
  t.same(
    [
      ...(await sql`
        select distinct kind, actor
          from mooring.event
         where kind <> 'setting_changed'
         order by 1`),
    ],
    [
      'claimed',
      'deployment_added',
      'deployment_deleted',
      'node_added',
      'node_registered',
      'stop_wanted',
    ].map((kind) => ({ kind, actor })),
    'by hand, by a verb, by a trigger',
  )
  t.same([...(await sql`select distinct actor from mooring.ownership`)], [{ actor }])
  t.notMatch(await called(sql, ''), /\(/, 'a client without a name: the login alone')
  t.notMatch(await called(sql, '   '), /\(/)
})

story('a client cannot pass for another login by its name', async (t, sql) => {
  const [{ me } = { me: '' }] = await sql<{ me: string }[]>`select session_user::text as me`
  const forged = await called(sql, `x) postgres (psql`)
  t.equal(forged, `${me} (x] postgres [psql)`, 'brackets are the ones of the actor')
  const steering = await called(sql, `a\u001b[2J\nb\u0007`)
  t.match(steering, /^[ -~]+$/, 'nothing that steers a terminal')
  t.ok((await called(sql, 'y'.repeat(5_000))).length < me.length + 70, 'and it is short')
})

story('an actor under set role is named, not the role it acts for', async (t, sql) => {
  await sql`select set_config('application_name', 'psql', true)`
  const operator = await login(t, pg, ['mooring_operator'])
  const [row] = await operator.sql<
    { current: string; login: string }[]
  >`select current_user::text as current, session_user::text as login`
  t.equal(row!.login, operator.name)
  await operator.sql`set role mooring_operator`
  await operator.sql`select from mooring.upsert_node('host-z', 50)`
  t.match(
    await pg.sql`select actor from mooring.event where node = 'host-z' order by id desc limit 1`,
    [{ actor: `${operator.name} (test: another role)` }],
  )
  await pg.sql`delete from mooring.node`
})

story('ten thousand rows read the actor once', async (t, sql) => {
  await node(sql)
  await deployments(sql, 3)
  await claim(sql)
  // a plan that asked for each row would carry the expression in its output instead of a result of
  // its own
  const plan = (
    await sql<{ 'QUERY PLAN': string }[]>`
      explain (verbose)
      insert into mooring.event (kind, actor)
      select 'x', (select mooring_internal.actor())
        from generate_series(1, 10000)`
  )
    .map((row) => row['QUERY PLAN'])
    .join('\n')
  t.match(plan, /InitPlan/)
  for (const verb of ['claim', 'release', 'evict', 'make_assignments', 'tg_assignment__follow']) {
    const [{ body } = { body: '' }] = await sql<{ body: string }[]>`
      select p.prosrc as body
        from pg_proc p
       where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and p.proname = ${verb}`
    t.match(body, '(select mooring_internal.actor())', verb)
  }
  t.equal((await assignments(sql)).length, 3)
})
