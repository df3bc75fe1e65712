/**
 * The database goes down hard and comes back after some time. No agent could beat meanwhile, so every lease in the table is over, and the first reap after the
 * restart would take all work from all hosts that are alive and well: a reap storm, and a double run wherever an agent has not yet noticed.
 *
 * An unlogged table is emptied by crash recovery and by nothing else: while it is empty there was an outage, and for one lease and margin nothing is
 * reaped, claimed or started. The stories run on a server of their own, because they kill it.
 */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import t from 'tap'
import postgres from 'postgres'
import type { Test } from 'tap'
import { ensureCluster, stopCluster } from '../../cli/embedded/cluster.js'
import { findBinaries } from '../../cli/embedded/binaries.js'
import { run } from '../../cli/embedded/data-folder.js'
import { serverIdentity } from '../../cli/embedded/identity.js'
import { migrate } from '../../cli/migrate.js'
import { age, assignments, beat, deployments, node } from '../helpers/factories.js'
import { tempDir } from '../helpers/processes.js'
import { waitFor } from '../helpers/wait-for.js'
import { openSession, stage, type Session } from './stage.js'

interface Server {
  /** A migrated database of this story, and a session in it; to be asked for again after a restart. */
  open(name?: string): Promise<Session>
  killPostmaster(): Promise<void>
  stopFast(): Promise<void>
  /** A copy of the stopped server, started as a standby: a session in it, and its promotion. It ends with the story. */
  copyAsStandby(): Promise<{ standby: Session; promote(): Promise<void> }>
}

const stateDir = tempDir(t, 'crash')
const settings = { max_connections: '40', synchronous_commit: 'on', wal_writer_delay: '1s' }
const start = () => ensureCluster({ stateDir, durable: false, settings })
t.teardown(() => stopCluster({ stateDir }))
await migrate({ databaseUrl: (await start()).url })

let stories = 0

