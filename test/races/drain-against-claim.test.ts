/**
 * A node is drained while a claim in progress has chosen it. The drain does not wait for the claim,
 * and cannot see what the claim has not committed. The claim read the nodes before the drain was
 * committed. If the drain listed its moves at its start, the work that arrives a moment later would
 * be on no list. The node would be reported empty and switched off, and a process would die with
 * it.
 *
 * So a drain lists nothing. Each claim ends with a look at what draining nodes own now, under the
 * lock that every claim holds. Work of a claim in flight is found by that look or by the next
 * claim, which the drain itself has asked for. Only that look reports a node as drained.
 */
import t from 'tap'
import { assignments, deployment, node, report } from '../helpers/factories.js'
import { gateBefore, rewrite, stage, waitsFor } from './stage.js'

async function twoHosts(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql)
  return { pg, hostA, id, worker: await pg.session('worker'), psql: await pg.session('psql') }
}

const drained = async ({ sql }: Awaited<ReturnType<typeof stage>>) =>
  (await sql`select from mooring.event where kind = 'node_drained'`).length

t.test(
  'what a claim in its middle brings to the node is moved on by the end of that claim',
  async (t) => {
    const { pg, hostA, id, worker, psql } = await twoHosts(t)
    const gate = await gateBefore(pg, 'claim', 'for class_of_work in')
    await gate.stopHere(worker)
    const claiming = worker.start((sql) => sql`select * from mooring.claim()`)
    await waitsFor(t, pg, worker, gate.session)
    await node(pg.sql, { name: 'host-b' })
    t.match(
      await psql.sql`select * from mooring.drain_node('host-a')`,
      [{ total: 0, left: 0 }],
      'it does not wait, and sees nothing',
    )
    await gate.open()
    t.equal((await claiming.done).length, 1, 'the claim did not know')
    t.match(
      await assignments(pg.sql, id),
      [{ node: 'host-a', epoch: '1', wanted: 'stop' }],
      'and its last look finds it',
    )
    t.equal(await drained(pg), 0)
    t.match(await pg.sql`select total, "left", moving, done from mooring.drain_progress`, [
      { total: 1, left: 1, moving: 1, done: false },
    ])
    t.equal(await report(pg.sql, hostA, (await assignments(pg.sql, id))[0]!, 'stopped'), true)
    await pg.sql`select * from mooring.claim()`
    t.match(await assignments(pg.sql, id), [{ node: 'host-b', epoch: '3', wanted: 'run' }])
    t.equal(await drained(pg), 1)
  },
)

async function drainAfterTheLastLook(t: Parameters<typeof stage>[0]) {
  const fleet = await twoHosts(t)
  const { pg, worker, psql } = fleet
  await worker.begin()
  t.equal((await worker.sql`select * from mooring.claim()`).length, 1)
  await node(pg.sql, { name: 'host-b' })
  t.match(
    await psql.sql`select * from mooring.drain_node('host-a')`,
    [{ total: 0, left: 0 }],
    'it does not wait, and sees nothing',
  )
  return fleet
}

t.test(
  'what a claim has placed and not yet committed is found by the claim that the drain asks for',
  async (t) => {
    const { pg, id, worker } = await drainAfterTheLastLook(t)
    const next = await pg.session('next worker')
    const claiming = next.start((sql) => sql`select * from mooring.claim()`)
    await waitsFor(t, pg, next, worker)
    t.equal(await drained(pg), 0, 'the node is not reported empty meanwhile')
    await worker.commit()
    await claiming.done
    t.match(await assignments(pg.sql, id), [{ node: 'host-a', epoch: '1', wanted: 'stop' }])
    t.equal(await drained(pg), 0)
  },
)

t.test(
  'negative control: a drain that lists its moves at its start leaves work on a node called empty',
  async (t) => {
    const { pg, id, worker, psql } = await drainAfterTheLastLook(t)
    await rewrite(pg.sql, 'claim', [
      'perform mooring_internal.advance_drains(progress => moved > 0 or handed_over);',
      '',
    ])
    await psql.sql`select mooring_internal.advance_drains()`
    t.equal(await drained(pg), 1, 'nothing is left on it, it says')
    await worker.commit()
    await pg.sql`select * from mooring.claim()`
    t.match(
      await assignments(pg.sql, id),
      [{ node: 'host-a', epoch: '1', wanted: 'run' }],
      'and there it runs',
    )
  },
)

t.test(
  'a foreign session that locks a row holds up that row, and no claim and no other move',
  async (t) => {
    const { pg, id, worker, psql } = await twoHosts(t)
    await pg.sql`select * from mooring.claim()`
    const other = await deployment(pg.sql)
    await pg.sql`select * from mooring.claim()`
    await node(pg.sql, { name: 'host-b' })
    await psql.begin()
    await psql.sql`select from mooring.assignment where deployment_id = ${id} for update`
    await pg.sql`select from mooring.drain_node('host-a', max_moves => 1)`
    await worker.sql`select * from mooring.claim()`
    t.match(await assignments(pg.sql), [
      { deployment_id: id, wanted: 'run' },
      { deployment_id: other, wanted: 'stop' },
    ])
    await psql.rollback()
  },
)
