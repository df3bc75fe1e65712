import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'
import {
  age,
  assignments,
  beat,
  deployment,
  deployments,
  node,
  report,
} from '../../helpers/factories.js'
import { claim, loads, patient, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const assigned = async (sql: TransactionSql) =>
  Object.fromEntries(
    (
      await sql`
        select node_id, assigned from mooring_internal.assigned_per_node() where assigned <> 0`
    ).map(({ node_id, assigned }) => [node_id, assigned]),
  )

story('a DBA may place a row by hand: it becomes an assignment like any other', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql, { lease_ttl: '40 s', policy: 'none' })
  await sql`update mooring.assignment set node_id = ${host.id}`
  t.match((await assignments(sql))[0], { node: 'host-a', epoch: '1', wanted: 'run' })
  const [row] = await sql`
      select extract(epoch from lease_ttl)::int as ttl, assigned_at is not null as stamped,
             waiting_since
        from mooring.assignment`
  t.same(row, { ttl: 40, stamped: true, waiting_since: null })
  t.same(await assigned(sql), { [host.id]: 1 })
  t.equal((await beat(sql, host)).owned, 1)
})

story('placed by hand it is on its way to no other node any more', async (t, sql) => {
  const [a, b, c] = [
    await node(sql, { name: 'host-a' }),
    await node(sql, { name: 'host-b', max_assignments: 1 }),
    await node(sql, { name: 'host-c' }),
  ]
  const id = await deployment(sql, { pinned_node: 'host-a' })
  await claim(sql)
  await sql`update mooring.deployment set pinned_node = null`
  await sql`select mooring.reassign(id, 'host-b') from mooring.assignment`
  await report(sql, a, (await assignments(sql, id))[0]!, 'stopped')
  await sql`update mooring.assignment set node_id = ${c.id}`
  t.same(
    [...(await sql`select move_to, move_reason from mooring.assignment`)],
    [{ move_to: null, move_reason: null }],
  )
  t.same([...(await sql`select from mooring_internal.moves_under_way()`)], [])
  await deployment(sql, { pinned_node: 'host-b' })
  t.equal((await claim(sql)).length, 1, 'the place on host-b is free')
  t.ok(b)
})

story('and free it by hand when its owner is dead: the epoch goes up', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await age(sql, 'host-a', '15.1 seconds ago')
  await sql`update mooring.assignment set node_id = null`
  t.match((await assignments(sql))[0], { node: null, epoch: '2' })
  const [row] = await sql`
      select last_node_id, lease_ttl, assigned_at, waiting_since is not null as waits
        from mooring.assignment`
  t.same(row, { last_node_id: host.id, lease_ttl: null, assigned_at: null, waits: true })
  t.same(await assigned(sql), {})
})

const freed = (sql: TransactionSql) => sql`update mooring.assignment set node_id = null`

story('while its owner may still run it, it is not freed by hand', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const id = await deployment(sql)
  await claim(sql)
  const why = {
    code: 'MR006',
    message: /its owner may still run it/,
    hint: /wanted = 'stop'.*reassign/,
  }
  await refused(t, sql, freed, why, 'live')
  await sql`update mooring.setting set reap_margin = '1 min'`
  await age(sql, 'host-a', '30 seconds ago')
  await refused(t, sql, freed, why, 'its lease is over, the margin is not')
  await sql`
    update mooring.assignment
       set lease_ttl = '1 min', assigned_at = assigned_at - interval '1 hour'`
  await age(sql, 'host-a', '90 seconds ago')
  await refused(t, sql, freed, why, 'this one has a longer lease')
  t.match((await assignments(sql, id))[0], { node: 'host-a', epoch: '1' })
  await age(sql, 'host-a', '121 seconds ago')
  await sql`delete from mooring_internal.outage_marker`
  await refused(t, sql, freed, why, 'in a hold its silence proves nothing')
  await sql`select mooring_internal.notice_outage()`
  await sql`
    update mooring_internal.pulse set hold_until = clock_timestamp(), pulse_at = clock_timestamp()`
  await freed(sql)
  t.match((await assignments(sql, id))[0], { node: null, epoch: '2' })
  t.ok(host)
})