/** Leases are long, so that no restart, however slow the machine, is long beside them: what holds is the crash and not the time. */
async function aFleetOn(t: Test): Promise<{ server: Server; sql: Session['sql'] }> {
  const database = `story_${++stories}`
  const urlOf = (url: string, name: string) => Object.assign(new URL(url), { pathname: `/${name}` }).href
  const { url, dataDir } = await start()
  const admin = postgres(urlOf(url, 'postgres'), { max: 1 })
  await admin.unsafe(`create database ${database} template mooring`)
  await admin.end()
  const clients: postgres.Sql[] = []
  const server: Server = {
    async open(name = 'story') {
      const client = postgres(urlOf((await start()).url, database), { max: 1, onnotice: () => {} })
      clients.push(client)
      return openSession(client, name)
    },
    async killPostmaster() {
      process.kill(Number(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')[0]), 'SIGKILL')
      await Promise.all(clients.splice(0).map((client) => client.end({ timeout: 0 })))
    },
    async stopFast() {
      await Promise.all(clients.splice(0).map((client) => client.end({ timeout: 1 })))
      await stopCluster({ stateDir })
    },
    async copyAsStandby() {
      await server.stopFast()
      const copy = join(dirname(dataDir), `standby-of-${database}`)
      execFileSync('cp', ['-a', dataDir, copy])
      writeFileSync(join(copy, 'standby.signal'), '')
      const identity = serverIdentity()
      const pgCtl = (...args: string[]) => run(findBinaries(identity, process.env, () => {}), 'pg_ctl', identity, dirname(dataDir), [...args, '-w', '-D', copy])
      const port = await freePort()
      await pgCtl('start', '-l', `${copy}.log`, '-o', `-p ${port}`)
      t.teardown(() => pgCtl('stop', '-m', 'fast'))
      const client = postgres(Object.assign(new URL(urlOf(url, database)), { port: String(port) }).href, { max: 1, onnotice: () => {} })
      clients.push(client)
      return { standby: await openSession(client, 'standby'), promote: () => pgCtl('promote') }
    },
  }
  t.teardown(() => Promise.all(clients.map((client) => client.end({ timeout: 1 }))))
  const { sql } = await server.open()
  await sql`set search_path = public, mooring`
  await sql`update mooring.setting set beat_interval = '1 min', lease_ttl = '10 min'`
  return { server, sql }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  await new Promise((closed) => probe.close(closed))
  return port
}

const hold = async (sql: Session['sql']) => (await sql<{ hold: string | null; ends_in: number | null }[]>`
  select f.hold, extract(epoch from f.hold_until - clock_timestamp())::float8 as ends_in from mooring.fleet f`)[0]!

const CRASHED = 'the database crashed, was promoted or restored'

t.test('after a kill -9 of the server nothing is reaped, claimed or started for one lease and margin; then everything goes on', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  const hostA = await node(before, { name: 'host-a' })
  await deployments(before, 3)
  await before`set synchronous_commit = off`
  t.equal((await before`select * from mooring.claim()`).length, 3)
  await before`select mooring.tick('worker')`
  await age(before, 'host-a', '11 minutes ago')
  await before`set synchronous_commit = on`
  await deployments(before, 1)
  await server.killPostmaster()

  const { sql } = await server.open()
  t.equal((await assignments(sql)).filter((row) => row.node === 'host-a').length, 3, 'what was claimed has survived, whatever the session preferred')
  t.equal((await hold(sql)).hold, CRASHED, 'seen before anybody has noticed it')
  const others = await Promise.all(['first', 'second', 'third', 'fourth'].map((name) => server.open(name)))
  const answers = await Promise.all(others.map(({ sql }, nr) => (nr % 2 === 0 ? sql`select * from mooring.reap()` : sql`select * from mooring.claim()`)))
  t.same(answers.map((rows) => rows.length), [0, 0, 0, 0], 'nothing is reaped, nothing claimed')
  t.match(await beat(sql, hostA), { owned: 3, hold: true }, 'agents hear of it with their first beat')
  const first = await hold(sql)
  t.ok(first.ends_in! > 590 && first.ends_in! <= 603, `it ends ${first.ends_in} s from now`)
  await sql`select mooring.tick('worker')`
  await sql`select mooring.tick('agent host-a', inline => true)`
  t.ok((await hold(sql)).ends_in! < first.ends_in!, 'and is not set anew')
  t.equal((await sql`select from mooring.event where kind = 'hold_started'`).length, 1, 'it was noticed once')

  // eleven minutes later: host-a is dead after all
  await sql`update mooring.pulse set hold_until = clock_timestamp(), pulse_at = clock_timestamp()`
  await age(sql, 'host-a', '11 minutes ago')
  t.equal((await hold(sql)).hold, null)
  t.equal((await sql`select * from mooring.reap()`).length, 3)
  await node(sql, { name: 'host-b' })
  t.equal((await sql`select * from mooring.claim()`).length, 4)
  t.equal((await sql`select from mooring.event where kind = 'hold_started'`).length, 1)
})

t.test('the same when one backend is killed: the server restarts itself, and no start time shows it', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  await node(before, { name: 'host-a' })
  await deployments(before, 3)
  await before`select * from mooring.claim()`
  await before`select mooring.tick('worker')`
  await age(before, 'host-a', '11 minutes ago')
  const [started] = await before`select pg_postmaster_start_time()::text as at`
  const victim = await server.open('victim')
  process.kill(victim.pid, 'SIGKILL')
  const sql = await waitFor(async () => (await server.open()).sql, { label: 'the server is back', timeoutMs: 30_000 })
  t.same([...await sql`select pg_postmaster_start_time()::text as at`], [started])
  t.equal((await sql`select * from mooring.reap()`).length, 0)
  t.equal((await hold(sql)).hold, CRASHED)
})

t.test('a clean restart shorter than the lease changes nothing', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  const hostA = await node(before, { name: 'host-a' })
  await deployments(before, 3)
  await before`select * from mooring.claim()`
  await before`select mooring.tick('worker')`
  await server.stopFast()
  const { sql } = await server.open()
  t.equal((await hold(sql)).hold, null)
  t.equal((await sql`select * from mooring.reap()`).length, 0)
  t.match(await beat(sql, hostA), { owned: 3, hold: false })
  await deployments(sql, 1)
  t.equal((await sql`select * from mooring.claim()`).length, 1, 'work goes on at once')
  t.equal((await sql`select from mooring.event where kind = 'hold_started'`).length, 0)
})

