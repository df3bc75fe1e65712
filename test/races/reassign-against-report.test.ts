/**
 * An operator sends work to another node while its owner runs it, or while it reports a stop. A
 * move that names the new owner at once makes two owners. The first runs the work until it has
 * heard of the move, for ever if it is cut off from the news. The second starts it now.
 *
 * So a move is an order to stop, and the new owner comes after the release. Order and report lock
 * the same row: the second of them observes what the first left.
 */
import t from 'tap'
import { assignments, beat, deployment, node, report } from '../helpers/factories.js'
import { rewrite, stage, waitsFor } from './stage.js'

async function threeHosts(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const deploymentId = await deployment(pg.sql)
  await pg.sql`select mooring.claim()`
  const [row] = await assignments(pg.sql, deploymentId)
  t.equal(await report(pg.sql, hostA, row!, 'running', { pid: 4711 }), true)
  const hostB = await node(pg.sql, { name: 'host-b' })
  await node(pg.sql, { name: 'host-c' })
  return {
    pg,
    hostA,
    hostB,
    id: row!.id,
    row: async () => (await assignments(pg.sql, deploymentId))[0]!,
    first: row!,
    agent: await pg.session('agent of host-a'),
    psql: await pg.session('psql'),
  }
}

t.test(
  'a report under way when the target changes has freed the row: it goes to the new target at once',
  async (t) => {
    const { pg, hostA, id, row, first, agent, psql } = await threeHosts(t)
    await pg.sql`select from mooring.reassign(${id}, 'host-b')`
    await agent.begin()
    t.equal(await report(agent.sql, hostA, first, 'stopped'), true)
    const reassigning = psql.start((sql) => sql`select * from mooring.reassign(${id}, 'host-c')`)
    await waitsFor(t, pg, psql, agent)
    await agent.commit()
    t.match(await reassigning.done, [{ epoch: '3', wanted: 'run' }])
    t.match(await row(), { node: 'host-c', epoch: '3' })
    t.equal((await pg.sql`select * from mooring.claim()`).length, 0, 'placed once')
  },
)

t.test(
  'a report while the order is not yet committed is to be repeated, and then counts',
  async (t) => {
    const { pg, hostA, id, row, first, psql } = await threeHosts(t)
    await pg.sql`select from mooring.reassign(${id}, 'host-b')`
    await psql.begin()
    await psql.sql`select from mooring.reassign(${id}, 'host-c')`
    t.equal(await report(pg.sql, hostA, first, 'stopped'), null, 'no session waits for psql')
    await psql.commit()
    t.equal(await report(pg.sql, hostA, first, 'stopped'), true)
    await pg.sql`select * from mooring.claim()`
    t.match(await row(), { node: 'host-c', epoch: '3' })
  },
)

t.test(
  'a process that ends before the order is heard frees nothing: its owner restarts or stops it',
  async (t) => {
    const { pg, hostA, id, row, first } = await threeHosts(t)
    t.equal(await report(pg.sql, hostA, first, 'backoff'), true)
    await pg.sql`select from mooring.reassign(${id}, 'host-b')`
    t.equal((await pg.sql`select * from mooring.claim()`).length, 0)
    t.equal(await report(pg.sql, hostA, first, 'backoff'), true)
    t.match(await row(), { node: 'host-a', wanted: 'stop', epoch: '1' }, 'only "stopped" frees it')
  },
)

t.test(
  'an asserting workload is disturbed only by the change of owner, not by orders',
  async (t) => {
    const { pg, hostA, id, row, first, psql } = await threeHosts(t)
    await psql.begin()
    await psql.sql`select mooring.assert_owner(${id}, 1)`
    t.match(
      await pg.sql`select * from mooring.reassign(${id}, 'host-b')`,
      [{ wanted: 'stop' }],
      'it does not wait',
    )
    t.equal(await report(pg.sql, hostA, first, 'stopped'), null, 'but the release does')
    t.match(await row(), { node: 'host-a', epoch: '1' })
    await psql.commit()
    t.equal(await report(pg.sql, hostA, first, 'stopped'), true)
  },
)

t.test(
  'negative control: a move that names the new owner at once has two nodes run it',
  async (t) => {
    const { pg, hostA, hostB, id, first } = await threeHosts(t)
    await rewrite(pg.sql, 'reassign', [
      'perform mooring_internal.order_moves(\n      array[row.id], array[node.id], ' +
        "format('reassigned to %s', node.name));",
      `
        update mooring.assignment a
           set node_id = node.id, epoch = a.epoch + 1, owner_reason = node.name
         where a.id = row.id;`,
    ])
    await pg.sql`select from mooring.reassign(${id}, 'host-b')`
    t.match(
      await pg.sql`
        select assignment_id, wanted from mooring.assignments_of('host-b', ${hostB.session})`,
      [{ assignment_id: id, wanted: 'run' }],
      'host-b starts it',
    )
    t.equal(
      await report(pg.sql, hostA, first, 'running', { pid: 4711 }),
      false,
      'and host-a, which runs it, learns only now',
    )
    t.equal((await beat(pg.sql, hostA)).owned, 0)
  },
)
