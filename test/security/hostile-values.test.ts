// What a stolen agent can send: SQL in every text, names that shadow ours, what is huge, what takes
// long. Nothing of it may do anything but what the verb says.
import { randomUUID } from 'node:crypto'
import type { Sql } from 'postgres'
import t from 'tap'
import type { Test } from 'tap'
import { assignments, deployment } from '../helpers/factories.js'
import { login } from '../helpers/logins.js'
import { testDatabase } from '../helpers/postgres.js'
import { pattern } from '../sql/story.js'

const HOSTILE = [
  `'; drop schema mooring cascade; --`,
  `"; drop schema mooring cascade; --`,
  `\\'; drop table mooring.node; --`,
  `$$; drop table mooring.node; $$`,
  `%s %I %L %1$s`,
  `') returning *; delete from mooring.assignment; --`,
  `host-a' or '1'='1`,
  `{"a": 1}`,
  `{npm}`,
  `select pg_terminate_backend(1)`,
  `\u202egnp`,
  `a\nb`,
  `../../etc/passwd`,
  `mooring_node_1`,
  '',
  ' ',
  'x'.repeat(5000),
]

async function anAgent(t: Test) {
  const pg = await testDatabase(t)
  const agent = await login(t, pg, ['mooring_agent'])
  const session = randomUUID()
  await agent.sql`select from mooring.register_node('host-a', ${session}, '.', '{npm}')`
  const id = await deployment(pg.sql, { name: 'web' })
  await pg.sql`select from mooring.claim()`
  const [owned] = await assignments(pg.sql, id)
  return { pg, agent, session, owned: owned! }
}

const catalog = async (sql: Sql): Promise<unknown> =>
  (
    await sql`
      select count(*)::int as n, md5(string_agg(d, ',' order by d)) as all_of_it
        from (
          select p.oid::regprocedure::text || md5(p.prosrc) || p.proacl::text as d
            from pg_proc p
           where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
          union all
          select c.oid::regclass::text || coalesce(c.relacl::text, '')
            from pg_class c
           where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
          union all
          select r.rolname || r.rolsuper || r.rolcreaterole
            from pg_roles r
           where r.rolname like 'mooring%'
        ) x`
  )[0]

/**
 * An error with a code of ours or of bad input, or none: never a syntax error, never an internal
 * one.
 */
const CLEAR = /^(MR00\d|22|23|done$)/

