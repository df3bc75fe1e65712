import pino from 'pino'
import t, { type Test } from 'tap'
import { createAgentDb, type UsageSample } from '../../agent/db.js'
import { createHeartbeat, type Beat, type HeartbeatOptions } from '../../agent/heartbeat.js'
import { age, assignments, deployment, node } from '../helpers/factories.js'
import { testDatabase, type TestDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'

const log = pino({ level: 'silent' })
const sample: UsageSample = { cpu_pct: 12.5, memory_mb: 300, disk_free_pct: 60, disk_free_bytes: 5_000_000_000 }

async function beating(t: Test, database: TestDatabase, more: Partial<HeartbeatOptions> = {}) {
  const { session } = await node(database.sql, { name: 'host-a' })
  const db = createAgentDb({ databaseUrl: database.url, node: 'host-a' })
  const beats: Beat[] = []
  const over: unknown[] = []
  const heartbeat = createHeartbeat({
    db, node: 'host-a', session, leaseTtlMs: 12_000, beatIntervalMs: 3_000, sample: () => sample, running: () => 7,
    onBeat: (beat) => beats.push(beat), onOver: (error) => over.push(error), log, ...more,
  })
  t.teardown(async () => {
    db.close()
    await heartbeat.stop()
  })
  return { session, db, heartbeat, beats, over }
}

t.test('Y19: a beat carries the usage and brings back what the node owns and when to beat next', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat, beats } = await beating(t, database)
  t.ok(await heartbeat.runOnce())
  t.match(beats, [{ answer: { owned: 0, lease_ttl_ms: 12_000, next_beat_ms: 3_000, hold: false } }])
  const [row] = await database.sql`select cpu_pct, memory_mb, disk_free_pct, disk_free_bytes, running from mooring.heartbeat`
  t.same(row, { ...sample, disk_free_bytes: '5000000000', running: 7 })
})

t.test('a sample that cannot be taken is no reason not to beat, and never a zero', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat } = await beating(t, database, { sample: () => { throw new Error('no /proc') } })
  t.ok(await heartbeat.runOnce())
  t.same((await database.sql`select cpu_pct, memory_mb from mooring.heartbeat`)[0], { cpu_pct: null, memory_mb: null })
})

t.test('its time is the start of the request, however late the answer comes', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat, beats } = await beating(t, database, { clock: () => performance.now() })
  await heartbeat.runOnce() // the connection is there
  const blocker = database.client()
  await blocker`begin`
  await blocker`select from mooring.heartbeat for update`
  const startedMs = performance.now()
  const beat = heartbeat.runOnce()
  await waitFor(async () => (await database.sql`select 1 from pg_stat_activity where application_name like 'mooring agent host-a: beat' and wait_event_type = 'Lock'`).length, { label: 'the beat waits for its row' })
  await blocker`commit`
  t.ok(await beat)
  const waitedMs = performance.now() - startedMs
  t.ok(beats[1]!.tMs - startedMs < 5 + waitedMs / 10, 'counted from the start')
})

t.test('a beat that is not answered in time fails, and the next one succeeds over a new connection', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat, beats } = await beating(t, database, { leaseTtlMs: 600 })
  const blocker = database.client()
  await blocker`begin`
  await blocker`select from mooring.heartbeat for update`
  t.notOk(await heartbeat.runOnce())
  t.same(beats, [])
  await blocker`commit`
  t.ok(await heartbeat.runOnce())
})

t.test('one request is in flight at any time, and a locked row does not collect backends', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat, beats } = await beating(t, database, { leaseTtlMs: 600, beatIntervalMs: 20 })
  const blocker = database.client()
  await blocker`begin`
  await blocker`select from mooring.heartbeat for update`
  heartbeat.start()
  heartbeat.start()
  const seen: number[] = []
  await waitFor(async () => {
    const [row] = await database.sql<{ n: number }[]>`select count(*)::int as n from pg_stat_activity where application_name = 'mooring agent host-a: beat' and state = 'active'`
    seen.push(row!.n)
    return seen.length > 25
  }, { label: 'many looks' })
  await blocker`commit`
  await waitFor(() => beats.length > 3, { label: 'beating again' })
  // the server gives up on a beat when the agent does
  t.ok(Math.max(...seen) <= 2, `at most ${Math.max(...seen)} at once`)
})

t.test('the next beat is brought forward when somebody asks for it', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat, beats } = await beating(t, database, { beatIntervalMs: 3_600_000 })
  await database.sql`update mooring.setting set lease_ttl = '1 hour', beat_interval = '10 min'`
  heartbeat.start()
  await waitFor(() => beats.length === 1, { label: 'the first' })
  heartbeat.beatSoon()
  await waitFor(() => beats.length === 2, { label: 'the second' })
})

t.test('a terminated backend costs one beat', async (t) => {
  const database = await testDatabase(t)
  await database.sql`update mooring.setting set beat_interval = '50 ms'`
  const { heartbeat, beats } = await beating(t, database, { beatIntervalMs: 50 })
  heartbeat.start()
  for (let kills = 0; kills < 5; kills += 1) {
    const soFar = beats.length
    await waitFor(() => beats.length > soFar, { label: 'a beat' })
    await database.sql`select pg_terminate_backend(a.pid) from pg_stat_activity a where a.application_name = 'mooring agent host-a: beat'`
  }
  const epoch = beats.at(-1)!.connectionEpoch
  await waitFor(() => beats.at(-1)!.connectionEpoch > epoch || epoch >= 5, { label: 'beats say that the connection is another one' })
})

t.test('a session that is over is told once and ends the beating', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat, over } = await beating(t, database, { beatIntervalMs: 20 })
  await age(database.sql, 'host-a', '61 seconds ago')
  await node(database.sql, { name: 'host-a' })
  heartbeat.start()
  await waitFor(() => over.length, { label: 'over' })
  t.match(over, [{ code: 'MR001' }])
  await heartbeat.runOnce()
  t.equal(over.length, 1)
})

t.test('with no worker alive the beats run the rounds that are overdue', async (t) => {
  const database = await testDatabase(t)
  await database.sql`update mooring.setting set beat_interval = '50 ms', round_interval = '100 ms'`
  const { heartbeat } = await beating(t, database, { beatIntervalMs: 50 })
  heartbeat.start()
  await deployment(database.sql)
  await waitFor(async () => (await assignments(database.sql))[0]?.node === 'host-a', { label: 'placed without a worker' })
})
