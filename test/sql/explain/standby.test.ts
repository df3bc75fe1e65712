import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import postgres from 'postgres'
import { ensureCluster } from '../../../postgres/embedded/cluster.js'
import { migrate } from '../../../postgres/migrate/migrate.js'
import { deployments, node } from '../../helpers/factories.js'
import { tempDir } from '../../helpers/processes.js'
import { claim } from '../story.js'

void t.test('on a standby the views, explain and doctor answer', async (t) => {
  const stateDir = tempDir(t)
  const primary = await ensureCluster({ stateDir, durable: false })
  t.teardown(() => primary.stop())
  await migrate({ databaseUrl: primary.url })
  const writing = postgres(primary.url, { max: 1, onnotice: () => {} })
  await node(writing, { name: 'host-a', max_assignments: 3 })
  const [id] = await deployments(writing, 4)
  await claim(writing)
  await writing.end()
  await primary.stop()
  // the same data, started as a standby that waits for more of the log
  writeFileSync(join(primary.dataDir, 'standby.signal'), '')
  const standby = await ensureCluster({ stateDir, durable: false })
  const sql = postgres(standby.url, { max: 1, onnotice: () => {} })
  t.teardown(() => sql.end())
  t.match(await sql`select pg_is_in_recovery() as standby`, [{ standby: true }])
  t.match(await sql`select nodes, assigned, waiting, hold from mooring.fleet`, [
    { nodes: 1, assigned: 3, waiting: 1, hold: null },
  ])
  t.match(await sql`select node, assignments from mooring.node_status`, [
    { node: 'host-a', assignments: 3 },
  ])
  t.equal((await sql`select * from mooring.placement`).length, 4)
  t.match(await sql`select reason from mooring.unplaced`, [
    { reason: /max_assignments|not live|is live/ },
  ])
  t.match(await sql`select verdict from mooring.explain(${id!})`, [{}])
  t.equal((await sql`select * from mooring.last_events(4)`).length, 4)
  t.equal(
    (
      await sql`
        select *
          from mooring.placement_at(now()) p
          cross join lateral mooring.history(p.assignment_id)`
    ).length,
    3,
  )
  t.match(await sql`select from_node, to_node from mooring.simulate_node_loss('host-a')`, [
    { from_node: 'host-a', to_node: null },
    {},
    {},
  ])
  t.equal((await sql`select * from mooring.simulate_drain('host-a')`).length, 3)
  const findings = await sql<
    { check_name: string; found: string }[]
  >`select * from mooring.doctor()`
  t.same(
    findings.filter(({ found }) => found.includes('could not be looked at')),
    [],
  )
  t.match(
    findings.find(({ check_name }) => check_name === 'schema'),
    { found: /a standby/ },
  )
  t.equal(
    (await sql`select * from mooring.simulate_insert('{"package_name": "http-server"}')`).length,
    1,
  )
  await t.rejects(
    sql`select * from mooring.simulate_insert('{"package_name": "x", "args": 5}')`.execute(),
    { code: '23514', constraint_name: 'deployment_args_is_an_array_of_strings' },
    'the constraints of the table judge without an insert',
  )
})