t.test('a clean restart after a time longer than the lease: the old pulse tells', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  await node(before, { name: 'host-a' })
  await deployments(before, 3)
  await before`select * from mooring.claim()`
  await before`select mooring.tick('worker')`
  // the server was down for twenty minutes
  await before`update mooring.pulse set pulse_at = pulse_at - interval '20 min'`
  await age(before, 'host-a', '20 minutes ago')
  await server.stopFast()
  const { sql } = await server.open()
  t.equal((await sql`select * from mooring.reap()`).length, 0)
  t.match((await hold(sql)).hold, /^nobody ticked for 00:20:/)
})

t.test('a crash with no agent anywhere holds nothing: nothing can be running', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  const hostA = await node(before, { name: 'host-a' })
  await before`select mooring.tick('worker')`
  await before`select mooring.leave('host-a', ${hostA.session})`
  await deployments(before, 3)
  await server.killPostmaster()
  const { sql } = await server.open()
  await node(sql, { name: 'host-a' })
  t.equal((await sql`select * from mooring.claim()`).length, 3, 'the first agent that comes gets work at once')
  t.equal((await hold(sql)).hold, null)
})

t.test('a standby shows everything and decides nothing; promoted, it holds before it decides', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  await node(before, { name: 'host-a' })
  await deployments(before, 3)
  await before`select * from mooring.claim(2)`
  await before`select mooring.tick('worker')`
  await age(before, 'host-a', '11 minutes ago')
  const { standby, promote } = await server.copyAsStandby()
  t.match(await standby.sql`select nodes, assigned, waiting, hold from mooring.fleet`, [{ nodes: 1, assigned: 2, waiting: 1, hold: null }])
  t.match(await standby.sql`select node, health from mooring.node_status`, [{ node: 'host-a', health: 'STALE' }])
  t.equal((await standby.sql`select * from mooring.placement`).length, 3)
  t.equal((await standby.sql`select * from mooring.unplaced`).length, 1)
  t.ok((await standby.sql`select * from mooring.last_events(10)`).length > 0)
  t.equal((await standby.sql`select * from mooring.explain((select min(id) from mooring.deployment))`).length, 1)
  await t.rejects(standby.sql`select * from mooring.claim()`, { code: /^(25006|55000|0A000)$/ }, 'claims are for the primary')
  await promote()
  t.equal((await hold(standby.sql)).hold, CRASHED)
  t.equal((await standby.sql`select * from mooring.reap()`).length, 0)
  t.equal((await standby.sql`select * from mooring.claim()`).length, 0)
  t.equal((await standby.sql`select from mooring.event where kind = 'hold_started'`).length, 1)
})

/** The hold after the promotion is over, and nobody has beaten since. */
async function holdIsOver(sql: Session['sql']): Promise<void> {
  t.equal((await sql`select * from mooring.claim()`).length, 0, 'the promotion is noticed')
  await sql`update mooring.pulse set hold_until = clock_timestamp(), pulse_at = clock_timestamp()`
  await age(sql, 'host-a', '11 minutes ago')
}

/** Three assignments placed; their standby is promoted without the claims that its primary made last. The epochs these had, and those handed out next. */
async function promotedWithoutTheLastClaims(t: Test, prepare: (sql: Session['sql']) => Promise<unknown>): Promise<{ lost: bigint[]; next: bigint[] }> {
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
  const lost = (await primary.sql<{ epoch: string }[]>`select epoch from mooring.claim()`).map(({ epoch }) => BigInt(epoch))
  t.same(lost, [3n, 3n, 3n], 'the primary hands out a token that the standby never hears of')
  await promote()
  await holdIsOver(standby.sql)
  t.equal((await standby.sql`select * from mooring.reap()`).length, 3)
  await node(standby.sql, { name: 'host-c' })
  const next = (await standby.sql<{ epoch: string }[]>`select epoch from mooring.claim()`).map(({ epoch }) => BigInt(epoch))
  t.equal(next.length, 3)
  return { lost, next }
}

