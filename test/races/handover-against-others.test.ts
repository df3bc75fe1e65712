/**
 * A replica in a handover is two rows, and other verbs want each of them. At the same moment the
 * old host dies, the deployment is deleted, or the successor reports that it runs.
 *
 *   - A verb that locks one of the two rows locks both, or leaves both for later; none waits with
 *     one.
 *   - A release of a replica that has a successor makes the successor the replica, in the same
 *     transaction. So the replica is never pending beside an instance that runs.
 *   - A delete locks the rows before it looks for them, so that a successor being made is among
 *     them.
 */
import t from 'tap'
import { age, deployment, node, report } from '../helpers/factories.js'
import { brokenLaws } from '../sql/invariants.js'
import { rewrite, stage, waitsFor } from './stage.js'

/** A start-first deployment on host-a, which is drained; host-b and host-c are there. */
async function drained(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  await pg.sql`update mooring.setting set handover_settle = '0'`
  const hosts = { 'host-a': await node(pg.sql, { name: 'host-a' }) } as Record<
    string,
    Awaited<ReturnType<typeof node>>
  >
  const id = await deployment(pg.sql, { on_lost: 'keep', handover: 'start-first' })
  await pg.sql`select mooring.claim()`
  const rows = async () =>
    await pg.sql<
      {
        id: string
        epoch: string
        node: string | null
        handover: string | null
        wanted: string
        stop_reason: string | null
      }[]
    >`
      select p.assignment_id as id, p.epoch, p.node, p.handover, p.wanted, p.stop_reason
        from mooring.placement p
       order by 1`
  const runs = async (handover: string | null) => {
    const row = (await rows()).find((copy) => copy.handover === handover)!
    return await report(pg.sql, hosts[row.node!]!, row, 'running', { pid: 1 })
  }
  await runs(null)
  for (const name of ['host-b', 'host-c']) hosts[name] = await node(pg.sql, { name })
  await pg.sql`select from mooring.drain_node('host-a')`
  return {
    pg,
    hosts,
    id,
    rows,
    runs,
    lawful: () => brokenLaws(pg.sql, new Map(), new Map(), new Set()),
    worker: await pg.session('worker'),
    reaper: await pg.session('reaper'),
    psql: await pg.session('psql'),
  }
}

/** The same, with a successor that has said that it runs: the next claim lets it take over. */
async function aboutToTakeOver(t: Parameters<typeof stage>[0]) {
  const fleet = await drained(t)
  await fleet.pg.sql`select mooring.claim()`
  await fleet.runs('arriving')
  return fleet
}

t.test(
  'the old host is reaped during a takeover: the reaper passes by, and ends the rest later',
  async (t) => {
    const { pg, rows, lawful, worker, reaper } = await aboutToTakeOver(t)
    await age(pg.sql, 'host-a', '61 seconds ago')
    await worker.begin()
    await worker.sql`select mooring.claim()`
    t.equal((await reaper.sql`select * from mooring.reap()`).length, 0, 'it does not wait')
    await worker.commit()
    t.match(
      (await rows()).map((row) => [row.node, row.handover]),
      [
        ['host-a', 'leaving'],
        [/host-[bc]/, null],
      ],
    )
    t.equal((await reaper.sql`select * from mooring.reap()`).length, 1)
    t.match(await rows(), [{ node: /host-[bc]/, handover: null, wanted: 'run', epoch: '1' }])
    t.same(await lawful(), [])
  },
)

t.test(
  'a takeover while the old host is reaped: the reap makes it the replica, and the claim passes by',
  async (t) => {
    const { pg, rows, lawful, worker, reaper } = await aboutToTakeOver(t)
    await age(pg.sql, 'host-a', '61 seconds ago')
    await reaper.begin()
    t.equal((await reaper.sql`select * from mooring.reap()`).length, 1)
    t.equal((await worker.sql`select * from mooring.claim()`).length, 0)
    t.match(
      (await rows()).map((row) => row.handover),
      [null, 'arriving'],
      'nothing has happened yet',
    )
    await reaper.commit()
    t.match(await rows(), [{ node: /host-[bc]/, handover: null, wanted: 'run', epoch: '1' }])
    t.equal((await worker.sql`select * from mooring.claim()`).length, 0)
    t.same(await lawful(), [])
  },
)