t.test('SQL in a text argument is a text', async (t) => {
  const { pg, agent, session, owned } = await anAgent(t)
  const before = await catalog(pg.sql)
  const [{ request } = { request: '' }] = await pg.sql<
    { request: string }[]
  >`select mooring.request_log(${owned.id}::bigint) as request`
  const calls: Record<string, (sql: Sql, text: string) => PromiseLike<unknown>> = {
    'register_node: node': (sql, text) =>
      sql`select from mooring.register_node(${text}, ${randomUUID()}, '.')`,
    'register_node: trusts': (sql, text) =>
      sql`select from mooring.register_node('host-a', ${session}, ${text})`,
    'register_node: drivers': (sql, text) =>
      sql`select from mooring.register_node('host-a', ${session}, '.', array[${text}::text])`,
    'register_node: labels': (sql, text) =>
      sql`
        select
          from mooring.register_node(
            'host-a', ${session}, '.', labels => ${sql.json({ [text]: text })}
          )`,
    'register_node: URLs': (sql, text) =>
      sql`
        select
          from mooring.register_node(
            'host-a', ${session}, '.', agent_base_url => ${text}, gateway_base_url => ${text}
          )`,
    'register_node: version': (sql, text) =>
      sql`select from mooring.register_node('host-a', ${session}, '.', version => ${text})`,
    'register_node: containment': (sql, text) =>
      sql`select from mooring.register_node('host-a', ${session}, '.', containment => ${text})`,
    'heartbeat: node': (sql, text) => sql`select from mooring.heartbeat(${text}, ${session})`,
    'assignments_of: node': (sql, text) => sql`select from mooring.assignments_of(${text})`,
    'report: node': (sql, text) => sql`select from mooring.report(${text}, ${session}, '[]')`,
    'report: rows': (sql, text) =>
      sql`select from mooring.report('host-a', ${session}, ${sql.json(text)})`,
    'report: error and signal': (sql, text) =>
      sql`
        select
          from mooring.report(
            'host-a', ${session},
            ${sql.json([
              {
                assignment_id: owned.id,
                epoch: owned.epoch,
                state: 'failed',
                error: text,
                exit_signal: text,
              },
            ])}
          )`,
    'report: state': (sql, text) =>
      sql`
        select
          from mooring.report(
            'host-a', ${session},
            ${sql.json([
              {
                assignment_id: owned.id,
                epoch: owned.epoch,
                state: text,
              },
            ])}
          )`,
    'begin_leave: node': (sql, text) => sql`select mooring.begin_leave(${text}, ${session})`,
    'leave: node': (sql, text) => sql`select mooring.leave(${text}, ${session})`,
    'log_requests_of: node': (sql, text) =>
      sql`select from mooring.log_requests_of(${text}, ${session})`,
    'answer_log: node': (sql, text) =>
      sql`
        select mooring.answer_log(
          ${text}, ${session}, ${randomUUID()}, 0, 'x', null, false, 1, null
        )`,
    'answer_log: next': (sql, text) =>
      sql`
        select mooring.answer_log(
          'host-a', ${session}, ${request}, 0, 'x', ${text}, false, 1, null
        )`,
    'answer_log: error': (sql, text) =>
      sql`
        select mooring.answer_log(
          'host-a', ${session}, ${request}, null, null, null, null, null, ${text}
        )`,
    'tick: worker': (sql, text) => sql`select from mooring.tick(${text}, inline => true)`,
  }
  for (const [argument, call] of Object.entries(calls)) {
    for (const text of HOSTILE) {
      const code = await call(agent.sql, text).then(
        () => 'done',
        (error: { code: string }) => error.code,
      )
      if (!CLEAR.test(code))
        t.fail(`${argument}: ${code} after ${JSON.stringify(text.slice(0, 60))}`)
    }
    t.pass(argument)
  }
  t.same(await catalog(pg.sql), before)
  t.match(await assignments(pg.sql), [{ id: owned.id, epoch: owned.epoch, node: 'host-a' }])
  const operator = await login(t, pg, ['mooring_operator'])
  const verbs: Record<string, (sql: Sql, text: string) => PromiseLike<unknown>> = {
    upsert_node: (sql, text) =>
      sql`
        select
          from mooring.upsert_node(
            ${text}, labels => ${sql.json({ [text]: text })}, agent_base_url => ${text}
          )`,
    set_node_enabled: (sql, text) => sql`select from mooring.set_node_enabled(${text}, true)`,
    drain_node: (sql, text) => sql`select from mooring.drain_node('host-a', ${text})`,
    undrain_node: (sql, text) => sql`select from mooring.undrain_node(${text})`,
    forget_node: (sql, text) => sql`select from mooring.forget_node(${text})`,
    restart: (sql, text) => sql`select from mooring.restart(${owned.id}::bigint, ${text})`,
    reassign: (sql, text) => sql`select from mooring.reassign(${owned.id}::bigint, ${text})`,
    placements_of: (sql, text) => sql`select from mooring.placements_of(${text})`,
    'request_log: node': (sql, text) =>
      sql`select mooring.request_log(${owned.id}::bigint, node => ${text})`,
    'request_log: after': (sql, text) =>
      sql`select mooring.request_log(${owned.id}::bigint, after => ${text})`,
    show_log: (sql, text) => sql`call mooring.show_log(987654, node => ${text})`,
    role_name: (sql, text) =>
      sql`update mooring.node set role_name = ${text} where name = 'nobody'`,
  }
  for (const [verb, call] of Object.entries(verbs)) {
    for (const text of HOSTILE) {
      const code = await call(operator.sql, text).then(
        () => 'done',
        (error: { code: string }) => error.code,
      )
      if (!CLEAR.test(code)) t.fail(`${verb}: ${code} after ${JSON.stringify(text.slice(0, 60))}`)
    }
    t.pass(verb)
  }
  t.same(await catalog(pg.sql), before)
})

