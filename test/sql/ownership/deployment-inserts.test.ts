import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import t from 'tap'
import postgres from 'postgres'
import type { ISql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, node } from '../../helpers/factories.js'
import { claim, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const placeJobs = async (sql: ISql) =>
  (
    await sql<
      { n: number }[]
    >`select count(*)::int as n from mooring_jobs.jobs where task_identifier = 'place'`
  )[0]!.n
const count = async (sql: ISql) =>
  (await sql<{ n: number }[]>`select count(*)::int as n from mooring.assignment`)[0]!.n

story(
  'insert..select of 100,000 rows is one statement, one place job, and 100,000 assignments',
  async (t, sql) => {
    await sql`
      insert into mooring.deployment (package_name, package_version, enabled)
      select 'http-server', '14.1.1', true
        from generate_series(1, 100000)`
    t.equal(await count(sql), 100_000)
    t.equal(await placeJobs(sql), 1)
  },
)

story('a transaction of many statements enqueues one place job', async (t, sql) => {
  for (let n = 0; n < 5; n++) await deployment(sql)
  await sql`update mooring.deployment set replicas = 2`
  await sql`update mooring.deployment set enabled = false`
  t.equal(await placeJobs(sql), 1)
})

story(
  'jobs are added after number two thousand million as before: the sequences begin again',
  async (t, sql) => {
    await sql`
      select setval(pg_get_serial_sequence('mooring_jobs._private_tasks', 'id'), 2147483647)`
    for (let n = 0; n < 2; n++) {
      await sql`delete from mooring_jobs._private_jobs`
      await deployment(sql)
      t.equal(await placeJobs(sql), 1)
    }
  },
)

void t.test('two transactions enqueue two jobs, neither waits for the other', async (t) => {
  const pg = await testDatabase(t)
  const [first, second] = [pg.client(), pg.client()]
  await first`begin`
  await deployment(first)
  await second`set lock_timeout = '10 s'`
  await deployment(second)
  await first`commit`
  t.equal(await placeJobs(pg.sql), 2)
})

void t.test(
  'a month of inserts without a worker leaves a hundred jobs, not one each',
  async (t) => {
    const { sql } = await testDatabase(t)
    await sql`
    do $$
    begin
      for n in 1..150 loop
        insert into mooring.deployment (package_name) values ('web');
        commit;
      end loop;
    end $$`.simple()
    t.equal(await placeJobs(sql), 100)
    t.equal(await count(sql), 150, 'the rounds place what has no job')
    await sql`insert into mooring_internal.worker (id) values ('w')`
    await deployment(sql)
    t.equal(await placeJobs(sql), 101, 'with a worker each transaction has its own again')
  },
)

void t.test('a COPY makes assignments and one place job', async (t) => {
  const pg = await testDatabase(t)
  const rows = Array.from(
    { length: 500 },
    (_, nr) => `site-${nr}\thttp-server\t{"PORT": "${nr}"}\t2\n`,
  )
  await pipeline(
    Readable.from(rows),
    await pg.sql`copy mooring.deployment (name, package_name, env, replicas) from stdin`.writable(),
  )
  t.equal(await count(pg.sql), 1000)
  t.equal(await placeJobs(pg.sql), 1)
  await node(pg.sql)
  t.equal((await claim(pg.sql)).length, 1000)
})

story('on conflict do nothing: only what was inserted gets assignments', async (t, sql) => {
  await deployment(sql, { name: 'a' })
  await sql`
    insert into mooring.deployment (name, package_name)
    values ('a', 'x'), ('b', 'x')
    on conflict (name) do nothing`
  t.equal(await count(sql), 2)
  await sql`
    insert into mooring.deployment (name, package_name) values ('a', 'x') on conflict do nothing`
  t.equal(await count(sql), 2)
})

story('on conflict do update: the new ones arrive and the old ones are edited', async (t, sql) => {
  const id = await deployment(sql, { name: 'a', package_name: 'x' })
  await sql`
    insert into mooring.deployment (name, package_name, replicas)
    values ('a', 'y', 3), ('b', 'y', 2)
    on conflict (name) do update set package_name = excluded.package_name,
    replicas = excluded.replicas`
  t.equal((await assignments(sql, id)).length, 3)
  t.equal((await assignments(sql, id))[0]!.generation, '2')
  t.equal(await count(sql), 5)
})

story('merge does both as well', async (t, sql) => {
  await deployment(sql, { name: 'a' })
  await sql`
    merge into mooring.deployment d using (
      values ('a', 2), ('b', 1)
    ) v (name, replicas) on d.name = v.name when matched then
    update set replicas = v.replicas when not matched then insert (name, package_name, replicas)
    values (v.name, 'x', v.replicas)`
  t.equal(await count(sql), 3)
})

story('a statement that touches no row does nothing at all', async (t, sql) => {
  await sql`insert into mooring.deployment (package_name) select 'x' where false`
  await sql`update mooring.deployment set replicas = 9 where false`
  await sql`delete from mooring.deployment where false`
  t.equal(await placeJobs(sql), 0)
})

story('rows of all kinds in one statement', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await sql`
    insert into mooring.deployment (package_name, type, enabled, replicas)
    values ('a', 'deployment', true, 2), ('b', 'deployment', false, 1), ('c', 'daemon', true, 1),
           ('d', 'daemon', false, 1), ('e', 'deployment', true, 0)`
  const rows = await sql`
      select package_name, ordinal, node, wanted from mooring.placement order by assignment_id`
  t.same(
    rows.map((row) => Object.values(row).join(' ')),
    ['a 0  run', 'a 1  run', 'b 0  stop', 'c  host-a run'],
  )
})

