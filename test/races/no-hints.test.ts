/**
 * Hints are notifications, and these fail a commit where their queue is full, or a transaction that
 * is prepared. A forgotten LISTEN must stop neither an INSERT of a user nor a failover.
 */
import t from 'tap'
import type { Test } from 'tap'
import type { Sql } from 'postgres'
import { age, deployments, node } from '../helpers/factories.js'
import { ownServer } from '../helpers/own-server.js'
import { testDatabase } from '../helpers/postgres.js'
import { claim, loads } from '../sql/story.js'

t.test('a queue that is full fails nothing of ours: insert, beat, reap, claim, tick', async (t) => {
  const probe = await testDatabase(t)
  const [{ version }] = await probe.sql<
    [{ version: number }]
  >`select current_setting('server_version_num')::int as version`
  if (version < 170_000) {
    t.comment('before PostgreSQL 17 the queue holds 8 GB: may_notify() is replaced')
    await probe.sql`
      create or replace function mooring_internal.may_notify() returns boolean
        language sql return false`
    await carriesOn(t, probe.sql)
    const rows = await probe.sql`select from mooring_jobs.jobs`
    t.equal(rows.length, 0, 'no job was queued, so none was announced')
    return
  }
  const server = await ownServer(t, { max_notify_queue_pages: '64' })
  const { sql } = server
  const forgotten = await sql.reserve()
  t.teardown(() => forgotten.release())
  await forgotten`listen anything`
  await forgotten`begin`
  await forgotten`select txid_current()`
  const fill = () =>
    sql`select pg_notify('anything', repeat('x', 7900) || n) from generate_series(1, 2) n`
  let full = false
  for (let nr = 0; nr < 200 && !full; nr++)
    await fill().catch((error: { code?: string }) => {
      full = error.code === '54000'
    })
  t.ok(full, 'another notification fails its transaction')
  await carriesOn(t, sql)
  t.match(await sql`select level, found from mooring.doctor() where check_name = 'notifications'`, [
    { level: 'problem', found: /hints are left out/ },
  ])
})

async function carriesOn(t: Test, sql: Sql): Promise<void> {
  const lost = await node(sql, { name: 'lost' })
  await deployments(sql, 3)
  await sql`select from mooring.tick('worker')`
  t.same(await loads(sql), { lost: 3 }, 'a tick that may not queue a job runs the round')
  await node(sql, { name: 'other' })
  await age(sql, lost.name, '1 minute ago')
  await sql`select from mooring.reap()`
  await claim(sql)
  t.same(await loads(sql), { lost: 0, other: 3 })
}

t.test('a user of two-phase commit leaves the hints out', async (t) => {
  const { sql } = await ownServer(t, { max_prepared_transactions: '2' })
  await node(sql, { name: 'host-a' })
  const session = await sql.reserve()
  t.teardown(() => session.release())
  const insert = async (name: string) => {
    await session`begin`
    await deployments(session, 1)
    await session.unsafe(`prepare transaction '${name}'`)
  }
  await t.rejects(insert('with'), /cannot PREPARE a transaction that has executed/)
  await session`rollback`.catch(() => {})
  await session`set mooring.hints = off`
  await insert('without')
  await session`commit prepared 'without'`
  await sql`select from mooring.tick('agent', inline => true)`
  t.same(await loads(sql), { 'host-a': 1 }, 'the next round finds it')
})
