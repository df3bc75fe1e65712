/**
 * A move takes a while, and everything else goes on. The deployment is deleted, a host dies, or
 * other work wants the promised place.
 *
 *   - The stop wins. A delete or disable waits for the row and cancels the move; the release reads
 *     the
 *     deployment again.
 *   - A host that dies in the middle is waited for like any dead host: lease and margin.
 *   - A promise is made under the placement lock, so that the last place is given once.
 */
import t from 'tap'
import { age, assignments, deployment, deployments, node, report } from '../helpers/factories.js'
import { gateBefore, rewrite, stage, waitsFor } from './stage.js'

async function oneThatRuns(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql)
  await pg.sql`select mooring.claim()`
  const [first] = await assignments(pg.sql, id)
  await node(pg.sql, { name: 'host-b' })
  return {
    pg,
    hostA,
    id,
    first: first!,
    row: async () => (await assignments(pg.sql, id))[0],
    worker: await pg.session('worker'),
    psql: await pg.session('psql'),
  }
}

t.test('a drain passes by what is being deleted', async (t) => {
  const { pg, hostA, id, first, row, worker, psql } = await oneThatRuns(t)
  await psql.begin()
  await psql.sql`delete from mooring.deployment where id = ${id}`
  await pg.sql`select from mooring.drain_node('host-a')`
  await worker.sql`select * from mooring.claim()`
  t.match(await row(), { wanted: 'run' }, 'it does not wait')
  await psql.commit()
  await worker.sql`select * from mooring.claim()`
  t.match(await pg.sql`select wanted, stop_reason, move_to from mooring.assignment`, [
    { wanted: 'stop', stop_reason: 'its deployment was deleted', move_to: null },
  ])
  t.equal(await report(pg.sql, hostA, first, 'stopped'), true)
  t.same(await assignments(pg.sql), [])
})

t.test(
  'a delete while a drain gives its orders waits for it, and the work goes nowhere',
  async (t) => {
    const { pg, hostA, id, first, worker, psql } = await oneThatRuns(t)
    await pg.sql`select from mooring.drain_node('host-a')`
    await worker.begin()
    await worker.sql`select * from mooring.claim()`
    const deleting = psql.start((sql) => sql`delete from mooring.deployment where id = ${id}`)
    await waitsFor(t, pg, psql, worker)
    await worker.commit()
    await deleting.done
    t.match(
      await pg.sql`select wanted, stop_reason, move_to, move_reason from mooring.assignment`,
      [
        {
          wanted: 'stop',
          stop_reason: 'its deployment was deleted',
          move_to: null,
          move_reason: null,
        },
      ],
    )
    t.equal(await report(pg.sql, hostA, first, 'stopped'), true)
    t.same(await assignments(pg.sql), [])
    await worker.sql`select * from mooring.claim()`
    t.match(await pg.sql`select done from mooring.drain_progress`, [{ done: true }])
  },
)

t.test(
  'disabled in the moment between release and placement, it is not started on the target',
  async (t) => {
    const { pg, hostA, id, first, row, worker, psql } = await oneThatRuns(t)
    await pg.sql`select from mooring.reassign(${first.id}, 'host-b')`
    t.equal(await report(pg.sql, hostA, first, 'stopped'), true)
    const gate = await gateBefore(pg, 'place_moves', 'select array_agg(l.id) into waiting')
    await gate.stopHere(worker)
    const claiming = worker.start((sql) => sql`select * from mooring.claim()`)
    await waitsFor(t, pg, worker, gate.session)
    await psql.sql`update mooring.deployment set enabled = false where id = ${id}`
    await gate.open()
    t.equal((await claiming.done).length, 0)
    t.match(await row(), { node: null, wanted: 'stop', epoch: '2' })
  },
)

t.test(
  'negative control: a move that goes on without a look at its deployment starts what is disabled',
  async (t) => {
    const { pg, hostA, id, first, row, worker, psql } = await oneThatRuns(t)
    await rewrite(pg.sql, 'place_moves', [' and d.enabled', ''])
    await pg.sql`
      create or replace function mooring_internal.requeue(deployments bigint[]) returns void
        language sql
        as 'select'`
    await pg.sql`select from mooring.reassign(${first.id}, 'host-b')`
    t.equal(await report(pg.sql, hostA, first, 'stopped'), true)
    const gate = await gateBefore(pg, 'place_moves', 'select array_agg(l.id) into waiting')
    await gate.stopHere(worker)
    const claiming = worker.start((sql) => sql`select * from mooring.claim()`)
    await waitsFor(t, pg, worker, gate.session)
    await psql.sql`update mooring.deployment set enabled = false where id = ${id}`
    await gate.open()
    t.equal((await claiming.done).length, 1)
    t.match(await row(), { node: 'host-b', wanted: 'run' }, 'host-b starts what is disabled')
  },
)

