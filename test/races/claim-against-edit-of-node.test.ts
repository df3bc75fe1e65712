/**
 * A claim looks at the nodes once, at its beginning. While it runs, an operator takes a label from
 * a node, narrows what it trusts or switches it off. The edit does not wait for the claim, and
 * cannot see what the claim has not committed; the claim does not see the edit. Together they leave
 * work on a node that must not run it, and neither of them will ever look again.
 *
 * The evict round looks: what must hold all the time (label, trust, pin) is judged for everything
 * that is owned, however it came there.
 */
import t from 'tap'
import { assignments, deployment, node, report } from '../helpers/factories.js'
import { gateBefore, stage, waitsFor } from './stage.js'

async function aClaimInTheMiddle(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a', labels: { zone: 'b' } })
  const id = await deployment(pg.sql, { selector: { zone: 'b' } })
  const worker = await pg.session('worker')
  const gate = await gateBefore(pg, 'claim', 'for class_of_work in')
  await gate.stopHere(worker)
  const claiming = worker.start((sql) => sql`select * from mooring.claim()`)
  await waitsFor(t, pg, worker, gate.session)
  return { pg, hostA, id, psql: await pg.session('psql'), claiming, gate }
}

for (const [what, edit, reason] of [
  [
    'loses a label',
    `update mooring.node set labels = '{}'`,
    'the node lacks labels of the selector',
  ],
  [
    'trusts less',
    `update mooring.node set trusts = '^something-else@'`,
    'the node does not trust the package',
  ],
] as const) {
  t.test(
    `a node that ${what} while work is on the way gets the work, and the evict round frees it`,
    async (t) => {
      const { pg, hostA, id, psql, claiming, gate } = await aClaimInTheMiddle(t)
      await psql.sql.unsafe(edit)
      await gate.open()
      t.equal((await claiming.done).length, 1, 'the claim did not know')
      const [row] = await assignments(pg.sql, id)
      t.match(row, { node: 'host-a', wanted: 'run' })
      t.match(await pg.sql`select id from mooring.evict()`, [{ id: row!.id }])
      t.match(await assignments(pg.sql, id), [
        { node: 'host-a', wanted: 'stop', stop_reason: reason },
      ])
      t.equal(await report(pg.sql, hostA, row!, 'stopped'), true)
      t.match(await assignments(pg.sql, id), [{ node: null, wanted: 'run' }])
      t.equal(
        (await pg.sql`select * from mooring.claim()`).length,
        0,
        'and it is not placed there again',
      )
      t.equal((await pg.sql`select * from mooring.evict()`).length, 0)
    },
  )
}

t.test(
  'the edit of a node in an open transaction is not waited for, by no claim and no evict round',
  async (t) => {
    const { pg, psql, claiming, gate } = await aClaimInTheMiddle(t)
    await psql.begin()
    await psql.sql`update mooring.node set labels = '{}'`
    await gate.open()
    t.equal((await claiming.done).length, 1)
    t.equal(
      (await pg.sql`select * from mooring.evict()`).length,
      0,
      'still permitted, as far as the database knows',
    )
    await psql.commit()
    t.equal((await pg.sql`select * from mooring.evict()`).length, 1)
  },
)

t.test(
  'a node that is disabled while work is on the way to it keeps the work, as it keeps all it has',
  async (t) => {
    const { pg, id, psql, claiming, gate } = await aClaimInTheMiddle(t)
    await psql.sql`update mooring.node set enabled = false`
    await gate.open()
    t.equal((await claiming.done).length, 1)
    t.equal((await pg.sql`select * from mooring.evict()`).length, 0)
    t.match(await assignments(pg.sql, id), [{ node: 'host-a', wanted: 'run' }])
    await deployment(pg.sql)
    t.equal((await pg.sql`select * from mooring.claim()`).length, 0, 'but gets no more')
  },
)

t.test(
  'work that is freed and placed elsewhere during an evict round is not stopped at its new node',
  async (t) => {
    const pg = await stage(t)
    const hostA = await node(pg.sql, { name: 'host-a', labels: { zone: 'b' } })
    const id = await deployment(pg.sql, { selector: { zone: 'b' } })
    await pg.sql`select mooring.claim()`
    const [row] = await assignments(pg.sql, id)
    await node(pg.sql, { name: 'host-b', labels: { zone: 'b' } })
    // host-a stops being fit and no round has noticed it yet, as after a claim in the middle of an
    // edit
    await pg.sql`alter table mooring.node disable trigger tg_node__change`
    await pg.sql`update mooring.node set labels = '{}' where name = 'host-a'`
    const rounds = await pg.session('rounds')
    const agent = await pg.session('agent of host-a')
    await agent.begin()
    t.equal(await report(agent.sql, hostA, row!, 'refused'), true)
    t.equal(
      (await rounds.sql`select * from mooring.evict()`).length,
      0,
      'the row that is being freed is passed by',
    )
    await agent.commit()
    t.equal((await pg.sql`select * from mooring.claim()`).length, 1)
    t.equal((await rounds.sql`select * from mooring.evict()`).length, 0)
    t.match(await assignments(pg.sql, id), [{ node: 'host-b', wanted: 'run' }])
  },
)