story(
  'the way out in the hint works: its owner is ordered to stop it, and reports',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    const id = await deployment(sql)
    await claim(sql)
    await sql`update mooring.assignment set wanted = 'stop'`
    t.equal(await report(sql, host, (await assignments(sql, id))[0]!, 'stopped'), true)
    t.match((await assignments(sql, id))[0], { node: null, epoch: '2', wanted: 'run' })
  },
)

story('what was to stop and is freed by hand is wanted as its deployment says', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  const [stopped, moved, off, gone] = [
    await deployment(sql, { pinned_node: 'host-a' }),
    await deployment(sql),
    await deployment(sql),
    await deployment(sql),
  ]
  await sql`update mooring.node set enabled = false where name = 'host-b'`
  await claim(sql)
  await sql`update mooring.node set enabled = true where name = 'host-b'`
  await sql`
    update mooring.assignment
       set wanted = 'stop', stop_reason = 'by hand'
     where deployment_id = ${stopped}`
  await sql`
    select
      from mooring.reassign(
        (select id from mooring.assignment where deployment_id = ${moved}), 'host-b'
      )`
  await sql`update mooring.deployment set enabled = false where id = ${off}`
  await sql`delete from mooring.deployment where id = ${gone}`
  await age(sql, 'host-a', '15.1 seconds ago')
  await freed(sql)
  const rows = await sql`
      select deployment_id, wanted, stop_reason, move_reason is not null as moves
        from mooring.assignment
       order by id`
  t.same(
    [...rows],
    [
      { deployment_id: stopped, wanted: 'run', stop_reason: null, moves: false },
      { deployment_id: moved, wanted: 'run', stop_reason: null, moves: true },
      { deployment_id: off, wanted: 'stop', stop_reason: null, moves: false },
      { deployment_id: gone, wanted: 'stop', stop_reason: null, moves: false },
    ],
  )
  t.same(
    (await sql`select deployment_id from mooring.unplaced order by 1`).map(
      (row) => row.deployment_id,
    ),
    [stopped, moved],
    'and what waits is shown',
  )
  await beat(sql, host)
  t.equal((await claim(sql)).length, 2)
  await sql`select from mooring.evict()`
  t.same(await assignments(sql, gone), [], 'nothing waits for what was deleted')
})

story('of a node that left, or was never there, it is freed at once', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const never = await node(sql, { name: 'host-b', seen: 'never' })
  await deployments(sql, 2)
  await sql`
    update mooring.assignment
       set node_id = case when id % 2 = 0 then ${host.id}::int else ${never.id}::int end`
  await sql`update mooring.heartbeat set session = null where node = 'host-a'`
  await freed(sql)
  t.ok((await assignments(sql)).every(({ node, epoch }) => node === null && epoch === '2'))
})

const deleted = (sql: TransactionSql) => sql`delete from mooring.assignment`

story('nor is its row deleted by hand: nothing would be left to fence', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const id = await deployment(sql)
  await deployment(sql, { type: 'daemon' })
  await claim(sql)
  const why = {
    code: 'MR006',
    message: /cannot be deleted: its owner may still run it/,
    hint: /Disable or delete deployment \d+/,
  }
  await refused(t, sql, deleted, why, 'live')
  await refused(
    t,
    sql,
    (sql) => sql`delete from mooring.assignment where ordinal is null`,
    why,
    'a daemon',
  )
  await sql`update mooring.setting set reap_margin = '1 min'`
  await age(sql, 'host-a', '30 seconds ago')
  await refused(t, sql, deleted, why, 'its lease is over, the margin is not')
  await age(sql, 'host-a', '73 seconds ago')
  await sql`delete from mooring_internal.outage_marker`
  await refused(t, sql, deleted, why, 'in a hold its silence proves nothing')
  await sql`select mooring_internal.notice_outage()`
  await sql`
    update mooring_internal.pulse set hold_until = clock_timestamp(), pulse_at = clock_timestamp()`
  await deleted(sql)
  t.same(await assigned(sql), {})
  await sql`select from mooring.evict()`
  t.match(
    await assignments(sql, id),
    [{ node: null, epoch: '0', wanted: 'run' }],
    'the round makes it again',
  )
  t.ok(host)
})

story(
  'a release that deletes a row opens no door for the rest of its transaction',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    const [gone] = [await deployment(sql), await deployment(sql)]
    await claim(sql)
    await sql`delete from mooring.deployment where id = ${gone}`
    t.equal(await report(sql, host, (await assignments(sql, gone))[0]!, 'stopped'), true)
    t.equal((await assignments(sql)).length, 1)
    await refused(t, sql, deleted, { code: 'MR006', message: /cannot be deleted/ })
  },
)

