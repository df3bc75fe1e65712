import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node, report } from '../../helpers/factories.js'
import type { DeploymentSpec, NodeSpec } from '../../helpers/factories.js'
import { claim, events, loads, pattern, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)
const undone = new Error('undone')

const restart = (sql: TransactionSql, assignment: string, reason: string | null = null) =>
  sql`select * from mooring.restart(${assignment}, ${reason})`

/** One assignment that runs on host-a, the only node. */
async function running(sql: TransactionSql, spec: DeploymentSpec = {}, there: NodeSpec = {}) {
  const host = await node(sql, { name: 'host-a', ...there })
  const deploymentId = await deployment(sql, spec)
  await claim(sql)
  const row = async () => (await assignments(sql, deploymentId))[0]!
  await report(sql, host, await row(), 'running', { pid: 1 })
  return { host, deploymentId, row, id: (await row()).id }
}

story(
  'Y CLI: restart (rolling): what runs is stopped, reported, and then started again where it was',
  async (t, sql) => {
    const { host, row, id } = await running(sql)
    await node(sql, { name: 'host-b' })
    t.match(await restart(sql, id, 'new certificate'), [
      { id, wanted: 'stop', epoch: '1', stop_reason: 'restarted: new certificate' },
    ])
    t.same(await claim(sql), [], 'not before the owner stopped it')
    t.match(await row(), { node: 'host-a', epoch: '1' })
    t.equal(await report(sql, host, await row(), 'stopped'), true)
    t.same(await claim(sql), [id])
    t.match(
      await row(),
      { node: 'host-a', epoch: '3', wanted: 'run', stop_reason: null },
      'though host-b is empty',
    )
    t.match((await events(sql, 'claimed')).at(-1), {
      node: 'host-a',
      epoch: '3',
      reason: /restarted: new certificate/,
    })
    t.equal(
      (await sql`select from mooring_internal.moves_under_way()`).length,
      1,
      'under way until it was observed running',
    )
    await report(sql, host, await row(), 'running', { pid: 2 })
    await claim(sql)
    t.equal((await sql`select from mooring_internal.moves_under_way()`).length, 0)
  },
)

story(
  'a full node gets its own work back, and no other work uses the place meanwhile',
  async (t, sql) => {
    const { host, row, id } = await running(sql, {}, { max_assignments: 1 })
    const [late] = await deployments(sql, 1)
    await restart(sql, id)
    const taken = () => sql`select s.assigned from mooring_internal.node_states() s`
    t.match(await taken(), [{ assigned: 1 }], 'it is one place, however it is on its way')
    await report(sql, host, await row(), 'stopped')
    t.match(await taken(), [{ assigned: 1 }])
    t.same(await claim(sql), [id])
    t.same(await loads(sql), { 'host-a': 1 })
    t.match(await sql`select deployment_id from mooring.unplaced`, [{ deployment_id: late }])
  },
)

story(
  'a node that dies meanwhile falls back to its lease, and the work goes elsewhere with an event',
  async (t, sql) => {
    const { row, id } = await running(sql)
    await node(sql, { name: 'host-b' })
    await restart(sql, id)
    await sql`update mooring.setting set reap_margin = '1 min'`
    await age(sql, 'host-a', '30 seconds ago')
    await sql`select from mooring.reap()`
    t.same(await claim(sql), [], 'lease over, margin not')
    await age(sql, 'host-a', '73 seconds ago')
    await sql`select from mooring.reap()`
    t.same(await claim(sql), [id])
    t.match(await row(), { node: 'host-b', epoch: '3' })
    t.match(await events(sql, 'move_dropped'), [
      { assignment_id: id, reason: /cannot go to host-a: the node is not live/ },
    ])
  },
)

story('what-if knows that a restart does not bring back a node that is lost', async (t, sql) => {
  const { id } = await running(sql)
  await node(sql, { name: 'host-b' })
  await restart(sql, id)
  t.match(await sql`select assignment_id, to_node from mooring.simulate_node_loss('host-a')`, [
    { assignment_id: id, to_node: 'host-b' },
  ])
})

story('rebalance counts what is restarted once', async (t, sql) => {
  const { id } = await running(sql)
  await sql`update mooring.setting set rebalance_cooldown = '0'`
  await restart(sql, id)
  await deployments(sql, 1)
  await claim(sql)
  await node(sql, { name: 'host-b' })
  t.equal(
    (await sql`select from mooring.rebalance(10)`).length,
    1,
    'of two on host-a one is worth moving',
  )
})

