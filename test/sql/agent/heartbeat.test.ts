import { createHash } from 'node:crypto'
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'
import { age, assignments, beat, deployment, deployments, node } from '../../helpers/factories.js'
import type { TestNode } from '../../helpers/factories.js'
import { claim, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const sample = async (sql: TransactionSql) => {
  const [row] = await sql`
      select cpu_pct, memory_mb, disk_free_pct, disk_free_bytes, running, sampled_at
        from mooring.heartbeat`
  return { ...row }
}

story('a beat answers with the digest of what the node owns', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  t.match(await beat(sql, host), { digest: createHash('sha256').digest('hex'), owned: 0 })
  const ids = await deployments(sql, 11)
  await claim(sql)
  await sql`delete from mooring.deployment where id = ${ids[3]!}`
  await sql`update mooring.deployment set env = '{"A": "1"}' where id = ${ids[4]!}`
  const text = (await assignments(sql))
    .map((row) => [row.id, row.epoch, row.generation ?? '0', row.wanted, 'stop', 10_000].join(':'))
    .join(',')
  t.match(text, /:1:0:stop:stop:10000,.*:1:2:run:/)
  t.match(await beat(sql, host), {
    digest: createHash('sha256').update(text).digest('hex'),
    owned: 11,
  })
})

story('a beat says when to beat next: sooner when a short lease is held', async (t, sql) => {
  const host = await node(sql)
  t.match(await beat(sql, host), { lease_ttl_ms: 12_000, next_beat_ms: 3000, hold: false })
  await deployment(sql, { lease_ttl: '1500 ms' })
  await claim(sql)
  t.match(await beat(sql, host), { next_beat_ms: 500 })
  await sql`update mooring.deployment set on_lost = 'keep'`
  await deployment(sql, { type: 'daemon', lease_ttl: '1500 ms' })
  t.match(await beat(sql, host), { next_beat_ms: 3000 }, 'a lease that is not kept counts nothing')
  await sql`update mooring.deployment set on_lost = 'stop'`
  await sql`update mooring.setting set beat_interval = '100 ms', lease_ttl = '300 ms'`
  t.match(await beat(sql, host), { lease_ttl_ms: 300, next_beat_ms: 100 })
})

story('a beat renews the lease by the database clock, never backwards', async (t, sql) => {
  const host = await node(sql, { seen: '10 seconds ago' })
  await beat(sql, host)
  const [fresh] =
    await sql`select clock_timestamp() - beat_at < interval '5 s' as fresh from mooring.heartbeat`
  t.same(fresh, { fresh: true })
  await sql`update mooring.setting set reap_margin = '1 min'`
  await sql`update mooring.heartbeat set beat_at = clock_timestamp() + interval '30 s'`
  await beat(sql, host)
  const [ahead] = await sql`select beat_at > clock_timestamp() as kept from mooring.heartbeat`
  t.same(ahead, { kept: true }, 'a small step of the clock')
  await sql`update mooring.heartbeat set beat_at = clock_timestamp() + interval '1 hour'`
  await beat(sql, host)
  const [back] = await sql`select beat_at <= clock_timestamp() as clamped from mooring.heartbeat`
  t.same(back, { clamped: true }, 'one larger than the margin')
})

story(
  'defect 14: a beat without figures keeps the old ones, and each figure stands for itself',
  async (t, sql) => {
    const host = await node(sql, {
      sample: { cpu_pct: 1.5, memory_mb: 20, disk_free_pct: 50, disk_free_bytes: 1e12, running: 3 },
    })
    const before = await sample(sql)
    t.match(before, {
      cpu_pct: 1.5,
      memory_mb: 20,
      disk_free_pct: 50,
      disk_free_bytes: '1000000000000',
      running: 3,
    })
    await beat(sql, host)
    t.same(await sample(sql), before)
    await beat(sql, host, { cpu_pct: 2 })
    t.match(await sample(sql), { cpu_pct: 2, memory_mb: 20, running: 3 })
  },
)

story('an impossible figure is no figure and does not cost the beat', async (t, sql) => {
  const host = await node(sql, {
    sample: { cpu_pct: 1, memory_mb: 2, disk_free_pct: 3, disk_free_bytes: 4, running: 5 },
    seen: '10 seconds ago',
  })
  for (const value of [NaN, Infinity, -1, 1e300])
    await beat(sql, host, { cpu_pct: value, memory_mb: value, disk_free_pct: value })
  await beat(sql, host, { disk_free_pct: 100.1, disk_free_bytes: -1, running: -1 })
  t.match(await sample(sql), {
    cpu_pct: 1,
    memory_mb: 2,
    disk_free_pct: 3,
    disk_free_bytes: '4',
    running: 5,
  })
  const [fresh] =
    await sql`select clock_timestamp() - beat_at < interval '5 s' as fresh from mooring.heartbeat`
  t.same(fresh, { fresh: true })
})