story('what waits, and what a node left behind, is deleted by hand at any time', async (t, sql) => {
  const host = await node(sql, { name: 'host-a', max_assignments: 1 })
  await deployments(sql, 2)
  await claim(sql)
  await sql`delete from mooring.assignment where node_id is null`
  await sql`update mooring.heartbeat set session = null where node = 'host-a'`
  await deleted(sql)
  t.same(await assignments(sql), [])
  t.ok(host)
})

story('a row in a handover is left to the verbs of the handover', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql, { on_lost: 'keep', handover: 'start-first' })
  await claim(sql)
  await report(sql, host, (await assignments(sql))[0]!, 'running')
  await node(sql, { name: 'host-b' })
  await sql`select from mooring.drain_node('host-a')`
  await claim(sql)
  for (const name of ['host-a', 'host-b']) await age(sql, name, '1 minute ago')
  await refused(t, sql, deleted, { code: 'MR006', message: /being handed over/ })
})

story('an epoch never goes back, with an owner or without', async (t, sql) => {
  await node(sql)
  await deployment(sql)
  await claim(sql)
  await refused(t, sql, (sql) => sql`update mooring.assignment set epoch = 0`, {
    code: 'MR006',
    message: /cannot go back from 1 to 0/,
  })
  await refused(
    t,
    sql,
    (sql) =>
      sql`
        update mooring.assignment
           set node_id = null,
               lease_ttl = null,
               assigned_at = null,
               waiting_since = now(),
               epoch = 0`,
    { code: 'MR006', message: /cannot go back/ },
  )
  await refused(
    t,
    sql,
    (sql) =>
      sql`
        insert into mooring.assignment (deployment_id, ordinal, signature, waiting_since, epoch)
        values (7, 0, gen_random_uuid(), now(), -1)`,
    { code: '23514', constraint_name: 'assignment_epoch_is_not_negative' },
  )
})

void t.test(
  'a beat that is being written is a sign of life: what it may confirm is not freed by hand',
  async (t) => {
    const pg = await testDatabase(t)
    await patient(pg.sql)
    const host = await node(pg.sql, { name: 'host-a' })
    await deployment(pg.sql)
    await claim(pg.sql)
    await age(pg.sql, 'host-a', '1 minute ago')
    const agent = pg.client('agent')
    await agent`begin`
    await beat(agent, host)
    await t.rejects(
      pg.sql`update mooring.assignment set node_id = null`,
      { code: 'MR006' },
      'its beat is old for every observer',
    )
    await agent`rollback`
    await pg.sql`update mooring.assignment set node_id = null`
    t.match((await assignments(pg.sql))[0], { node: null, epoch: '2' })
  },
)

void t.test(
  'and a beat that comes while it is freed by hand waits, and confirms nothing of it',
  async (t) => {
    const pg = await testDatabase(t)
    const host = await node(pg.sql, { name: 'host-a' })
    await deployment(pg.sql)
    await claim(pg.sql)
    await age(pg.sql, 'host-a', '1 minute ago')
    const dba = pg.client('dba')
    await dba`begin`
    await dba`update mooring.assignment set node_id = null`
    const beating = beat(pg.sql, host)
    await waitFor(
      async () =>
        (
          await pg.sql`
            select
              from pg_stat_activity
             where datname = current_database()
               and wait_event_type = 'Lock'
               and query like '%heartbeat(%'`
        ).length === 1,
      { label: 'the beat waits' },
    )
    await dba`commit`
    t.equal((await beating).owned, 0)
  },
)

story('from one owner to another it cannot go in one step', async (t, sql) => {
  const [a, b] = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  await deployment(sql)
  await claim(sql)
  await refused(t, sql, (sql) => sql`update mooring.assignment set node_id = ${b.id}`, {
    code: 'MR006',
    hint: /let it stop/,
  })
  t.match(await loads(sql), { 'host-a': 1, 'host-b': 0 })
  t.ok(a)
})