story('on a node that is closed it is stopped and goes where it may', async (t, sql) => {
  const { host, row, id } = await running(sql)
  await node(sql, { name: 'host-b' })
  await sql`select from mooring.set_node_enabled('host-a', false)`
  await restart(sql, id)
  await report(sql, host, await row(), 'stopped')
  await claim(sql)
  t.match(await row(), { node: 'host-b' })
})

story('the stop wins: disabled in the middle, it does not start again', async (t, sql) => {
  const { host, row, id, deploymentId } = await running(sql)
  await restart(sql, id)
  await sql`update mooring.deployment set enabled = false where id = ${deploymentId}`
  await report(sql, host, await row(), 'stopped')
  t.same(await claim(sql), [])
  t.match(await row(), { node: null, wanted: 'stop' })
})

story(
  'a restart is no drain: a node that drains nothing does nothing, and a drain goes on beside it',
  async (t, sql) => {
    const { host, row, id } = await running(sql)
    await restart(sql, id)
    await claim(sql)
    t.equal((await sql`select from mooring.drain_progress`).length, 0)
    await node(sql, { name: 'host-b' })
    await sql`select from mooring.drain_node('host-a')`
    await report(sql, host, await row(), 'stopped')
    await claim(sql)
    t.match(await row(), { node: 'host-b' })
    t.match(await sql`select "left", done from mooring.drain_progress`, [{ left: 0, done: true }])
  },
)

story('a daemon ends on its node and begins again there, as another assignment', async (t, sql) => {
  const { host, row, id } = await running(sql, { type: 'daemon' })
  t.match(await restart(sql, id), [{ id, wanted: 'stop', stop_reason: 'restarted' }])
  t.match(await events(sql, 'stop_wanted'), [
    { assignment_id: id, node: 'host-a', reason: 'restarted' },
  ])
  t.equal((await sql`select from mooring_internal.moves_under_way()`).length, 0)
  await report(sql, host, await row(), 'stopped')
  t.match(await row(), { node: 'host-a', wanted: 'run' })
  t.not((await row()).id, id)
})

story('it says why not, and the way out', async (t, sql) => {
  const { id, deploymentId } = await running(sql)
  await refused(t, sql, (sql) => restart(sql, '99999'), {
    code: 'MR003',
    hint: new RegExp(`nearest ids are ${id}`),
  })
  const cases: [edit: string, message: RegExp, hint: RegExp][] = [
    [
      `select from mooring.restart(${id})`,
      /is to stop already: restarted/,
      /starts again by itself/,
    ],
    [
      'update mooring.deployment set enabled = false',
      /is to stop already: its deployment is disabled/,
      /nothing to restart/,
    ],
    [
      'delete from mooring.deployment',
      /is to stop already: its deployment was deleted/,
      /nothing to restart/,
    ],
    [
      `update mooring.node set enabled = false where name = 'host-a'`,
      pattern(
        /would not start again: host-a would not take it back \(the node is /,
        /disabled\), and no other node can/,
      ),
      /runs on\. .*explain/,
    ],
    [
      `
        update mooring.node set enabled = false where name = 'host-a';
        select from mooring.register_node('host-b', gen_random_uuid(), '.');
        update mooring.deployment set policy = 'none'`,
      /would not start again/,
      /runs on/,
    ],
    [
      `update mooring.heartbeat set beat_at = now() - interval '14 s' where node = 'host-a'`,
      /agent of host-a is silent/,
      /Wait/,
    ],
    [
      `
        update mooring_internal.pulse
           set hold_until = now() + interval '10 s', hold_reason = 'a test'`,
      /hold: a test/,
      /It ends at/,
    ],
  ]
  for (const [edit, message, hint] of cases) {
    await sql
      .savepoint(async (sql) => {
        await sql.unsafe(edit)
        await refused(t, sql, (sql) => restart(sql, id), { code: 'MR006', message, hint }, edit)
        throw undone
      })
      .catch((error: unknown) => t.equal(error, undone))
  }
  await sql`
    update mooring.deployment set replicas = 2, pinned_node = 'host-x' where id = ${deploymentId}`
  const waiting = (await assignments(sql, deploymentId))[1]!
  await refused(t, sql, (sql) => restart(sql, waiting.id), {
    code: 'MR006',
    message: /waits for a node/,
    hint: /explain/,
  })
})

story(
  'negative control: a new generation restarts everything at once and under the same epoch',
  async (t, sql) => {
    const { row, deploymentId } = await running(sql, { replicas: 1 })
    await sql`update mooring.deployment set generation = generation + 1 where id = ${deploymentId}`
    t.match(await row(), { node: 'host-a', wanted: 'run', epoch: '1', generation: '2' })
  },
)