void t.test(
  "without graphile-worker's schema an insert is a warning, never an error",
  async (t) => {
    const pg = await testDatabase(t)
    await pg.sql`drop schema mooring_jobs cascade`
    const notices: postgres.Notice[] = []
    const sql = postgres(pg.url, { max: 1, onnotice: (notice) => notices.push(notice) })
    t.teardown(() => sql.end())
    const id = await deployment(sql)
    t.match(notices, [
      { severity: 'WARNING', message: /no place job was queued .*; the next round does the work/ },
    ])
    await sql`update mooring.deployment set replicas = 2 where id = ${id}`
    await sql`delete from mooring.deployment where id = ${id}`
    t.ok(await node(sql), 'and an agent can register')
  },
)

void t.test('a role that may only insert deployments can do that and nothing else', async (t) => {
  const pg = await testDatabase(t)
  const role = `app_${pg.name}`
  t.teardown(async () => {
    await pg.sql.unsafe(`drop owned by ${role}; drop role ${role}`)
  })
  await pg.sql.unsafe(
    `
      create role ${role} login password 'app';
      grant usage on schema mooring to ${role};
      grant insert on mooring.deployment to ${role}`,
  )
  const app = postgres(Object.assign(new URL(pg.url), { username: role, password: 'app' }).href, {
    max: 1,
    onnotice: () => {},
  })
  t.teardown(() => app.end())
  await app`
    insert into mooring.deployment (package_name, replicas, env)
    values ('http-server', 2, '{"TOKEN": "x"}')`
  await app`insert into mooring.deployment (package_name, type) values ('http-server', 'daemon')`
  t.equal(await count(pg.sql), 2)
  t.equal(await placeJobs(pg.sql), 2)
  await pg.sql.unsafe(`grant select, update, delete on mooring.deployment to ${role}`)
  await app`update mooring.deployment set enabled = false, replicas = 3, selector = '{"a": "b"}'`
  await app`delete from mooring.deployment where type = 'daemon'`
  t.equal(await count(pg.sql), 3, 'edits work through the triggers as well')
  await pg.sql.unsafe(`revoke select, update, delete on mooring.deployment from ${role}`)
  const denied = { code: '42501' }
  await t.rejects(app`select * from mooring.deployment`, denied, 'it cannot read')
  await t.rejects(app`update mooring.deployment set enabled = false`, denied)
  await t.rejects(app`select * from mooring.assignment`, denied)
  await t.rejects(app`select * from mooring.claim()`, denied)
  await t.rejects(app`select * from mooring.register_node('x', gen_random_uuid())`, denied)
  await t.rejects(
    app`select mooring_internal.release(array[1]::bigint[], array[1]::bigint[], 'a', 'b')`,
    denied,
  )
})