t.test('a host that dies in the middle of a move is waited for: lease and margin', async (t) => {
  const { pg, hostA, first, row, worker } = await oneThatRuns(t)
  await pg.sql`select from mooring.reassign(${first.id}, 'host-b')`
  await pg.sql`update mooring.setting set reap_margin = '1 min'`
  await age(pg.sql, 'host-a', '30 seconds ago')
  await worker.sql`select * from mooring.reap()`
  t.equal((await worker.sql`select * from mooring.claim()`).length, 0, 'lease over, margin not')
  t.match(await row(), { node: 'host-a', epoch: '1' })
  await age(pg.sql, 'host-a', '73 seconds ago')
  await worker.sql`select * from mooring.reap()`
  t.equal((await worker.sql`select * from mooring.claim()`).length, 1)
  t.match(await row(), { node: 'host-b', epoch: '3' }, 'and goes where it was sent')
  t.equal(
    await report(pg.sql, hostA, first, 'stopped'),
    false,
    'the last word of the dead changes nothing',
  )
  t.match(await row(), { node: 'host-b', epoch: '3' })
})

t.test('the beat that comes after the reap of a moved row confirms nothing of it', async (t) => {
  const { pg, hostA, first, psql, worker } = await oneThatRuns(t)
  await pg.sql`select from mooring.reassign(${first.id}, 'host-b')`
  await age(pg.sql, 'host-a', '16 seconds ago')
  await worker.begin()
  await worker.sql`select * from mooring.reap()`
  const beating = psql.start(
    (sql) =>
      sql<
        { owned: number }[]
      >`select owned from mooring.heartbeat(${hostA.name}, ${hostA.session})`,
  )
  await waitsFor(t, pg, psql, worker)
  await worker.commit()
  t.match(await beating.done, [{ owned: 0 }])
})

/** host-b has one place left, and a claim is about to take it. */
async function theLastPlace(t: Parameters<typeof stage>[0]) {
  const fleet = await oneThatRuns(t)
  const { pg, worker } = fleet
  await pg.sql`update mooring.node set max_assignments = 1 where name = 'host-b'`
  await pg.sql`update mooring.node set enabled = false where name = 'host-a'`
  const [newcomer] = await deployments(pg.sql, 1)
  await worker.begin()
  t.equal((await worker.sql`select * from mooring.claim()`).length, 1)
  return { ...fleet, newcomer: newcomer! }
}

t.test(
  'the last place is given once: a reassign waits for the claim that fills it, and is refused',
  async (t) => {
    const { pg, first, row, worker, psql } = await theLastPlace(t)
    const reassigning = psql.start(
      (sql) => sql`select * from mooring.reassign(${first.id}, 'host-b')`,
    )
    await waitsFor(t, pg, psql, worker)
    await worker.commit()
    await t.rejects(reassigning.done, { code: 'MR006', message: /max_assignments/ })
    t.match(await row(), { node: 'host-a', wanted: 'run' }, 'and nothing was stopped for it')
  },
)

t.test(
  'negative control: without the placement lock it is stopped for a place that is full',
  async (t) => {
    const { pg, hostA, first, row, worker, psql } = await theLastPlace(t)
    await rewrite(pg.sql, 'lock_to_move', [
      'perform mooring_internal.lock_placement(must_wait => true);',
      '',
    ])
    t.match(await psql.sql`select * from mooring.reassign(${first.id}, 'host-b')`, [
      { wanted: 'stop' },
    ])
    await worker.commit()
    t.equal(await report(pg.sql, hostA, first, 'stopped'), true)
    t.equal((await pg.sql`select * from mooring.claim()`).length, 0)
    t.match(await row(), { node: null }, 'it ran, and now it waits')
  },
)

t.test(
  'a claim that holds its row never waits for placement, so it forms no circle with reassign()',
  async (t) => {
    const pg = await stage(t)
    const host = await node(pg.sql, { name: 'host-a' })
    const id = await deployment(pg.sql, { policy: 'none' })
    const assignment = (await assignments(pg.sql, id))[0]!.id
    const [operator, psql] = [await pg.session('operator'), await pg.session('psql')]
    const gate = await gateBefore(
      pg,
      'lock_to_move',
      `
        select a.* into row\n
          from mooring.assignment a\n
         where a.id = lock_to_move.assignment\n
         for no key update nowait;`,
    )
    await gate.stopHere(operator)
    const moving = operator.start(
      (sql) => sql`select from mooring.reassign(${assignment}, 'host-a')`,
    )
    await waitsFor(t, pg, operator, gate.session)
    await psql.begin()
    await t.rejects(psql.sql`update mooring.assignment set node_id = ${host.id}`, {
      code: 'MR004',
      detail: `pid ${operator.pid} holds placement`,
      hint: /which waits/,
    })
    await psql.rollback()
    await gate.open()
    await moving.done
    t.match(await assignments(pg.sql, id), [{ node: 'host-a', epoch: '1' }])
  },
)
