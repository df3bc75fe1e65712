// mooring.doctor(): each finding has its control, the same check of the same fleet before it was
// hurt.
import t from 'tap'
import { migrate } from '../../../postgres/migrate/migrate.js'
import {
  age,
  beat,
  deployment,
  deployments,
  node,
  report,
  assignments,
} from '../../helpers/factories.js'
import type { Db, TestNode } from '../../helpers/factories.js'
import { login } from '../../helpers/logins.js'
import { emptyDatabase, testDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'
import { claim, pattern, storiesIn } from '../story.js'

interface Finding {
  check_name: string
  level: string
  found: string
  way_out: string | null
}

const pg = await testDatabase(t)
const story = storiesIn(pg, t)
/** The tests' server gives durability away for speed. */
const EXPECTED = ['durability']

const doctor = async (sql: Db) => [...(await sql<Finding[]>`select * from mooring.doctor()`)]
const check = async (sql: Db, name: string): Promise<Finding> =>
  (await doctor(sql)).find(({ check_name }) => check_name === name) ?? {
    check_name: name,
    level: 'missing',
    found: '',
    way_out: null,
  }

/** Two hosts, a worker, rounds that are done, something that runs. */
async function fleet(sql: Db): Promise<TestNode[]> {
  const hosts = [
    await node(sql, { name: 'host-a', trusts: '^http-server@' }),
    await node(sql, { name: 'host-b' }),
  ]
  await sql`update mooring.node set version = '0.1.0', containment = 'pid-namespace'`
  await sql`
    insert into mooring_internal.worker (id, pool_ids) values ('here:1:abc@0.1.0', '{pool-alive}')`
  await sql`
    update mooring_internal.round set done_at = clock_timestamp(), due_at = clock_timestamp()`
  await deployments(sql, 4)
  await claim(sql)
  for (const host of hosts) {
    for (const row of (await assignments(sql)).filter((row) => row.node === host.name))
      await report(sql, host, row, 'running')
    await beat(sql, host)
  }
  return hosts
}

story('a healthy fleet: one row per check, and nothing to do', async (t, sql) => {
  await fleet(sql)
  const rows = await doctor(sql)
  t.same(
    rows.filter(({ level, check_name }) => level !== 'ok' && !EXPECTED.includes(check_name)),
    [],
  )
  t.equal(new Set(rows.map(({ check_name }) => check_name)).size, rows.length)
  t.ok(rows.length > 30)
  t.same(
    rows.filter(({ level, way_out }) => level !== 'ok' && !way_out),
    [],
    'what is not well has a way out',
  )
})

story(
  'a node is started again as it was, and one that can run nothing is told of',
  async (t, sql) => {
    await node(sql, { name: 'host-a', seen: '1 hour ago', trusts: "^it's@" })
    t.match(await check(sql, 'nodes'), {
      way_out: /mooring agent --name host-a --trust '\^it'\\''s@' --allow-exec;/,
    })
    t.match(await check(sql, 'trust'), { level: 'ok' })
    await node(sql, { name: 'host-b', trusts: null, drivers: ['npm'] })
    t.match(await check(sql, 'trust'), {
      level: 'warning',
      found: /nothing can run there: host-b$/,
      way_out: /--name host-b --trust/,
    })
  },
)

story('for an empty database doctor says how to begin', async (t, sql) => {
  t.match(await check(sql, 'nodes'), {
    level: 'warning',
    found: 'none has registered',
    way_out: /mooring agent --name/,
  })
  t.match(await check(sql, 'workers'), { level: 'warning', way_out: 'mooring worker' })
  t.match(await check(sql, 'rounds'), { level: 'warning', found: /never done/ })
})

/** [what, check, how it is hurt, level, found, way out] */
const HURTS: [string, string, string, string, RegExp, RegExp][] = [
  [
    'a crash that no tick has noticed yet',
    'hold',
    'delete from mooring_internal.outage_marker',
    'warning',
    /nothing is reaped, placed .* crashed/,
    /ends by itself/,
  ],
  [
    'half the fleet silent',
    'reaping',
    `update mooring_internal.reap_pause set paused_at = now(), reason = '6 of 10 nodes are silent'`,
    'problem',
    /6 of 10 nodes are silent; their work is not reaped/,
    /select mooring.resume_reaping\(\);/,
  ],
  [
    'and resumed',
    'reaping',
    `
      update mooring_internal.reap_pause
         set paused_at = now(),
             reason = '6 of 10 nodes are silent',
             resumed_at = now(),
             resumed_by = 'alice'`,
    'warning',
    /by order of alice/,
    /by itself/,
  ],
  [
    'no worker',
    'workers',
    `update mooring_internal.worker set ticked_at = now() - interval '1 min'`,
    'warning',
    /the agents run the rounds/,
    /^mooring worker$/,
  ],
  [
    'rounds that no worker runs',
    'rounds',
    `
      update mooring_internal.round
         set done_at = now() - interval '1 min'
       where name in ('reap', 'prune')`,
    'problem',
    /overdue: reap, last done \d+ s|overdue: reap/,
    /mooring worker/,
  ],
  [
    'a policy that fails',
    'failures',
    `
      insert into mooring.event (kind, reason)
      values ('claim_failed', 'policy mine failed: division by zero')`,
    'warning',
    /1 in the last 10 min; the last: claim_failed: policy mine failed/,
    /last_events/,
  ],
  [
    'a silent host',
    'nodes',
    `update mooring.heartbeat set beat_at = beat_at - interval '1 hour' where node = 'host-b'`,
    'warning',
    /^1 of 2 live; not live: host-b \(silent for 01:00:\d\d\)$/,
    /mooring agent --name host-b --trust '\.' --allow-exec; .* mooring.forget_node\('host-b'\);/,
  ],
  [
    'every host silent',
    'nodes',
    `update mooring.heartbeat set beat_at = beat_at - interval '1 hour'`,
    'problem',
    /^0 of 2 live/,
    /mooring agent --name host-a/,
  ],
  [
    'a full disk',
    'disks',
    `update mooring.heartbeat set disk_free_pct = 3 where node = 'host-b'`,
    'warning',
    /below 15 % free, so without new work: host-b \(3.0 %\)/,
    /disk_free_min_pct/,
  ],
  [
    'an agent of another version',
    'versions',
    `update mooring.node set version = '0.2.0' where name = 'host-b'`,
    'warning',
    /0.2.0: agent of host-b; 0.1.0: agent of host-a; 0.1.0: worker here:1:abc/,
    /--handover/,
  ],
  [
    'a worker of another version',
    'versions',
    `update mooring_internal.worker set id = 'here:1:abc@0.0.9'`,
    'warning',
    /0.0.9: worker/,
    /restart the older workers/,
  ],
  [
    'beats that come late',
    'beats',
    `update mooring.heartbeat set beat_at = beat_at - interval '8 s' where node = 'host-b'`,
    'warning',
    /the oldest beat of a live node is [\d.]+ s old; more than half a lease ago: host-b/,
    /lease_ttl/,
  ],
  [
    'weak containment under work that must stop',
    'containment',
    `update mooring.node set containment = 'process-group' where name = 'host-a'`,
    'warning',
    /process-group only, or unknown: host-a; they run 2 assignments/,
    /util-linux/,
  ],
  [
    'work that has nowhere to go',
    'waiting work',
    `
      insert into mooring.deployment (package_name, selector) values ('left-pad', '{"zone": "x"}');
      update mooring.assignment set waiting_since = now() - interval '2 min' where node_id is null`,
    'warning',
    /^1 assignment waits for up to 00:02:\d\d: 1 x no node has the labels/,
    /mooring.unplaced/,
  ],
  [
    'for long',
    'waiting work',
    `
      insert into mooring.deployment (package_name, selector)
      values ('left-pad', '{"zone": "x"}');
      update mooring.assignment
         set waiting_since = now() - interval '1 hour'
       where node_id is null`,
    'problem',
    /1 x no node has the labels/,
    /mooring.unplaced/,
  ],
  [
    'assignments that no deployment wants',
    'assignments',
    `
      alter table mooring.deployment disable trigger tg_deployment__end;
      delete from mooring.deployment where id = (select min(id) from mooring.deployment)`,
    'warning',
    /^are not what the deployments want: deployment \d+$/,
    /mooring.evict\(\)/,
  ],
  [
    'loads that were emptied by hand',
    'loads',
    'delete from mooring_internal.node_load',
    'warning',
    /^node_load is wrong: host-a counted as 0, owns 2, host-b/,
    /mooring.evict\(\)/,
  ],
  [
    'work that crashes again and again',
    'failing work',
    `
      update mooring.run
         set state = 'backoff', restarts = 7, last_error = 'exit code 1'
       where assignment_id = (select min(id) from mooring.assignment)`,
    'warning',
    /^1 fails again and again: deployment \d+: assignment \d+ on host-[ab]: exit code 1/,
    /mooring logs \d+; select \* from mooring.failing;/,
  ],
  [
    'replicas on one node that could be parted',
    'twins',
    `
      update mooring.node set enabled = false where name = 'host-b';
      insert into mooring.deployment (name, package_name, replicas)
      values ('web', 'http-server', 2);
      select from mooring.claim();
      update mooring.node set enabled = true, trusts = '.' where name = 'host-b'`,
    'warning',
    /^one host would take both: web: two of it on host-a, host-b has none$/,
    /mooring rebalance --apply; .* mooring.rebalance\(10, dry_run => false\)/,
  ],
  [
    'a deployment that crashes again and again',
    'deployments',
    `
      update mooring.run
         set state = 'backoff', restarts = 7, last_error = 'exit code 1'
       where assignment_id = (select min(id) from mooring.assignment)`,
    'problem',
    /^1 is down: deployment \d+: 0 of 1 running, exit code 1$/,
    /mooring describe deployment id:\d+; .* from mooring.failing; .* from mooring.unplaced;/,
  ],
  [
    'a deployment that waits for a node',
    'deployments',
    `
      insert into mooring.deployment (name, package_name, replicas, selector)
      values ('web', 'left-pad', 3, '{"zone": "x"}');
      update mooring.assignment set waiting_since = now() - interval '2 min' where node_id is null`,
    'problem',
    /^1 is down: web: 0 of 3 running, it waits for a node$/,
    /mooring.unplaced/,
  ],
  [
    'all instances on a silent node',
    'deployments',
    `
      update mooring.heartbeat
         set beat_at = now() - interval '10 min'
       where node = 'host-a'`,
    'problem',
    /are down: deployment \d+: 0 of 1 running, host-a is silent, /,
    /mooring.failing/,
  ],
  [
    'a drain with nowhere to go',
    'drains',
    `update mooring.node set max_assignments = 2; select from mooring.drain_node('host-a')`,
    'warning',
    /host-a: 2 left, assignment \d+ and 1 more: no other node can take it/,
    /undrain_node\('host-a'\)/,
  ],
  [
    'a right that was revoked',
    'grants',
    'revoke execute on function mooring.explain from mooring_viewer',
    'problem',
    /1 are missing: mooring_viewer lacks execute on explain\(bigint\)/,
    /set_up_roles\(\);/,
  ],
  [
    'a verb granted to public',
    'grants to all',
    'grant execute on function mooring.claim to public',
    'problem',
    /PUBLIC may execute on claim\(integer\)/,
    /revoke all on all functions/,
  ],
  [
    'a table for a group',
    'added grants',
    'grant update (node_id) on mooring.assignment to mooring_viewer',
    'warning',
    /update on assignment.node_id for mooring_viewer/,
    /revoke/,
  ],
  [
    'a trigger that is off',
    'triggers',
    'alter table mooring.assignment disable trigger tg_assignment__follow',
    'problem',
    /switched off: tg_assignment__follow on assignment/,
    /alter table assignment enable trigger tg_assignment__follow;/,
  ],
  [
    'triggers that this session does not run',
    'triggers',
    `set local session_replication_role = replica`,
    'problem',
    /session_replication_role is replica/,
    /reset/,
  ],
  [
    'epochs of before a pg_upgrade',
    'epochs',
    `
      update mooring.assignment
         set epoch = (2::bigint << 40) + 7
       where id = (select min(a.id) from mooring.assignment a)`,
    'warning',
    /given on timeline 3, and the server is on 1:/,
    /synchronous standby/,
  ],
  [
    'history that is not pruned',
    'history',
    `
      insert into mooring.event (id, at, kind) overriding system value
      values (0, now() - interval '40 days', 'x')`,
    'warning',
    /the oldest event is 40 days/,
    /prune_events\(\)/,
  ],
]

for (const [what, name, hurt, level, found, wayOut] of HURTS) {
  story(`${what}: ${name}`, async (t, sql) => {
    await fleet(sql)
    t.match(await check(sql, name), { level: 'ok' }, 'control: before')
    await sql.unsafe(hurt)
    t.match(await check(sql, name), { level, found, way_out: wayOut })
  })
}

story('a job that a dead worker has locked is named, and the way out frees it', async (t, sql) => {
  await fleet(sql)
  await sql`select from mooring_jobs.add_job('place')`
  const lock = (by: string) =>
    sql`
      update mooring_jobs._private_jobs
         set locked_at = now() - interval '1 hour', locked_by = ${by}`
  await lock('pool-alive')
  t.match(await check(sql, 'job locks'), { level: 'ok' }, 'control: one of a worker that ticks')
  await lock("pool-'dead")
  const found = await check(sql, 'job locks')
  t.match(found, {
    level: 'problem',
    found: /jobs are locked by workers that do not tick \(pool-'dead\)/,
    way_out: /force_unlock_workers/,
  })
  await sql.unsafe(found.way_out!)
  t.match(await check(sql, 'job locks'), { level: 'ok' })
  await sql`update mooring_jobs._private_jobs set run_at = now() - interval '5 min'`
  t.match(await check(sql, 'job queue'), {
    level: 'warning',
    found: /jobs are due for up to 00:05:00/,
  })
})

story('each way out that is SQL helps when it is run', async (t, sql) => {
  await fleet(sql)
  for (const [name, hurt] of [
    ['triggers', 'alter table mooring.node disable trigger all'],
    ['grants', 'revoke execute on function mooring.history from mooring_viewer'],
    [
      'grants to all',
      'grant execute on function mooring.claim to public; grant select on mooring.run to public',
    ],
  ] as const) {
    await sql.unsafe(hurt)
    for (
      let tries = 0, way = (await check(sql, name)).way_out;
      way !== null && tries < 20;
      tries++, way = (await check(sql, name)).way_out
    ) {
      await sql.unsafe(
        name === 'grants'
          ? 'select from mooring.set_up_roles()'
          : `set local search_path = mooring; ${way}`,
      )
    }
    t.match(await check(sql, name), { level: 'ok' }, name)
  }
})

story('a theme that fails is a finding, and the others are looked at', async (t, sql) => {
  await sql.unsafe('alter table mooring_internal.reap_pause rename column reason to why')
  const rows = await doctor(sql)
  t.match(
    rows.find(({ check_name }) => check_name === 'rounds'),
    {
      level: 'warning',
      found: /^could not be looked at: .*reason/,
      way_out: 'select * from mooring_internal.doctor_rounds();',
    },
  )
  t.ok(rows.some(({ check_name }) => check_name === 'encryption'))
})

void t.test(
  'I16: doctor shows bloat under a stuck snapshot and its holder, without the text of its query',
  async (t) => {
    const { sql, client } = await testDatabase(t)
    const host = await node(sql)
    const stuck = client('nightly dump')
    await sql`vacuum mooring.heartbeat`
    t.match(
      await check(sql, 'heartbeat table'),
      { level: 'ok', found: /^1 nodes on 1 pages/ },
      'control',
    )
    await stuck`begin isolation level repeatable read`
    await stuck`select 'hunter2' as secret, pg_current_snapshot()`
    await sql`
      do $$
      begin
        for i in 1..16000 loop
          update mooring.heartbeat set beat_at = clock_timestamp();
        end loop;
      end $$`
    await beat(sql, host)
    await waitFor(async () => (await check(sql, 'heartbeat table')).level !== 'ok', {
      label: 'the bloat is reported',
    })
    t.match(await check(sql, 'heartbeat table'), {
      found: /1 nodes on \d{3} pages/,
      way_out: /vacuum mooring.heartbeat/,
    })
    const [found] = await sql<
      Finding[]
    >`select * from mooring_internal.doctor_sessions('0 s', '0 s')`
    t.match(found, {
      check_name: 'long transactions',
      level: 'warning',
      found: pattern(
        /^pid \d+ \(\w+, nightly dump, idle in transaction, open for [\d.]+ s\): /,
        /vacuum cannot clean/,
      ),
      way_out: /select pg_terminate_backend\(\d+\);/,
    })
    t.notMatch(JSON.stringify(await doctor(sql)), 'hunter2')
    t.match(
      await check(sql, 'long transactions'),
      { level: 'ok' },
      'a young snapshot is not reported',
    )
    await stuck`rollback`
  },
)

void t.test(
  'prepared transactions, idle slots and lock waits are named with the way out',
  async (t) => {
    const { sql, client } = await testDatabase(t)
    const [forgotten, waiting] = [client('forgotten psql'), client('migration')]
    const look = async (name: string) =>
      (await sql<Finding[]>`select * from mooring_internal.doctor_sessions('0 s', '0 s')`).find(
        ({ check_name }) => check_name === name,
      )!
    const gid = `it's ${process.pid}`
    t.match(await look('prepared transactions'), { level: 'ok' }, 'control')
    await forgotten
      .begin(async (tx) => {
        await tx`create table public.x ()`
        await tx.unsafe(`prepare transaction '${gid.replace("'", "''")}'`)
      })
      .catch(() => {})
    const prepared = await look('prepared transactions')
    t.match(prepared, {
      level: 'problem',
      found: /'it''s \d+' \(\w+/,
      way_out: /^rollback prepared 'it''s/,
    })
    await sql.unsafe(prepared.way_out!.replace(/;.*/, ''))
    t.match(await look('prepared transactions'), { level: 'ok' })
    t.match(await look('lock waits'), { level: 'ok' }, 'control')
    await forgotten`begin`
    await forgotten`select from mooring.node`
    const altering = waiting`alter table mooring.node add column zone text`.catch(
      (error: unknown) => error,
    )
    await waitFor(async () => (await look('lock waits')).level !== 'ok', {
      label: 'the wait is reported',
    })
    const found = await look('lock waits')
    t.match(found, {
      level: 'problem',
      found:
        /\(migration\) waits [\d.]+ s for AccessExclusiveLock on mooring.node, held by pid \d+/,
    })
    await sql.unsafe(/select pg_terminate_backend\(\d+\)/.exec(found.way_out!)![0])
    await altering
    await waitFor(async () => (await look('lock waits')).level === 'ok', { label: 'nobody waits' })
  },
)

void t.test(
  'a locked table stops doctor for one second at most, and doctor names the holder',
  async (t) => {
    const { sql, client } = await testDatabase(t)
    const migration = client('a migration that hangs')
    const [{ pid }] = await migration<[{ pid: number }]>`select pg_backend_pid() as pid`
    // a clone of this database on the same server: its tables have the same numbers
    const copy = (await testDatabase(t)).client('a migration of another database')
    await copy`begin`
    await copy`
      do $$
      begin
        execute (
          select 'lock table ' || string_agg(c.oid::regclass::text, ', ')
                   || ' in access exclusive mode'
            from pg_class c
           where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
             and c.relkind = 'r');
      end $$`
    await migration`begin`
    await migration`lock table mooring.heartbeat in access exclusive mode`
    const rows = await doctor(sql)
    const nodes = rows.find(({ check_name }) => check_name === 'nodes')!
    t.match(nodes, {
      level: 'problem',
      found: `could not be looked at: a table of Mooring is locked by pid ${pid}`,
    })
    t.match(
      rows.find(({ check_name }) => check_name === 'grants'),
      { level: 'ok' },
      'what needs no table is looked at',
    )
    await sql.unsafe(/select pg_terminate_backend\(\d+\)/.exec(nodes.way_out!)![0])
    await waitFor(async () => (await check(sql, 'nodes')).found === 'none has registered', {
      label: 'the way out helps',
    })
  },
)

void t.test(
  'a viewer asks and is answered in full; an agent and a workload may not ask',
  async (t) => {
    const database = await testDatabase(t)
    await fleet(database.sql)
    const viewer = await login(t, database, ['mooring_viewer'])
    const rows = await doctor(viewer.sql)
    t.same(
      rows.filter(({ found }) => found.includes('could not be looked at')),
      [],
    )
    t.match(
      rows.find(({ check_name }) => check_name === 'your role'),
      { level: 'ok', found: `${viewer.name} is a member of mooring_viewer` },
    )
    t.match(await check((await login(t, database, ['mooring_operator'])).sql, 'your role'), {
      level: 'ok',
      found: /is a member of mooring_operator, mooring_viewer$/,
    })
    for (const group of ['mooring_agent', 'mooring_workload'])
      await t.rejects(doctor((await login(t, database, [group])).sql), { code: '42501' }, group)
  },
)

void t.test(
  'where the owner of the schema is no superuser, doctor says what is not visible to it',
  async (t) => {
    const database = await emptyDatabase(t)
    const owner = await login(t, database)
    await database.sql.unsafe(`grant create on database ${database.name} to ${owner.name}`)
    await migrate({ databaseUrl: owner.url })
    const other = database.client('somebody else')
    await other`begin isolation level repeatable read`
    await other`select 1`
    const rows = await doctor(owner.sql)
    t.same(
      rows.filter(({ found }) => found.includes('could not be looked at')),
      [],
    )
    t.match(
      rows.find(({ check_name }) => check_name === 'your role'),
      { level: 'ok', found: /acts as the owner/ },
    )
    t.match(
      rows.find(({ check_name }) => check_name === 'encryption'),
      { level: 'ok' },
    )
    await other`rollback`
  },
)

story(
  'what a dead host leaves is not said twice: silent and late are two things',
  async (t, sql) => {
    await fleet(sql)
    await age(sql, 'host-b', '1 hour ago')
    t.match(await check(sql, 'beats'), { level: 'ok' })
    const id = await deployment(sql, { policy: 'none' })
    await sql`
      update mooring.assignment
         set waiting_since = now() - interval '1 hour'
       where deployment_id = ${id}`
    t.match(
      await check(sql, 'waiting work'),
      { level: 'ok' },
      'what policy none leaves to a person is no finding',
    )
  },
)

story(
  'a deployment of which one instance runs, or was just placed, is not down',
  async (t, sql) => {
    await fleet(sql)
    const id = await deployment(sql, { name: 'web', replicas: 2 })
    await claim(sql)
    const rows = await assignments(sql, id)
    for (const row of rows) {
      t.match(await check(sql, 'deployments'), { level: 'ok' })
      await sql`
      insert into mooring.run (
        assignment_id, deployment_id, node_id, epoch, generation, state, restarts, last_error)
      select a.id, a.deployment_id, a.node_id, a.epoch, 1, 'backoff', 4, 'exited with code 3'
        from mooring.assignment a
       where a.id = ${row.id}`
    }
    t.match(await check(sql, 'deployments'), {
      level: 'problem',
      found: '1 is down: web: 0 of 2 running, exited with code 3',
    })
    await sql`update mooring.deployment set enabled = false where id = ${id}`
    t.match(await check(sql, 'deployments'), { level: 'ok' }, 'it shall not run')
  },
)

story('a node whose agent left in order is told of, and is no alarm', async (t, sql) => {
  await fleet(sql)
  const leave = (name: string) => sql`
    select mooring.leave(h.node, h.session) from mooring.heartbeat h where h.node = ${name}`
  await leave('host-b')
  t.match(await check(sql, 'nodes'), {
    level: 'ok',
    found: /^1 of 2 live; left in order: host-b \(\d+ s ago\)$/,
    way_out: null,
  })
  await leave('host-a')
  t.match(
    await check(sql, 'nodes'),
    { level: 'problem', found: /^0 of 2 live; left in order: host-a .*, host-b/ },
    'with no node nothing runs',
  )
})
