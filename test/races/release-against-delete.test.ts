/**
 * The owner reports that its processes are gone, and the deployment decides the fate of the row. At
 * the same moment a user deletes the deployment, scales it down or switches it off. If one reads
 * before the other writes, and writes after it, the row is inconsistent: pending for a deleted
 * deployment, placed again although switched off, or deleted although wanted.
 *
 * Both lock the row first and read by a later statement. So the second always observes what the
 * first has left.
 */
import t from 'tap'
import { assignments, deployment, node } from '../helpers/factories.js'
import { gateBefore, rewrite, stage, waitsFor } from './stage.js'

async function oneThatStops(t: Parameters<typeof stage>[0], replicas = 1) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql, { replicas })
  await pg.sql`select mooring.claim()`
  // off and on: each instance is to stop, and afterwards it shall run again
  await pg.sql`update mooring.deployment set enabled = false`
  await pg.sql`update mooring.deployment set enabled = true`
  const rows = await assignments(pg.sql, id)
  t.match(rows, Array(replicas).fill({ node: 'host-a', wanted: 'stop' }))
  const agent = await pg.session('agent of host-a')
  const stopped = (of: (typeof rows)[number]) =>
    agent.start(
      (sql) => sql<{ accepted: boolean | null }[]>`
        select accepted
          from mooring.report(
            ${hostA.name}, ${hostA.session},
            ${sql.json([
              {
                assignment_id: of.id,
                epoch: of.epoch,
                generation: '1',
                state: 'stopped',
              },
            ])}
          )`,
    )
  return { pg, hostA, id, rows, agent, stopped, psql: await pg.session('psql') }
}

const CHANGES = [
  { what: 'deleted', change: 'delete from mooring.deployment', left: [] },
  { what: 'scaled down', change: 'update mooring.deployment set replicas = 0', left: [] },
  {
    what: 'switched off',
    change: 'update mooring.deployment set enabled = false',
    left: [{ node: null, epoch: '2', wanted: 'stop' }],
  },
  {
    what: 'edited',
    change: `update mooring.deployment set selector = '{"zone": "b"}'`,
    left: [{ node: null, epoch: '2', wanted: 'run' }],
  },
] as const

for (const { what, change, left } of CHANGES) {
  t.test(
    `released first, ${what} second: who edits waits for the release and sees what it left`,
    async (t) => {
      const { pg, id, rows, agent, stopped, psql } = await oneThatStops(t)
      await agent.begin()
      t.match(await stopped(rows[0]!).done, [{ accepted: true }])
      const editing = psql.start((sql) => sql.unsafe(change))
      await waitsFor(t, pg, psql, agent)
      await agent.commit()
      await editing.done
      t.match(await assignments(pg.sql, id), left)
      t.equal((await pg.sql`select * from mooring.claim()`).length, 0)
    },
  )

  t.test(
    `${what} first, released second: the report is to be repeated, and finds what was edited`,
    async (t) => {
      const { pg, id, rows, stopped, psql } = await oneThatStops(t)
      await psql.begin()
      await psql.sql.unsafe(change)
      t.match(await stopped(rows[0]!).done, [{ accepted: null }])
      await psql.commit()
      t.match(await stopped(rows[0]!).done, [{ accepted: true }])
      t.match(await assignments(pg.sql, id), left)
      t.equal((await pg.sql`select * from mooring.claim()`).length, 0)
    },
  )

  t.test(`${what} between the lock and the look of a release`, async (t) => {
    const { pg, id, rows, agent, stopped, psql } = await oneThatStops(t)
    const gate = await gateBefore(
      pg,
      'release',
      '-- the deployments are read by a new statement, after the lock',
    )
    await gate.stopHere(agent)
    const reporting = stopped(rows[0]!)
    await waitsFor(t, pg, agent, gate.session)
    const editing = psql.start((sql) => sql.unsafe(change))
    await waitsFor(t, pg, psql, agent)
    await gate.open()
    t.match(await reporting.done, [{ accepted: true }])
    await editing.done
    t.match(await assignments(pg.sql, id), left)
  })
}

t.test(
  'scaled down and up while an instance stops: one row for each ordinal, none twice, none missing',
  async (t) => {
    const { pg, id, rows, agent, stopped, psql } = await oneThatStops(t, 3)
    await agent.begin()
    t.match(await stopped(rows[2]!).done, [{ accepted: true }])
    const editing = psql.start(
      (sql) => sql`update mooring.deployment set replicas = 1 where id = ${id}`,
    )
    await waitsFor(t, pg, psql, agent)
    await agent.commit()
    await editing.done
    t.match(await assignments(pg.sql, id), [
      { ordinal: 0, node: 'host-a' },
      { ordinal: 1, node: 'host-a', wanted: 'stop' },
    ])
    await pg.sql`update mooring.deployment set replicas = 3 where id = ${id}`
    t.match(await stopped(rows[1]!).done, [{ accepted: true }])
    t.match(await assignments(pg.sql, id), [
      { ordinal: 0, node: 'host-a' },
      { ordinal: 1, node: null, wanted: 'run' },
      { ordinal: 2, node: null, wanted: 'run' },
    ])
  },
)

t.test('two that scale one deployment up at once make each ordinal once', async (t) => {
  const { pg, id, psql } = await oneThatStops(t)
  const other = await pg.session('another psql')
  await psql.begin()
  await psql.sql`update mooring.deployment set replicas = 3 where id = ${id}`
  const scaling = other.start(
    (sql) => sql`update mooring.deployment set replicas = replicas + 2 where id = ${id}`,
  )
  await waitsFor(t, pg, other, psql)
  await psql.commit()
  await scaling.done
  t.same(
    (await assignments(pg.sql, id)).map((row) => row.ordinal),
    [0, 1, 2, 3, 4],
  )
})

t.test(
  'negative control: an edit that judges the rows without waiting fails over one that is released',
  async (t) => {
    const { pg, id, rows, agent, stopped, psql } = await oneThatStops(t)
    await rewrite(pg.sql, 'make_assignments', [
      `perform from mooring.assignment a
   where a.deployment_id = any (make_assignments.deployments)
   order by a.id
     for no key update;`,
      '',
    ])
    await agent.begin()
    t.match(await stopped(rows[0]!).done, [{ accepted: true }])
    const deleting = psql.start((sql) => sql`delete from mooring.deployment where id = ${id}`)
    // It judges the row before the release: an owned row, so it is to be surplus and to stop. Then
    // it waits for the release, and the row has no owner any more.
    await waitsFor(t, pg, psql, agent)
    await agent.commit()
    await t.rejects(deleting.done, /assignment_surplus_always_has_a_node/)
  },
)