t.test(
  'negative control: a release that ignores the successor leaves a pending replica, started twice',
  async (t) => {
    const { pg, rows, lawful, reaper, worker } = await aboutToTakeOver(t)
    await rewrite(pg.sql, 'release', [
      'where c.replica = any (locked) and c.id <> all (locked);',
      'where false;',
    ])
    await age(pg.sql, 'host-a', '61 seconds ago')
    await reaper.sql`select * from mooring.reap()`
    t.match(await lawful(), [/a successor has its replica/])
    t.equal((await worker.sql`select * from mooring.claim()`).length, 1)
    t.notOk(
      (await rows()).some((row) => row.node === null || row.node === 'host-a'),
      'beside the one that runs',
    )
    t.equal((await rows()).length, 2)
  },
)

t.test(
  'a takeover while the deployment is deleted: the claim passes by, and both stop',
  async (t) => {
    const { id, rows, lawful, worker, psql } = await aboutToTakeOver(t)
    await psql.begin()
    await psql.sql`delete from mooring.deployment where id = ${id}`
    await worker.sql`select mooring.claim()`
    t.match(
      (await rows()).map((row) => row.handover),
      [null, 'arriving'],
      'it does not wait',
    )
    await psql.commit()
    await worker.sql`select mooring.claim()`
    t.match(await rows(), [
      { wanted: 'stop', stop_reason: 'its deployment was deleted' },
      { wanted: 'stop', stop_reason: 'its deployment was deleted' },
    ])
    t.same(await lawful(), [])
  },
)

t.test(
  'the deployment is deleted during a takeover: the delete waits, and both stop',
  async (t) => {
    const { pg, id, rows, lawful, worker, psql } = await aboutToTakeOver(t)
    await worker.begin()
    await worker.sql`select mooring.claim()`
    const deleting = psql.start((sql) => sql`delete from mooring.deployment where id = ${id}`)
    await waitsFor(t, pg, psql, worker)
    await worker.commit()
    await deleting.done
    t.match(await rows(), [
      { handover: 'leaving', wanted: 'stop', stop_reason: 'its deployment was deleted' },
      { handover: null, wanted: 'stop', stop_reason: 'its deployment was deleted' },
    ])
    t.same(await lawful(), [])
  },
)

t.test('deleted while the successor is being made: the delete waits, and finds it', async (t) => {
  const { pg, id, rows, lawful, worker, psql } = await drained(t)
  await worker.begin()
  await worker.sql`select mooring.claim()`
  const deleting = psql.start((sql) => sql`delete from mooring.deployment where id = ${id}`)
  await waitsFor(t, pg, psql, worker)
  await worker.commit()
  await deleting.done
  t.match(await rows(), [
    { handover: null, wanted: 'stop' },
    { handover: 'arriving', wanted: 'stop', stop_reason: 'its deployment was deleted' },
  ])
  t.same(await lawful(), [])
})

t.test(
  'negative control: a delete without a lock first misses it, and it runs for no deployment',
  async (t) => {
    const { pg, id, rows, worker, psql } = await drained(t)
    await rewrite(pg.sql, 'make_assignments', [
      `perform from mooring.assignment a
   where a.deployment_id = any (make_assignments.deployments)
   order by a.id
     for no key update;`,
      '',
    ])
    await worker.begin()
    await worker.sql`select mooring.claim()`
    const deleting = psql.start((sql) => sql`delete from mooring.deployment where id = ${id}`)
    await waitsFor(t, pg, psql, worker)
    await worker.commit()
    await deleting.done
    t.match(await rows(), [
      { handover: null, wanted: 'stop' },
      { handover: 'arriving', wanted: 'run' },
    ])
  },
)

t.test('a workload that is inside assert_owner() holds up no handover', async (t) => {
  const { rows, worker, psql } = await aboutToTakeOver(t)
  const [old, successor] = await rows()
  await psql.begin()
  await psql.sql`select mooring.assert_owner(${old!.id}, ${old!.epoch})`
  await psql.sql`select mooring.assert_owner(${successor!.id}, ${successor!.epoch})`
  await worker.sql`select mooring.claim()`
  t.match(
    (await rows()).map((row) => row.handover),
    ['leaving', null],
  )
  await psql.commit()
})