story('the beat of an older session, or of none, is refused', async (t, sql) => {
  const host = await node(sql, { name: 'host-a', seen: '1 minute ago' })
  const [other] = await sql<{ id: string }[]>`select gen_random_uuid() as id`
  await sql`select from mooring.register_node('host-a', ${other!.id})`
  await refused(t, sql, (sql) => beat(sql, host), { code: 'MR001' })
  await sql`select from mooring.leave('host-a', ${other!.id})`
  await refused(
    t,
    sql,
    (sql) => beat(sql, { name: 'host-a', session: other!.id }),
    { code: 'MR001' },
    'after it left',
  )
  await refused(
    t,
    sql,
    (sql) => beat(sql, { name: 'host-b', session: host.session }),
    { code: 'MR003', hint: /host-a/ },
    'unknown node',
  )
})

story('defect 13: a beat touches nothing that an operator edited', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await sql`update mooring.node set enabled = false, weight = 7`
  const [before] = await sql`select * from mooring.node`
  await beat(sql, host, { cpu_pct: 1 })
  const [after] = await sql`select * from mooring.node`
  t.same(after, before)
})

story(
  'rounds that no worker runs are reported overdue, until an agent has run them',
  async (t, sql) => {
    // so that none becomes overdue by itself
    await sql`update mooring.setting set lease_ttl = '1 hour', round_interval = '10 min'`
    const host = await node(sql)
    t.match(await beat(sql, host), { round_overdue: true }, 'never run')
    await sql`select mooring.tick('me', inline => true)`
    t.match(await beat(sql, host), { round_overdue: false })
    await sql`
    update mooring_internal.round set done_at = done_at - interval '15 min' where name = 'place'`
    t.match(await beat(sql, host), { round_overdue: true })
    await sql`update mooring_internal.round set done_at = clock_timestamp() + interval '1 hour'`
    t.match(await beat(sql, host), { round_overdue: true }, 'after the clock was set back')
  },
)

void t.test('a heartbeat in a transaction of another isolation level is refused', async (t) => {
  await t.rejects(
    pg.sql.begin('isolation level repeatable read', (sql) =>
      beat(sql, { name: 'x', session: '00000000-0000-0000-0000-000000000000' }),
    ),
    { code: 'MR008' },
  )
})

void t.test(
  'every beat is a HOT update: no index is written, unless one is made on what changes',
  async (t) => {
    const pg = await testDatabase(t)
    const sql = pg.client()
    const hosts: TestNode[] = []
    for (let n = 0; n < 20; n++) hosts.push(await node(sql))
    const written = async () => {
      await sql`select pg_stat_force_next_flush()`
      const [row] = await sql<{ updated: number; hot: number }[]>`
        select n_tup_upd::int as updated, n_tup_hot_upd::int as hot
          from pg_stat_user_tables
         where relid = 'mooring.heartbeat'::regclass`
      return row!
    }
    /** Share of HOT updates in 500 beats. */
    const hotShare = async () => {
      const before = await written()
      for (let round = 0; round < 25; round++)
        for (const host of hosts)
          await beat(sql, host, {
            cpu_pct: round,
            memory_mb: round,
            disk_free_pct: 50,
            disk_free_bytes: round,
            running: round,
          })
      const after = await written()
      return (after.hot - before.hot) / (after.updated - before.updated)
    }
    // an autovacuum worker that analyzes at this moment holds a snapshot, on a busy machine for
    // seconds: then a later try shows it
    t.ok(
      await waitFor(async () => (await hotShare()) === 1, {
        label: 'every one of 500 beats is a HOT update',
        timeoutMs: 60_000,
      }),
    )
    await sql`create index on mooring.heartbeat (beat_at)`
    t.equal(await hotShare(), 0)
  },
)

story('a node sees only its own work', async (t, sql) => {
  const [one, two] = [await node(sql), await node(sql)]
  await deployments(sql, 3)
  await claim(sql)
  t.same([(await beat(sql, one)).owned, (await beat(sql, two)).owned], [2, 1])
  await age(sql, one.name, '1 minute ago')
  await sql`select from mooring.reap()`
  t.equal(
    (await beat(sql, one)).owned,
    0,
    'a beat that comes late confirms nothing of what was reaped',
  )
})
