/**
 * A user deletes a node while an uncommitted claim gives it work. The delete counts what the node
 * owns and finds nothing. The claim has read the nodes and found it. Afterwards the work belongs to
 * a node that does not exist: no heartbeat row, so no lease that could end, so no reap, for ever.
 *
 * A delete holds the placement lock, and waits for it behind any number of waiting sessions.
 */
import t from 'tap'
import { assignments, deployment, node } from '../helpers/factories.js'
import { rewrite, stage, waitsFor } from './stage.js'

async function aNodeToDelete(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql)
  return { pg, hostA, id, worker: await pg.session('worker'), psql: await pg.session('psql') }
}

const orphans = async (pg: Awaited<ReturnType<typeof stage>>) =>
  (
    await pg.sql`
      select a.id
        from mooring.assignment a
       where a.node_id is not null
         and not exists (select from mooring.node n where n.id = a.node_id)`
  ).length

t.test(
  'a delete waits for the claim in progress, sees what it gave the node, and is refused',
  async (t) => {
    const { pg, id, worker, psql } = await aNodeToDelete(t)
    await worker.begin()
    t.equal((await worker.sql`select * from mooring.claim()`).length, 1)
    // one session waits already: other claims would return, a delete does not
    const waiting = await pg.session('another worker')
    const claiming = waiting.start((sql) => sql`select * from mooring.claim()`)
    await waitsFor(t, pg, waiting, worker)
    const deleting = psql.start((sql) => sql`delete from mooring.node where name = 'host-a'`)
    await waitsFor(t, pg, psql, worker, waiting)
    await worker.commit()
    await claiming.done
    await t.rejects(deleting.done, { code: 'MR006' })
    t.match(await assignments(pg.sql, id), [{ node: 'host-a' }])
  },
)

t.test('a claim that comes during a delete waits for it and places nothing there', async (t) => {
  const { pg, id, worker, psql } = await aNodeToDelete(t)
  await psql.begin()
  await psql.sql`delete from mooring.node where name = 'host-a'`
  const claiming = worker.start((sql) => sql`select * from mooring.claim()`)
  await waitsFor(t, pg, worker, psql)
  await psql.commit()
  t.equal((await claiming.done).length, 0)
  t.match(await assignments(pg.sql, id), [{ node: null }])
})

t.test(
  'an agent that beats or registers while its node is deleted finds it gone, and makes it again',
  async (t) => {
    const { pg, hostA, worker: agent, psql } = await aNodeToDelete(t)
    await psql.begin()
    await psql.sql`delete from mooring.node where name = 'host-a'`
    const beating = agent.start(
      (sql) => sql`select * from mooring.heartbeat(${hostA.name}, ${hostA.session})`,
    )
    await waitsFor(t, pg, agent, psql)
    await psql.commit()
    await t.rejects(beating.done, { code: 'MR003' })
    await node(pg.sql, { name: 'host-a' })
    await psql.begin()
    await psql.sql`delete from mooring.node where name = 'host-a'`
    const registering = agent.start(
      (sql) =>
        sql<
          { node_id: number }[]
        >`select node_id from mooring.register_node('host-a', gen_random_uuid(), '.')`,
    )
    await waitsFor(t, pg, agent, psql)
    await psql.commit()
    const [registered] = await registering.done
    t.match(
      await pg.sql`
        select n.id, h.session is not null as live
          from mooring.node n
          join mooring.heartbeat h on h.node_id = n.id`,
      [{ id: registered!.node_id, live: true }],
    )
  },
)

t.test(
  'a delete that waits for placement and an agent with another version do not wait for each other',
  async (t) => {
    const { pg, hostA, worker, psql } = await aNodeToDelete(t)
    await worker.begin()
    await worker.sql`select mooring_internal.lock_placement()`
    const deleting = psql.start((sql) => sql`delete from mooring.node where name = 'host-a'`)
    await waitsFor(t, pg, psql, worker)
    const agent = await pg.session('agent')
    const registering = agent.start(
      (sql) =>
        sql<{ node_id: number }[]>`
          select node_id
            from mooring.register_node(
              'host-a', gen_random_uuid(), '.', version => '2.0', replaces => ${hostA.session}
            )`,
    )
    await waitsFor(t, pg, agent, psql)
    await worker.commit()
    await deleting.done
    const [registered] = await registering.done
    t.not(registered!.node_id, hostA.id, 'it is a new node of the same name')
    t.match(await pg.sql`select health from mooring.node_status`, [{ health: 'HEALTHY' }])
  },
)

t.test(
  'a daemon that is inserted while its node is deleted leaves a row that the evict round deletes',
  async (t) => {
    const { pg, psql } = await aNodeToDelete(t)
    await psql.begin()
    await psql.sql`delete from mooring.node where name = 'host-a'`
    await deployment(pg.sql, { type: 'daemon' })
    await psql.commit()
    await pg.sql`select * from mooring.evict()`
    t.equal(await orphans(pg), 0)
  },
)

t.test(
  'negative control: a delete that returns as claims do leaves work with a deleted node',
  async (t) => {
    const { pg, id, worker, psql } = await aNodeToDelete(t)
    await rewrite(pg.sql, 'tg_node__guard', [
      'lock_placement(must_wait => true)',
      'lock_placement()',
    ])
    await worker.begin()
    t.equal((await worker.sql`select * from mooring.claim()`).length, 1)
    const waiting = await pg.session('another worker')
    const claiming = waiting.start((sql) => sql`select * from mooring.claim()`)
    await waitsFor(t, pg, waiting, worker)
    await psql.sql`delete from mooring.node where name = 'host-a'`
    await worker.commit()
    await claiming.done
    t.equal(await orphans(pg), 1)
    t.equal((await pg.sql`select * from mooring.reap()`).length, 0, 'no round will ever find it')
    t.match(await assignments(pg.sql, id), [{ node: null, epoch: '1' }], 'owned, by no name')
  },
)
