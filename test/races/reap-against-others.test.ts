/**
 * A reap meets everything: the reap of another worker, an agent that leaves in order, a report of
 * "stopped", a claim that gives the silent node more work. The second of two must find what the
 * first left, and must not undo it. A row released twice would raise its epoch twice. Worse, it
 * would be freed from the owner it has by then.
 */
import t from 'tap'
import { age, assignments, beat, deployments, node, report } from '../helpers/factories.js'
import { gateBefore, rewrite, stage, waitsFor } from './stage.js'

async function aSilentHost(t: Parameters<typeof stage>[0], { silent = true, n = 3 } = {}) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  await deployments(pg.sql, n)
  t.equal((await pg.sql`select * from mooring.claim()`).length, n)
  for (const row of await assignments(pg.sql)) await report(pg.sql, hostA, row, 'running')
  if (silent) await age(pg.sql, 'host-a', '61 seconds ago')
  return { pg, hostA, first: await pg.session('first'), second: await pg.session('second') }
}

const reapIn = async ({ sql }: Awaited<ReturnType<Awaited<ReturnType<typeof stage>>['session']>>) =>
  (await sql`select * from mooring.reap()`).length

t.test('two reaps at once: one frees all, the other nothing, and neither waits', async (t) => {
  const { pg, first, second } = await aSilentHost(t)
  await first.begin()
  t.equal(await reapIn(first), 3)
  t.equal(await reapIn(second), 0)
  await first.commit()
  t.equal(await reapIn(second), 0)
  t.match(await assignments(pg.sql), Array(3).fill({ node: null, epoch: '2' }))
  t.equal((await pg.sql`select from mooring.event where kind = 'reaped'`).length, 3)
})

t.test('a reap that is rolled back leaves it to the next', async (t) => {
  const { first, second } = await aSilentHost(t)
  await first.begin()
  t.equal(await reapIn(first), 3)
  await first.rollback()
  t.equal(await reapIn(second), 3)
})

t.test(
  'a reap in bounded batches leaves the rest to the next batch, of the same node as well',
  async (t) => {
    const { pg, first } = await aSilentHost(t)
    t.equal((await first.sql`select * from mooring.reap(2)`).length, 2)
    t.equal((await first.sql`select * from mooring.reap(2)`).length, 1)
    t.match(await assignments(pg.sql), Array(3).fill({ node: null, epoch: '2' }))
  },
)

t.test(
  'negative control: a reap without locks or epochs frees the work of its next owner',
  async (t) => {
    const { pg, first, second } = await aSilentHost(t)
    const hostB = await node(pg.sql, { name: 'host-b' })
    await rewrite(
      pg.sql,
      'reap',
      ['order by h.node_id for update skip locked', 'order by h.node_id'],
      ['for update of a skip locked', ''],
    )
    await rewrite(pg.sql, 'release', [' and a.epoch = o.epoch', ''])
    const gate = await gateBefore(pg, 'reap', 'return query\n      select r.*')
    await gate.stopHere(second)
    const reaping = second.start((sql) => sql`select * from mooring.reap()`)
    await waitsFor(t, pg, second, gate.session)
    t.equal(await reapIn(first), 3)
    t.equal((await first.sql`select * from mooring.claim()`).length, 3)
    t.equal((await beat(pg.sql, hostB)).owned, 3, 'host-b, which lives, is ordered to run it')
    await gate.open()
    t.equal((await reaping.done).length, 3)
    t.match(await assignments(pg.sql), Array(3).fill({ node: null, epoch: '4' }), 'and loses it')
  },
)

t.test('an agent that leaves while it is reaped waits, and leaves with nothing', async (t) => {
  const { pg, hostA, first, second } = await aSilentHost(t)
  await first.begin()
  t.equal(await reapIn(first), 3)
  const leaving = second.start(
    (sql) => sql`select mooring.leave(${hostA.name}, ${hostA.session}) as released`,
  )
  await waitsFor(t, pg, second, first)
  await first.commit()
  t.match(await leaving.done, [{ released: 0 }])
  t.match(await assignments(pg.sql), Array(3).fill({ node: null, epoch: '2' }))
})

t.test('a reap that meets an agent in the middle of leaving passes by', async (t) => {
  const { pg, hostA, first, second } = await aSilentHost(t)
  await first.begin()
  t.match(await first.sql`select mooring.leave(${hostA.name}, ${hostA.session}) as released`, [
    { released: 3 },
  ])
  t.equal(await reapIn(second), 0)
  await first.commit()
  t.equal(await reapIn(second), 0)
  t.match(await assignments(pg.sql), Array(3).fill({ node: null, epoch: '2' }))
  t.equal((await pg.sql`select from mooring.event where kind = 'released'`).length, 3)
})

t.test(
  'a claim that began before its node left places work there: the next reap frees it at once',
  async (t) => {
    const { pg, hostA, first, second } = await aSilentHost(t, { silent: false })
    await node(pg.sql, { name: 'host-b', max_assignments: 0 })
    await deployments(pg.sql, 2)
    await first.begin()
    t.equal((await first.sql`select * from mooring.claim()`).length, 2)
    t.match(await second.sql`select mooring.leave(${hostA.name}, ${hostA.session}) as released`, [
      { released: 3 },
    ])
    await first.commit()
    t.equal((await assignments(pg.sql)).filter((row) => row.node === 'host-a').length, 2)
    t.equal(await reapIn(second), 2)
    t.equal((await assignments(pg.sql)).filter((row) => row.node === null).length, 5)
  },
)