story('raising the epoch as the verbs do is no way around', async (t, sql) => {
  const [, b] = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  const id = await deployment(sql)
  const waiting = await deployment(sql, { policy: 'none' })
  await claim(sql)
  const free = (sql: TransactionSql) =>
    sql`
      update mooring.assignment
         set node_id = null,
             epoch = epoch + 1,
             lease_ttl = null,
             assigned_at = null,
             waiting_since = now()
       where deployment_id = ${id}`
  await refused(
    t,
    sql,
    (sql) =>
      sql`
        update mooring.assignment
           set node_id = ${b.id}, epoch = epoch + 1
         where deployment_id = ${id}`,
    { code: 'MR006', message: /one owner to another/ },
  )
  await refused(t, sql, free, { code: 'MR006', message: /may still run it/ })
  await refused(
    t,
    sql,
    (sql) =>
      sql`
        update mooring.assignment
           set node_id = 999999,
               epoch = epoch + 1,
               lease_ttl = '12 s',
               assigned_at = now(),
               waiting_since = null
         where deployment_id = ${waiting}`,
    { code: 'MR003' },
  )
  await age(sql, 'host-a', '15.1 seconds ago')
  await free(sql)
  t.match(await assignments(sql, id), [{ node: null, epoch: '2' }])
})

story(
  'it cannot go to a node that does not exist, because no verb would ever free it',
  async (t, sql) => {
    await deployment(sql)
    await refused(t, sql, (sql) => sql`update mooring.assignment set node_id = 999999`, {
      code: 'MR003',
    })
  },
)

story('what was placed by hand on a dead node is reaped like the rest', async (t, sql) => {
  const host = await node(sql, { name: 'host-a', seen: '1 hour ago' })
  await deployment(sql)
  await sql`update mooring.assignment set node_id = ${host.id}`
  t.equal((await sql`select * from mooring.reap()`).length, 1)
})

story('by hand does not work inside another isolation level', async (t, sql) => {
  t.ok(sql)
  await t.rejects(
    pg.sql.begin('isolation level repeatable read', async (sql) => {
      const host = await node(sql, { name: 'host-a' })
      await deployment(sql)
      await sql`update mooring.assignment set node_id = ${host.id}`
    }),
    { code: 'MR008' },
  )
})

const bad: [edit: string, constraint_name: string][] = [
  ['ordinal = -1', 'assignment_ordinal_is_not_negative'],
  ["wanted = 'pause'", 'assignment_wanted_is_run_or_stop'],
  ["lease_ttl = '1 s'", 'assignment_owned_iff_leased'],
  ['assigned_at = now()', 'assignment_owned_iff_assigned'],
  ['waiting_since = null', 'assignment_pending_iff_waiting'],
  ['ordinal = null', 'assignment_daemon_always_has_a_node'],
]
for (const [edit, constraint_name] of bad) {
  story(`a waiting row with ${edit} is no state there is`, async (t, sql) => {
    await deployment(sql)
    await refused(t, sql, (sql) => sql.unsafe(`update mooring.assignment set ${edit}`), {
      code: '23514',
      constraint_name,
    })
  })
}

story('one instance for each ordinal, and one daemon on each node', async (t, sql) => {
  await node(sql)
  await deployment(sql)
  await deployment(sql, { type: 'daemon' })
  const copy = (where: string) =>
    sql.savepoint((sql) =>
      sql.unsafe(`
        insert into mooring.assignment (
          deployment_id, ordinal, signature, node_id, lease_ttl, waiting_since, assigned_at
        )
        select deployment_id, ordinal, signature, node_id, lease_ttl, waiting_since, assigned_at
          from mooring.assignment
         where ${where}`),
    )
  await t.rejects(copy('ordinal is not null'), {
    code: '23505',
    constraint_name: 'assignment_deployment_id_ordinal_idx',
  })
  await t.rejects(copy('ordinal is null'), {
    code: '23505',
    constraint_name: 'assignment_daemon_idx',
  })
})

story('loads follow every writer of the rows', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await sql`
    insert into mooring.deployment (package_name) select 'http-server' from generate_series(1, 6)`
  await claim(sql)
  t.same(await assigned(sql), { [host.id]: 6 })
  await sql`
    update mooring.deployment
       set enabled = false
     where id in (select id from mooring.deployment order by id limit 2)`
  for (const row of (await assignments(sql)).slice(0, 2)) await report(sql, host, row, 'stopped')
  t.same(await assigned(sql), { [host.id]: 4 })
  await age(sql, 'host-a', '1 minute ago')
  await sql`select from mooring.reap(3)`
  t.same(await assigned(sql), { [host.id]: 1 })
})
