import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../helpers/postgres.js'
import { age, assignments, beat, deployment, node } from '../helpers/factories.js'
import { claim, loads, refused, storiesIn } from './story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const assigned = async (sql: TransactionSql) => Object.fromEntries((await sql`select node_id, assigned from mooring.node_assigned() where assigned <> 0`).map(({ node_id, assigned }) => [node_id, assigned]))

story('a DBA may place a row by hand: it becomes an assignment like any other', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql, { lease_ttl: '40 s', policy: 'none' })
  await sql`update mooring.assignment set node_id = ${host.id}`
  t.match((await assignments(sql))[0], { node: 'host-a', epoch: '1', wanted: 'run' })
  const [row] = await sql`select extract(epoch from lease_ttl)::int as ttl, assigned_at is not null as stamped, waiting_since from mooring.assignment`
  t.same(row, { ttl: 40, stamped: true, waiting_since: null })
  t.same(await assigned(sql), { [host.id]: 1 })
  t.equal((await beat(sql, host)).owned, 1)
})

story('and free it by hand: the epoch goes up', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await sql`update mooring.assignment set node_id = null`
  t.match((await assignments(sql))[0], { node: null, epoch: '2' })
  const [row] = await sql`select last_node_id, lease_ttl, assigned_at, waiting_since is not null as waits from mooring.assignment`
  t.same(row, { last_node_id: host.id, lease_ttl: null, assigned_at: null, waits: true })
  t.same(await assigned(sql), {})
})

story('from one owner to another it cannot go in one step', async (t, sql) => {
  const [a, b] = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  await deployment(sql)
  await claim(sql)
  await refused(t, sql, (sql) => sql`update mooring.assignment set node_id = ${b.id}`, { code: 'MR006', hint: /let it stop/ })
  t.match(await loads(sql), { 'host-a': 1, 'host-b': 0 })
  t.ok(a)
})

story('to a node that does not exist it cannot go: nobody would ever take it back', async (t, sql) => {
  await deployment(sql)
  await refused(t, sql, (sql) => sql`update mooring.assignment set node_id = 999999`, { code: 'MR003' })
})

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
  ["ordinal = -1", 'assignment_ordinal_is_not_negative'],
  ["epoch = -1", 'assignment_epoch_is_not_negative'],
  ["wanted = 'pause'", 'assignment_wanted_is_run_or_stop'],
  ["lease_ttl = '1 s'", 'assignment_owned_iff_leased'],
  ["assigned_at = now()", 'assignment_owned_iff_assigned'],
  ["waiting_since = null", 'assignment_pending_iff_waiting'],
  ["ordinal = null", 'assignment_daemon_always_has_a_node'],
]
for (const [edit, constraint_name] of bad) {
  story(`a waiting row with ${edit} is no state there is`, async (t, sql) => {
    await deployment(sql)
    await refused(t, sql, (sql) => sql.unsafe(`update mooring.assignment set ${edit}`), { code: '23514', constraint_name })
  })
}

story('one instance for each ordinal, and one daemon on each node', async (t, sql) => {
  await node(sql)
  await deployment(sql)
  await deployment(sql, { type: 'daemon' })
  const copy = (where: string) => sql.savepoint((sql) => sql.unsafe(`insert into mooring.assignment (deployment_id, ordinal, signature, node_id, lease_ttl, waiting_since, assigned_at)
    select deployment_id, ordinal, signature, node_id, lease_ttl, waiting_since, assigned_at from mooring.assignment where ${where}`))
  await t.rejects(copy('ordinal is not null'), { code: '23505', constraint_name: 'assignment_deployment_id_ordinal_key' })
  await t.rejects(copy('ordinal is null'), { code: '23505', constraint_name: 'assignment_daemon_idx' })
})

story('loads follow whoever writes the rows', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await sql`insert into mooring.deployment (package_name) select 'http-server' from generate_series(1, 6)`
  await claim(sql)
  t.same(await assigned(sql), { [host.id]: 6 })
  await sql`delete from mooring.assignment where id in (select id from mooring.assignment order by id limit 2)`
  t.same(await assigned(sql), { [host.id]: 4 })
  await age(sql, 'host-a', '1 minute ago')
  await sql`select from mooring.reap(3)`
  t.same(await assigned(sql), { [host.id]: 1 })
})