t.test('tables, functions and operators of the caller are never found by a verb', async (t) => {
  const { pg, agent, session, owned } = await anAgent(t)
  await pg.sql.unsafe(`grant create on schema public to ${agent.name}`)
  t.teardown(() => pg.sql.unsafe(`drop owned by ${agent.name}`).catch(() => {}))
  await agent.sql.unsafe(`
    create table public.stolen (who text);
    grant insert on public.stolen to public;
    create temp table node (
      id int, name text, role_name name, trusts text, drivers text[], version text,
      containment text, labels jsonb, max_assignments int, agent_base_url text,
      gateway_base_url text);
    create temp table heartbeat (node_id int, node text, session uuid, role_name text);
    insert into heartbeat values (1, 'host-b', '${session}', session_user);
    create temp table setting (agents_may_add_nodes boolean);
    create function pg_temp.steal(a text, b text) returns boolean language plpgsql as $f$
    begin
      insert into public.stolen values (current_user);
      return true;
    end $f$;
    create function public.steal(a text, b text) returns boolean language plpgsql as $f$
    begin
      insert into public.stolen values (current_user);
      return true;
    end $f$;
    create function public.clock_timestamp() returns timestamptz language plpgsql as $f$
    begin
      insert into public.stolen values (current_user);
      return pg_catalog.now();
    end $f$;
    create function public.format(text, text) returns text language plpgsql as $f$
    begin
      insert into public.stolen values (current_user);
      return '';
    end $f$;
    create operator public.= (leftarg = text, rightarg = text, function = public.steal);
    create operator public.~ (leftarg = text, rightarg = text, function = public.steal);
    create operator public.<> (leftarg = text, rightarg = text, function = public.steal);
    set search_path = pg_temp, public, pg_catalog, mooring`)
  await agent.sql`select * from mooring.heartbeat('host-a', ${session})`
  await agent.sql`select * from mooring.assignments_of('host-a', ${session})`
  await agent.sql`select * from mooring.register_node('host-a', ${session}, '^x@')`
  await agent.sql`
    select *
      from mooring.report(
        'host-a', ${session},
        ${agent.sql.json([{ assignment_id: owned.id, epoch: owned.epoch, state: 'running' }])}
      )`
  await agent.sql`select * from mooring.tick('agent host-a', inline => true)`
  await t.rejects(
    Promise.resolve(agent.sql`select * from mooring.heartbeat('host-b', ${session})`),
    { code: 'MR003' },
    'a row of its own making is not believed',
  )
  await agent.sql`select mooring.leave('host-a', ${session})`
  t.same(
    await pg.sql`select s.who from public.stolen s`,
    [],
    'nothing of the caller ran inside a verb',
  )
  await agent.sql.unsafe(`select 'a' operator(public.=) 'b'`)
  t.same(
    await pg.sql`select s.who from public.stolen s`,
    [{ who: agent.name }],
    'negative control: called by name it runs, as the caller',
  )
})