t.test('a promoted standby that lost the last claims hands out greater tokens than they had', async (t) => {
  const { lost, next } = await promotedWithoutTheLastClaims(t, async () => {})
  t.ok(next.every((epoch) => lost.every((other) => epoch > other)), `${next.join(', ')} after ${lost.join(', ')}`)
  t.same(next, [(1n << 40n) + 2n, (1n << 40n) + 2n, (1n << 40n) + 2n], 'two steps into the second timeline: reaped, claimed')
})

t.test('negative control: an epoch without the timeline is handed out twice', async (t) => {
  const { lost, next } = await promotedWithoutTheLastClaims(t, (sql) => sql`create or replace function mooring.next_epoch(epoch bigint) returns bigint language sql stable return epoch + 1`)
  t.same(next, lost)
})

t.test('negative control: with a marker that survives the crash, the first reap takes everything from everybody', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  await before`alter table mooring.outage_marker set logged`
  await node(before, { name: 'host-a' })
  await deployments(before, 3)
  await before`select * from mooring.claim()`
  await before`select mooring.tick('worker')`
  await age(before, 'host-a', '11 minutes ago')
  await server.killPostmaster()
  const { sql } = await server.open()
  t.equal((await sql`select * from mooring.reap()`).length, 3)
})

// what needs no crash runs on the server that all tests share

t.test('a gap in the pulse begins one hold, however many notice it at once, and nobody waits for the one who writes it', async (t) => {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  await deployments(pg.sql, 2)
  await pg.sql`select * from mooring.claim(1)`
  await pg.sql`select mooring.tick('worker')`
  await pg.sql`update mooring.pulse set pulse_at = clock_timestamp() - interval '7 s'`
  const [slow, other] = [await pg.session('slow'), await pg.session('other')]
  await other.sql`select set_config('lock_timeout', '2 s', false)`
  await slow.begin()
  t.equal((await slow.sql`select * from mooring.reap()`).length, 0, 'noticed, not yet committed')
  t.equal((await other.sql`select * from mooring.reap()`).length, 0)
  t.equal((await other.sql`select * from mooring.claim()`).length, 0)
  t.match(await beat(other.sql, hostA), { hold: true }, 'all others hold as well, without waiting')
  await slow.commit()
  const crowd = await Promise.all(Array.from({ length: 8 }, (_, nr) => pg.session(`one of many ${nr}`)))
  await Promise.all(crowd.map(({ sql, name }) => sql`select mooring.tick(${name}, inline => true)`))
  t.equal((await pg.sql`select from mooring.event where kind = 'hold_started'`).length, 1)
  // healthy gaps, shorter than half a lease, neither renew it nor begin another
  const [began] = await pg.sql`select hold_until from mooring.pulse`
  for (const gap of ['1 s', '5 s', '3 s']) {
    await pg.sql`update mooring.pulse set pulse_at = clock_timestamp() - ${gap}::interval`
    await pg.sql`select mooring.tick('worker')`
  }
  t.same([...await pg.sql`select hold_until from mooring.pulse`], [began])
  await pg.sql`update mooring.pulse set hold_until = clock_timestamp() - interval '5 s', pulse_at = clock_timestamp() - interval '9 s'`
  t.equal((await pg.sql`select * from mooring.claim()`).length, 1, 'the end of a hold counts as a pulse')
  t.equal((await pg.sql`select from mooring.event where kind = 'hold_started'`).length, 1)
})

t.test('a quiet database without an agent: the agent that comes first is not held, and nobody waits for another\'s transaction', async (t) => {
  const pg = await stage(t)
  await pg.sql`select mooring.tick('worker')`
  await pg.sql`update mooring.pulse set pulse_at = clock_timestamp() - interval '1 day'`
  const [psql, agent] = [await pg.session('psql'), await pg.session('agent')]
  await agent.sql`select set_config('lock_timeout', '2 s', false)`
  await psql.begin()
  await psql.sql`select * from mooring.reap()`
  await node(agent.sql, { name: 'host-a' })
  await psql.commit()
  await deployments(pg.sql, 1)
  t.equal((await pg.sql`select * from mooring.claim()`).length, 1)
})