t.test(
  '"stopped" that is not yet committed: the reap passes that row by and takes the others',
  async (t) => {
    const { pg, hostA, first, second } = await aSilentHost(t)
    const [stopping] = await assignments(pg.sql)
    await pg.sql`
      update mooring.deployment set enabled = false where id = ${stopping!.deployment_id}`
    await first.begin()
    t.equal(await report(first.sql, hostA, stopping!, 'stopped'), true)
    t.equal(await reapIn(second), 2)
    t.match(
      await pg.sql`select assignment_id, detail from mooring.event where kind = 'reap_blocked'`,
      [{ assignment_id: stopping!.id, detail: { pid: first.pid } }],
    )
    await first.commit()
    t.equal(await reapIn(second), 0)
    t.match(
      await assignments(pg.sql),
      Array(3).fill({ node: null, epoch: '2' }),
      'each was released once',
    )
  },
)

t.test(
  'locked rows keep a batch from none that lie behind them, and one event names all of a holder',
  async (t) => {
    const { pg, first, second } = await aSilentHost(t)
    const held = (await assignments(pg.sql)).slice(0, 2).map(({ id }) => id)
    await first.begin()
    await first.sql`
      select from mooring.assignment a where a.id = any (${held}::bigint[]) for update`
    const batch = async () => (await second.sql`select * from mooring.reap(2)`).length
    t.equal(await batch(), 1, 'a batch of two, and the first two are held')
    t.equal(await batch(), 0)
    t.match(
      await pg.sql`
        select assignment_id, reason, detail from mooring.event where kind = 'reap_blocked'`,
      [
        {
          assignment_id: held[0],
          reason: `the row is locked by pid ${first.pid}, as are 1 more`,
          detail: { pid: first.pid, rows: 2 },
        },
      ],
    )
    await first.commit()
    t.equal(await batch(), 2)
  },
)

t.test(
  'a "stopped" during an uncommitted reap waits for its observation only, and comes too late',
  async (t) => {
    const { pg, hostA, first, second } = await aSilentHost(t)
    const [stopping] = await assignments(pg.sql)
    await pg.sql`
      update mooring.deployment set enabled = false where id = ${stopping!.deployment_id}`
    await first.begin()
    t.equal(await reapIn(first), 3)
    const reporting = second.start(
      (sql) => sql`
        select accepted
          from mooring.report(
            ${hostA.name}, ${hostA.session},
            ${sql.json([
              {
                assignment_id: stopping!.id,
                epoch: stopping!.epoch,
                generation: '1',
                state: 'stopped',
              },
            ])}
          )`,
    )
    await waitsFor(t, pg, second, first)
    await first.commit()
    t.match(await reporting.done, [{ accepted: false }])
    t.match(await assignments(pg.sql), Array(3).fill({ node: null, epoch: '2' }))
    t.equal(
      (await pg.sql`select from mooring.event where kind in ('released', 'reaped')`).length,
      3,
    )
  },
)

t.test(
  'reports of all that a host runs and a reap of all of it do not deadlock, in any order of locks',
  async (t) => {
    const { pg, hostA, first, second } = await aSilentHost(t, { n: 50 })
    const rows = await assignments(pg.sql)
    const batch = (order: typeof rows) =>
      order.map((row) => ({
        assignment_id: row.id,
        epoch: row.epoch,
        generation: '1',
        state: 'running',
      }))
    await first.begin()
    await report(first.sql, hostA, rows[30]!, 'running')
    const reaping = second.start((sql) => sql`select * from mooring.reap()`)
    t.equal((await reaping.done).length, 50, 'an observation that is being written stops no reap')
    await first.sql`
      select *
        from mooring.report(
          ${hostA.name}, ${hostA.session}, ${first.sql.json(batch([...rows].reverse()))}
        )`
    await first.commit()
    t.match(await assignments(pg.sql), Array(50).fill({ node: null, epoch: '2' }))
  },
)

t.test(
  'work just claimed under a short lease of its own is not reaped before its node could hear of it',
  async (t) => {
    const { pg, hostA, first } = await aSilentHost(t, { silent: false })
    await pg.sql`update mooring.setting set reap_margin = '50 ms'`
    await age(pg.sql, 'host-a', '2 seconds ago')
    await pg.sql`
      insert into mooring.deployment (package_name, lease_ttl) values ('http-server', '300 ms')`
    t.equal((await first.sql`select * from mooring.claim()`).length, 1)
    t.equal(await reapIn(first), 0, 'the node lives: its last beat was 2 s ago, of 12')
    t.match(
      await beat(pg.sql, hostA),
      { owned: 4, next_beat_ms: 100 },
      'from now on it beats faster',
    )
    await pg.sql`update mooring.assignment set assigned_at = assigned_at - interval '1 s'`
    await age(pg.sql, 'host-a', '500 ms ago')
    t.equal(await reapIn(first), 1, 'and from now on the short lease counts')
  },
)
