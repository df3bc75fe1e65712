/**
 * A standby is promoted. It has what its primary had streamed to it. With an asynchronous standby
 * that is not all: the primary may have handed work to other hosts a moment before. The standby
 * believes the old owners, and counts on from its own epochs when it hands out the same work again.
 * So it hands out a second time the number that tells the new owner from the old ones. A fence by
 * that number lets both in.
 *
 * The timeline, which rises with each promotion, is the high part of each epoch. As after a crash,
 * the first lease and margin are a hold.
 */
import t from 'tap'
import type { Test } from 'tap'
import { age, deployments, node } from '../helpers/factories.js'
import { aFleetOn, CRASHED, hold } from './own-server.js'
import type { Session } from './stage.js'

t.test(
  'a standby shows everything and decides nothing; promoted, it holds before it decides',
  async (t) => {
    const { server, sql: before } = await aFleetOn(t)
    await node(before, { name: 'host-a' })
    await deployments(before, 3)
    await before`select * from mooring.claim(2)`
    await before`select mooring.tick('worker')`
    await age(before, 'host-a', '11 minutes ago')
    const { standby, promote } = await server.copyAsStandby()
    t.match(await standby.sql`select nodes, assigned, waiting, hold from mooring.fleet`, [
      { nodes: 1, assigned: 2, waiting: 1, hold: null },
    ])
    t.match(await standby.sql`select node, health from mooring.node_status`, [
      { node: 'host-a', health: 'STALE' },
    ])
    t.equal((await standby.sql`select * from mooring.placement`).length, 3)
    t.equal((await standby.sql`select * from mooring.unplaced`).length, 1)
    t.ok((await standby.sql`select * from mooring.last_events(10)`).length > 0)
    t.equal(
      (await standby.sql`select * from mooring.explain((select min(id) from mooring.deployment))`)
        .length,
      1,
    )
    await t.rejects(
      standby.sql`select * from mooring.claim()`,
      { code: /^(25006|55000|0A000)$/ },
      'claims are for the primary',
    )
    await promote()
    t.equal((await hold(standby.sql)).hold, CRASHED)
    t.equal((await standby.sql`select * from mooring.reap()`).length, 0)
    t.equal((await standby.sql`select * from mooring.claim()`).length, 0)
    t.equal((await standby.sql`select from mooring.event where kind = 'hold_started'`).length, 1)
  },
)

/** The hold after the promotion has ended, and no node has beaten since. */
async function holdIsOver(t: Test, sql: Session['sql']): Promise<void> {
  t.equal((await sql`select * from mooring.claim()`).length, 0, 'the promotion is noticed')
  await sql`
    update mooring_internal.pulse set hold_until = clock_timestamp(), pulse_at = clock_timestamp()`
  await age(sql, 'host-a', '11 minutes ago')
}

/**
 * Three assignments placed; their standby is promoted without the claims that its primary made
 * last. The epochs these had, and those handed out next.
 */
async function promotedWithoutTheLastClaims(
  t: Test,
  prepare: (sql: Session['sql']) => Promise<unknown>,
): Promise<{ lost: bigint[]; next: bigint[] }> {
  const { server, sql: before } = await aFleetOn(t)
  await node(before, { name: 'host-a' })
  await deployments(before, 3)
  await prepare(before)
  await before`select * from mooring.claim()`
  await before`select mooring.tick('worker')`
  const { standby, promote } = await server.copyAsStandby()
  const primary = await server.open('primary')
  await age(primary.sql, 'host-a', '11 minutes ago')
  t.equal((await primary.sql`select * from mooring.reap()`).length, 3)
  await node(primary.sql, { name: 'host-b' })
  const lost = (await primary.sql<{ epoch: string }[]>`select epoch from mooring.claim()`).map(
    ({ epoch }) => BigInt(epoch),
  )
  t.same(lost, [3n, 3n, 3n], 'the primary hands out a token that the standby never hears of')
  await promote()
  await holdIsOver(t, standby.sql)
  t.equal((await standby.sql`select * from mooring.reap()`).length, 3)
  await node(standby.sql, { name: 'host-c' })
  const next = (await standby.sql<{ epoch: string }[]>`select epoch from mooring.claim()`).map(
    ({ epoch }) => BigInt(epoch),
  )
  t.equal(next.length, 3)
  return { lost, next }
}

t.test(
  'a promoted standby that lost the last claims hands out greater tokens than they had',
  async (t) => {
    const { lost, next } = await promotedWithoutTheLastClaims(t, async () => {})
    t.ok(
      next.every((epoch) => lost.every((other) => epoch > other)),
      `${next.join(', ')} after ${lost.join(', ')}`,
    )
    t.same(
      next,
      [(1n << 40n) + 2n, (1n << 40n) + 2n, (1n << 40n) + 2n],
      'two steps into the second timeline: reaped, claimed',
    )
  },
)

t.test('negative control: an epoch without the timeline is handed out twice', async (t) => {
  const { lost, next } = await promotedWithoutTheLastClaims(
    t,
    (sql) =>
      sql`
        create or replace function mooring_internal.next_epoch(epoch bigint) returns bigint
          language sql stable
          return epoch + 1`,
  )
  t.same(next, lost)
})
