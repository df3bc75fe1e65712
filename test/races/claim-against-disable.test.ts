/**
 * A user switches a deployment off while a claim places it. A claim that picks its rows with one
 * snapshot and writes them with a later one starts a deployment that was switched off in between.
 * Nothing stops it then: it was not running when it was switched off.
 *
 * Both lock the assignment. The claim skips a row that is being switched off. The switch waits for
 * a claim in progress, and then orders the stop.
 */
import t from 'tap'
import { assignments, deployment, node } from '../helpers/factories.js'
import { gateBefore, rewrite, stage, waitsFor } from './stage.js'

async function oneThatWaits(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql)
  return { pg, id, psql: await pg.session('psql'), worker: await pg.session('worker') }
}

t.test('a claim passes by what is being switched off', async (t) => {
  const { pg, id, psql, worker } = await oneThatWaits(t)
  await psql.begin()
  await psql.sql`update mooring.deployment set enabled = false where id = ${id}`
  t.equal((await worker.sql`select * from mooring.claim()`).length, 0, 'it does not wait')
  await psql.commit()
  t.equal((await worker.sql`select * from mooring.claim()`).length, 0)
  t.match(await assignments(pg.sql, id), [{ node: null, epoch: '0', wanted: 'stop' }])
})

t.test('and takes it when the switch is rolled back', async (t) => {
  const { pg, id, psql, worker } = await oneThatWaits(t)
  await psql.begin()
  await psql.sql`update mooring.deployment set enabled = false where id = ${id}`
  t.equal((await worker.sql`select * from mooring.claim()`).length, 0)
  await psql.rollback()
  t.equal((await worker.sql`select * from mooring.claim()`).length, 1)
  t.match(await assignments(pg.sql, id), [{ node: 'host-a', epoch: '1', wanted: 'run' }])
})

t.test(
  'a disable during a claim waits for it, and what was placed is ordered to stop',
  async (t) => {
    const { pg, id, psql, worker } = await oneThatWaits(t)
    await worker.begin()
    t.equal((await worker.sql`select * from mooring.claim()`).length, 1)
    const disabling = psql.start(
      (sql) => sql`update mooring.deployment set enabled = false where id = ${id}`,
    )
    await waitsFor(t, pg, psql, worker)
    await worker.commit()
    await disabling.done
    t.match(await assignments(pg.sql, id), [
      { node: 'host-a', epoch: '1', wanted: 'stop', stop_reason: 'its deployment is disabled' },
    ])
  },
)

t.test('a delete during a claim waits for it as well', async (t) => {
  const { pg, id, psql, worker } = await oneThatWaits(t)
  await worker.begin()
  t.equal((await worker.sql`select * from mooring.claim()`).length, 1)
  const deleting = psql.start((sql) => sql`delete from mooring.deployment where id = ${id}`)
  await waitsFor(t, pg, psql, worker)
  await worker.commit()
  await deleting.done
  t.match(await assignments(pg.sql, id), [
    { node: 'host-a', epoch: '1', wanted: 'stop', stop_reason: 'its deployment was deleted' },
  ])
})

for (const [what, change, left] of [
  [
    'switched off',
    'update mooring.deployment set enabled = false',
    [{ node: null, epoch: '0', wanted: 'stop' }],
  ],
  ['deleted', 'delete from mooring.deployment', []],
  [
    'edited so that it may run nowhere',
    `update mooring.deployment set selector = '{"zone": "x"}'`,
    [{ node: null, epoch: '0', wanted: 'run' }],
  ],
] as const) {
  t.test(
    `what is ${what} between a claim's first look and its lock stays, and the others are placed`,
    async (t) => {
      const { pg, id, psql, worker } = await oneThatWaits(t)
      const other = await deployment(pg.sql)
      const gate = await gateBefore(pg, 'claim', 'for class_of_work in')
      await gate.stopHere(worker)
      const claiming = worker.start(
        (sql) => sql<{ deployment_id: string }[]>`select * from mooring.claim()`,
      )
      await waitsFor(t, pg, worker, gate.session)
      await psql.sql.unsafe(`${change} where id = ${id}`)
      await gate.open()
      t.same(
        (await claiming.done).map((row) => row.deployment_id),
        [other],
      )
      t.match(await assignments(pg.sql, id), left)
    },
  )
}

t.test(
  'negative control: without the second look under the lock, a disabled deployment is started',
  async (t) => {
    const { pg, id, psql, worker } = await oneThatWaits(t)
    await rewrite(
      pg.sql,
      'claim',
      ["l.node_id is null and l.wanted = 'run' and ", ''],
      ['for update skip locked', ''],
      [' and d.enabled', ''],
      ['set node_id = p.node_id,', "set node_id = p.node_id, wanted = 'run',"],
    )
    const gate = await gateBefore(pg, 'claim', 'for class_of_work in')
    await gate.stopHere(worker)
    const claiming = worker.start((sql) => sql`select * from mooring.claim()`)
    await waitsFor(t, pg, worker, gate.session)
    await psql.sql`update mooring.deployment set enabled = false where id = ${id}`
    await gate.open()
    t.equal((await claiming.done).length, 1)
    t.match(
      await assignments(pg.sql, id),
      [{ node: 'host-a', epoch: '1', wanted: 'run' }],
      'host-a runs what is switched off',
    )
  },
)
