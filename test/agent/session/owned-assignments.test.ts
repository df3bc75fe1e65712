import pino from 'pino'
import t, { type Test } from 'tap'
import { createOwnedAssignments } from '../../../agent/session/owned-assignments.js'
import { createAgentDb, type AgentDb } from '../../../agent/session/verbs.js'
import { type OwnedAssignment } from '../../../agent/rows.js'
import { createHeartbeat } from '../../../agent/session/heartbeat.js'
import { bootClock } from '../../../host/boot-clock.js'
import { createLeases } from '../../../agent/session/lease.js'
import { createNotificationListener } from '../../../agent/session/notifications.js'
import { age, assignments, deployment, node, report } from '../../helpers/factories.js'
import { testDatabase, type TestDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'

const log = pino({ level: 'silent' })

interface Seen {
  rows: readonly OwnedAssignment[]
  mayStart: boolean
}

/** Everything of a session but the processes: what the supervisor would have been told is kept. */
async function following(
  t: Test,
  database: TestDatabase,
  { clock = bootClock, wrap = (db: AgentDb): AgentDb => db, lease = '1 hour' } = {},
) {
  await database.sql`update mooring.setting set lease_ttl = ${lease}`
  const { session, id } = await node(database.sql, { name: 'host-a' })
  const db = wrap(createAgentDb({ databaseUrl: database.url, node: 'host-a' }))
  const told: Seen[] = []
  const fenced: string[] = []
  const over: unknown[] = []
  const parts = {
    db,
    node: 'host-a',
    session,
    onSessionOver: (error: unknown) => over.push(error),
    log,
  }
  const leases = createLeases({
    reapMarginMs: 3_000,
    fence: (ids) => fenced.push(...ids),
    onOver() {},
    renew() {},
    log,
    clock,
  })
  const heartbeat = createHeartbeat({
    ...parts,
    leaseTtlMs: 12_000,
    beatIntervalMs: 3_600_000,
    running: () => 0,
    clock,
    sample: () => ({ cpu_pct: null, memory_mb: null, disk_free_pct: null, disk_free_bytes: null }),
    onBeat: (beat) => assignments.noteBeat(beat),
  })
  let wantedBeats = 0
  const assignments = createOwnedAssignments({
    ...parts,
    leases,
    reconcile: (rows, { mayStart }) => told.push({ rows, mayStart }),
    requestBeat: () => {
      wantedBeats += 1
    },
  })
  const listener = createNotificationListener({
    databaseUrl: database.url,
    applicationName: 'mooring agent host-a: listen',
    channel: `mooring_node_${id}`,
    onHint: assignments.hint,
    onLogHint() {},
    log,
  })
  t.teardown(async () => {
    leases.stop()
    db.close()
    await Promise.all([listener.stop(), heartbeat.stop(), assignments.stop()])
  })
  /** On a busy machine a beat may miss its deadline; the loop would repeat it, and so does this. */
  const beat = () => waitFor(() => heartbeat.runOnce(), { label: 'a beat is answered' })
  return {
    db,
    session,
    told,
    fenced,
    over,
    leases,
    beat,
    assignments,
    listener,
    wantedBeats: () => wantedBeats,
    last: () => told.at(-1),
  }
}

const claim = (database: TestDatabase) => database.sql`select from mooring.claim()`

t.test(
  'Y30: a hint is followed at once: the supervisor gets what was claimed before the next beat',
  async (t) => {
    const database = await testDatabase(t)
    const f = await following(t, database)
    await f.beat()
    f.listener.start()
    await waitFor(() => f.told.length >= 2, {
      label: 'read after the first beat and after listening',
    })
    await deployment(database.sql, { command: 'sleep' })
    await claim(database)
    const { mayStart, rows } = await waitFor(
      () => (f.last()?.rows.length === 1 ? f.last() : null),
      { label: 'the row is told' },
    )
    t.ok(mayStart)
    t.match(rows[0], { command: 'sleep', wanted: 'run', epoch: '1', args: [], env: {} })
  },
)

t.test('a storm of hints costs two reads: the one in flight and one more', async (t) => {
  const database = await testDatabase(t)
  let reads = 0
  const f = await following(t, database, {
    wrap: (db) => ({
      ...db,
      assignmentsOf: (...args) => {
        reads += 1
        return db.assignmentsOf(...args)
      },
    }),
  })
  for (let hints = 0; hints < 1_000; hints += 1) f.assignments.hint()
  await waitFor(() => f.wantedBeats() === 2, { label: 'both reads are answered' })
  t.equal(reads, 2)
})

t.test(
  'a change notified while the agent did not listen is found when it listens again',
  async (t) => {
    const database = await testDatabase(t)
    const f = await following(t, database)
    await f.beat()
    f.listener.start()
    await waitFor(() => f.told.length >= 2, { label: 'listening' })
    for (let kills = 1; kills <= 5; kills += 1) {
      await deployment(database.sql, { command: 'sleep' })
      await database.sql.begin(async (tx) => {
        await tx`select from mooring.claim()`
        await tx`
        select pg_terminate_backend(a.pid) from pg_stat_activity a
        where a.datname = current_database()
        and a.application_name = 'mooring agent host-a: listen'`
      })
      await waitFor(() => f.last()?.rows.length === kills, {
        label: `after ${kills} lost connections all rows are known`,
      })
    }
  },
)

t.test('a lost hint costs one beat: its digest is not that of the set we hold', async (t) => {
  const database = await testDatabase(t)
  const f = await following(t, database)
  await f.beat()
  await waitFor(() => f.told.length === 1, { label: 'the empty set' })
  await deployment(database.sql, { command: 'sleep' })
  await claim(database)
  t.same(f.last()?.rows, [])
  await f.beat()
  await waitFor(() => f.last()?.rows.length === 1, { label: 'the row is told' })
  const before = f.told.length
  await f.beat()
  t.equal(f.told.length, before, 'and an equal digest costs nothing')
})

t.test(
  'nothing is given to run before a beat was answered: a read alone confirms nothing',
  async (t) => {
    const database = await testDatabase(t)
    await deployment(database.sql, { command: 'sleep' })
    const f = await following(t, database)
    await claim(database)
    f.assignments.hint()
    await waitFor(() => f.wantedBeats() === 1, { label: 'read, and a beat is asked for' })
    t.same(f.told, [], 'and nothing is said against what may have been taken over')
    await f.beat()
    t.match(
      f.last(),
      { rows: [{ wanted: 'run' }], mayStart: true },
      'the digest of the beat confirms what was read before it',
    )
  },
)

t.test('a read that began before the beat was answered does not confirm by it', async (t) => {
  const database = await testDatabase(t)
  let release = (): void => {}
  const held = new Promise<void>((resolve) => {
    release = resolve
  })
  let first = true
  let answered = false
  const f = await following(t, database, {
    wrap: (db) => ({
      ...db,
      async assignmentsOf(...args) {
        if (!first) return db.assignmentsOf(...args)
        first = false
        // the set as it was before the claim was undone
        const rows = await db.assignmentsOf(...args)
        answered = true
        await held
        return rows
      },
    }),
  })
  await deployment(database.sql, { command: 'sleep' })
  await claim(database)
  f.assignments.hint()
  // taken back and given again meanwhile: another epoch
  await waitFor(() => answered, { label: 'the first read is answered' })
  await database.sql`update mooring.deployment set enabled = false`
  const [owned] = await assignments(database.sql)
  await report(database.sql, { name: 'host-a', session: f.session }, owned!, 'stopped')
  await database.sql`update mooring.deployment set enabled = true`
  await claim(database)
  await f.beat()
  release()
  await waitFor(() => f.last()?.rows[0]?.epoch === '3', { label: 'the new epoch is given to run' })
  t.notOk(
    f.told.some(({ rows }) => rows.some(({ epoch }) => epoch === '1')),
    'the old one never was',
  )
})

t.test('in a hold nothing new may start, and the beat that ends it says so', async (t) => {
  const database = await testDatabase(t)
  await deployment(database.sql, { command: 'sleep' })
  const f = await following(t, database)
  await claim(database)
  await database.sql`
    update mooring_internal.pulse set hold_until = clock_timestamp() + interval '1 hour'`
  await f.beat()
  await waitFor(() => f.last()?.rows.length === 1, { label: 'the row is told' })
  t.equal(f.last()?.mayStart, false)
  await database.sql`
    update mooring_internal.pulse set hold_until = null, pulse_at = clock_timestamp()`
  await f.beat()
  t.match(f.last(), { rows: [{}], mayStart: true })
})

t.test(
  'after a lost connection nothing new starts until a beat is answered: the server may be another',
  async (t) => {
    const database = await testDatabase(t)
    const f = await following(t, database)
    await f.beat()
    await waitFor(() => f.told.length === 1, { label: 'the empty set' })
    t.ok(f.last()?.mayStart)
    const before = f.db.connectionEpoch()
    await database.sql`
      select pg_terminate_backend(a.pid) from pg_stat_activity a
      where a.datname = current_database() and a.application_name = 'mooring agent host-a: calls'`
    await waitFor(() => f.db.connectionEpoch() > before, { label: 'the loss is noticed' })
    await deployment(database.sql, { command: 'sleep' })
    await claim(database)
    f.assignments.hint()
    await waitFor(() => f.told.length === 2, { label: 'read over the new connection' })
    t.same(f.last(), { rows: [], mayStart: false })
    await f.beat()
    await waitFor(() => f.last()?.rows.length === 1 && f.last()?.mayStart, {
      label: 'given to run',
    })
  },
)

t.test('a stop order needs no lease, and the beat that revives a row lists it again', async (t) => {
  const database = await testDatabase(t)
  const clock = { nowMs: 1_000_000 }
  const f = await following(t, database, { clock: () => clock.nowMs, lease: '12 s' })
  const id = await deployment(database.sql, { command: 'sleep' })
  await claim(database)
  await f.beat()
  await waitFor(() => f.last()?.rows.length === 1, { label: 'given to run' })
  clock.nowMs += 11_000
  await waitFor(() => f.fenced.length, { label: 'fenced' })
  f.assignments.hint()
  await waitFor(() => f.last()?.rows.length === 0, { label: 'not listed: nothing may start it' })
  await f.beat()
  t.match(f.last(), { rows: [{ wanted: 'run' }] }, 'revived')
  clock.nowMs += 11_000
  await waitFor(() => f.fenced.length === 2, { label: 'fenced again' })
  await database.sql`update mooring.deployment set enabled = false where id = ${id}`
  f.assignments.hint()
  await waitFor(() => f.last()?.rows[0]?.wanted === 'stop', { label: 'the stop order is listed' })
})

t.test('a frozen follower keeps confirming leases and tells the supervisor nothing', async (t) => {
  const database = await testDatabase(t)
  const f = await following(t, database)
  await f.beat()
  await waitFor(() => f.told.length === 1, { label: 'the empty set' })
  f.assignments.freeze()
  await deployment(database.sql, { command: 'sleep' })
  await claim(database)
  await f.beat()
  const [row] = await f.db.assignmentsOf('host-a', f.session)
  await waitFor(() => f.leases.isLive(row!), { label: 'its lease runs' })
  t.equal(f.told.length, 1)
})

t.test('a session that is over is told by a read too', async (t) => {
  const database = await testDatabase(t)
  const f = await following(t, database, { lease: '12 s' })
  await age(database.sql, 'host-a', '61 seconds ago')
  await node(database.sql, { name: 'host-a' })
  f.assignments.hint()
  await waitFor(() => f.over.length, { label: 'over' })
  t.match(f.over, [{ code: 'MR001' }])
})
