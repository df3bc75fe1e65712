import t from 'tap'
import { placements, running } from '../agent/fleet.js'
import { testDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'
import {
  alive,
  claims,
  eventsOf,
  gone,
  hosts,
  lastEvent,
  live,
  PATIENCE_MS,
  processes,
  shortLeases,
} from './hosts.js'

t.test(
  'Y3: a host dies with its work: the survivors run everything, and the host is used again later',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql)
    const { agent, worker } = hosts(t, url)
    worker()
    agent('host-a')
    agent('host-b')
    const c = agent('host-c')
    await live(sql, 'host-a', 'host-b', 'host-c')
    await sql`
      insert into mooring.deployment (command, args)
      select 'sleep', '["1000"]'
        from generate_series(1, 21)`
    const before = await running(sql, 21, PATIENCE_MS)
    const specs = () =>
      sql`
        select d.id, d.generation, d.created_at::text, d.updated_at::text, d.pinned_node
          from mooring.deployment d
         order by d.id`
    const asked = await specs()
    const orphans = before.filter((row) => row.node === 'host-c')
    t.equal(orphans.length, 7)

    const event = await lastEvent(sql)
    c.killTree()
    await c.exited
    await gone(
      orphans.map((row) => row.pid),
      'the host is dead',
    )
    const after = await waitFor(
      async () => {
        const rows = await placements(sql)
        return rows.every((row) => row.node !== 'host-c' && row.run_state === 'running')
          ? rows
          : null
      },
      {
        label: 'the survivors run everything',
        timeoutMs: PATIENCE_MS,
        show: () => placements(sql),
      },
    )
    t.equal(after.length, 21, 'no row is lost')
    t.equal(new Set(after.map((row) => row.pid)).size, 21)
    t.ok(after.every((row) => alive(row.pid)))

    await t.test(
      'defect 3: all orphans are claimed in one pass, in the order of the queue',
      async (t) => {
        const taken = await claims(sql, event)
        t.same(
          taken.map((claim) => claim.assignment_id),
          orphans.map((row) => row.assignment_id),
        )
        t.equal(new Set(taken.map((claim) => claim.tx)).size, 1)
        t.same(
          [
            ...(await sql`
              select p.node, count(*)::int
                from mooring.placement p
               group by p.node
               order by count(*), p.node`),
          ].map(({ count }) => count as number),
          [10, 11],
        )
      },
    )
    await t.test('defect 5: nothing of a live host has moved or was started again', (t) => {
      const stayed = before.filter((row) => row.node !== 'host-c')
      t.strictSame(
        processes(
          after.filter((row) => stayed.some((of) => of.assignment_id === row.assignment_id)),
        ),
        processes(stayed),
      )
      t.end()
    })
    t.strictSame(
      await specs(),
      asked,
      'failover changes no user column: no place in the queue is lost, no pin is touched',
    )

    const again = agent('host-c')
    await live(sql, 'host-a', 'host-b', 'host-c')
    await sql`
      insert into mooring.deployment (command, args)
      select 'sleep', '["1000"]'
        from generate_series(1, 9)`
    const all = await running(sql, 30, PATIENCE_MS)
    t.strictSame(
      processes(all.slice(0, 21)),
      processes(after),
      'a host that comes back robs no other host',
    )
    const fresh = all.slice(21).filter((row) => row.node === 'host-c').length
    t.ok(fresh >= 5, `and is given ${fresh} of 9 new ones, though it has half its weight at first`)
    t.equal(again.ended(), false)
    t.equal(await eventsOf(sql, 'reaped'), 7)
  },
)
