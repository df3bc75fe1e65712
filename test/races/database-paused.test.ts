/**
 * The database's machine stands still for longer than a lease: a snapshot of the VM, a full disk, a
 * debugger. Nothing crashes and nothing restarts. When the machine goes on, its clock has gone on
 * as well. Every beat in the table is older than a lease, and the next beats of the agents are
 * still on their way. The first reaper would free everything.
 *
 * The pulse shows the outage. No worker has ticked for more than half a lease, so no agent can have
 * beaten either.
 */
import t from 'tap'
import type { Test } from 'tap'
import { assignments, beat, deployments, node } from '../helpers/factories.js'
import { waitFor } from '../helpers/wait-for.js'
import { aFleetOn, hold } from './own-server.js'
import type { Session } from './stage.js'

// half of it without a tick is an outage: no moment in which a slow machine does nothing is as long
const LEASE_MS = 8_000
const MARGIN_MS = 300

/**
 * A node with three assignments and one that waits, and the database stopped in mid-air until its
 * lease and margin are over.
 */
async function pausedForLongerThanALease(
  t: Test,
  prepare: (sql: Session['sql']) => Promise<unknown>,
) {
  const { server, sql } = await aFleetOn(t)
  await sql`
    update mooring.setting
       set beat_interval = '500 ms',
           lease_ttl = ${`${LEASE_MS} ms`},
           reap_margin = ${`${MARGIN_MS} ms`}`
  await prepare(sql)
  const host = await node(sql, { name: 'host-a' })
  await deployments(sql, 4)
  await sql`select * from mooring.claim(3)`
  await sql`select mooring.tick('worker')`
  t.match(await beat(sql, host), { owned: 3, hold: false })
  const goOn = server.pause()
  const stoppedAtMs = performance.now()
  await waitFor(() => performance.now() - stoppedAtMs > LEASE_MS + MARGIN_MS + 100, {
    label: 'the lease is over',
    timeoutMs: 30_000,
  })
  goOn()
  return { sql, host }
}

t.test(
  'after a pause longer than a lease nothing is reaped or claimed until every node could beat',
  async (t) => {
    const { sql, host } = await pausedForLongerThanALease(t, async () => {})
    t.equal((await sql`select * from mooring.reap()`).length, 0)
    t.match((await hold(sql)).hold, /^no worker or agent ticked for 00:00:(0[89]|[1-5])/)
    t.equal((await sql`select * from mooring.claim()`).length, 0)
    t.match(
      await beat(sql, host),
      { owned: 3, hold: true },
      'its agent comes back and starts nothing',
    )
    // every agent and worker goes on as usual, without help
    await waitFor(
      async () => {
        await beat(sql, host)
        await sql`select mooring.tick('worker', inline => true)`
        return (await assignments(sql)).every((row) => row.node === 'host-a')
      },
      { label: 'what waited is placed', timeoutMs: 60_000 },
    )
    t.equal((await hold(sql)).hold, null)
    t.same(
      (await assignments(sql)).map(({ epoch }) => epoch),
      ['1', '1', '1', '1'],
      'nothing ever left its node',
    )
    t.equal(
      (await sql`select from mooring.event where kind = 'hold_started'`).length,
      1,
      'noticed once',
    )
  },
)

t.test('negative control: without the hold the first reap takes everything', async (t) => {
  const { sql } = await pausedForLongerThanALease(
    t,
    (sql) =>
      sql`
        create or replace function mooring_internal.notice_outage() returns boolean
          language sql
          return false`,
  )
  t.equal((await sql`select * from mooring.reap()`).length, 3)
})