t.test('what is huge is refused or cut', async (t) => {
  const { pg, agent, session, owned } = await anAgent(t)
  const { sql } = agent
  const huge = 'x'.repeat(1_000_000)
  await t.rejects(
    Promise.resolve(sql`select from mooring.register_node('host-a', ${session}, ${huge})`),
    { code: 'MR007' },
    'a pattern',
  )
  await t.rejects(
    Promise.resolve(
      sql`select from mooring.register_node('host-a', ${session}, '.', version => ${huge})`,
    ),
    { code: 'MR007' },
    'a version',
  )
  await t.rejects(
    Promise.resolve(
      sql`
        select
          from mooring.register_node(
            'host-a', ${session}, '.', labels => ${sql.json({ a: huge })}
          )`,
    ),
    { code: '23514' },
    'labels',
  )
  await t.rejects(
    Promise.resolve(
      sql`select from mooring.register_node('host-a', ${session}, '.', agent_base_url => ${huge})`,
    ),
    { code: '23514' },
    'a URL',
  )
  await t.rejects(
    Promise.resolve(
      sql`
        select
          from mooring.register_node(
            'host-a', ${session}, '.', drivers => array_fill('npm'::text, array[1000000])
          )`,
    ),
    { code: 'MR007' },
    'drivers',
  )
  await t.rejects(
    Promise.resolve(
      sql`
        select mooring.answer_log(
          'host-a', ${session}, ${randomUUID()}, 0, convert_to(${huge}, 'UTF8'), null, false, 1,
          null
        )`,
    ),
    { code: 'MR007' },
    'a slice of a log',
  )
  await t.rejects(
    Promise.resolve(
      sql`
        select
          from mooring.report(
            'host-a', ${session},
            (select jsonb_agg(md5(g::text)) from generate_series(1, 2000000) g)
          )`,
    ),
    { code: 'MR007' },
    'a report',
  )
  await sql`
    select
      from mooring.report(
        'host-a', ${session},
        ${sql.json([
          {
            assignment_id: owned.id,
            epoch: owned.epoch,
            state: 'failed',
            error: huge,
            exit_signal: huge,
          },
        ])}
      )`
  t.match(
    await pg.sql`
      select length(r.last_error) as error, length(r.exit_signal) as signal from mooring.run r`,
    [{ error: 2000, signal: 40 }],
  )
})

t.test('a pattern that takes long to read is refused, or read in no time', async (t) => {
  const { agent, session } = await anAgent(t)
  for (const pattern of [
    '(a{1,255}){1,255}',
    '((((a{1,100}){1,100}){1,100}){1,100})',
    '(a*)*b',
    '(x+x+)+y',
    `${'(a|'.repeat(300)}${')'.repeat(300)}`,
    '(.*){1,32000}',
  ]) {
    const from = performance.now()
    const code =
      await agent.sql`select from mooring.register_node('host-a', ${session}, ${pattern})`.then(
        () => 'done',
        (error: { code: string }) => error.code,
      )
    t.match(
      code,
      /^(done|MR007)$/,
      `${pattern.slice(0, 40)}: ${code} in ${Math.round(performance.now() - from)} ms`,
    )
  }
})

t.test('notifications of any login are hints: they change nothing', async (t) => {
  const { pg, owned } = await anAgent(t)
  const stranger = await login(t, pg)
  await stranger.sql.unsafe(
    `do $$
    begin
      for i in 1..10000 loop
        perform pg_notify('mooring_node_1', i::text);
      end loop;
    end $$`,
  )
  t.match(await assignments(pg.sql), [
    { id: owned.id, epoch: owned.epoch, node: 'host-a', wanted: 'run' },
  ])
})

t.test(
  'without the right to make roles the schema is usable, and what is missing is said',
  async (t) => {
    const { pg } = await anAgent(t)
    await pg.sql
      .begin(async (sql) => {
        for (const role of ['agent', 'operator', 'viewer', 'workload'])
          await sql.unsafe(`alter role mooring_${role} rename to away_${process.pid}_${role}`)
        const [{ owner } = { owner: '' }] = await sql<
          { owner: string }[]
        >`select current_user::text as owner`
        await sql.unsafe(`create role limited_${process.pid} nologin in role ${owner}`)
        await sql.unsafe(`set local role limited_${process.pid}`)
        const rows = await sql<
          { role: string; problem: string }[]
        >`select r.role, r.problem from mooring.set_up_roles() r order by r.role`
        t.same(
          rows.map(({ role }) => role),
          ['mooring_agent', 'mooring_operator', 'mooring_viewer', 'mooring_workload'],
        )
        t.match(
          rows[0]!.problem,
          pattern(
            /role mooring_agent does not exist, and limited_\d+ may not create it: create /,
            /role mooring_agent; as a superuser, then run mooring migrate again/,
          ),
        )
        await sql`reset role`
        t.same(await sql`select from mooring.set_up_roles()`, [], 'a privileged role has made them')
        throw new Error('rolled back')
      })
      .catch((error: Error) => t.equal(error.message, 'rolled back'))
  },
)
