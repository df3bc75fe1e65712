import t from 'tap'
import type { Sql } from 'postgres'
import { placements, running, sleeper } from '../agent/fleet.js'
import { mooring, tempDir } from '../helpers/processes.js'
import { testDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'
import {
  alive,
  eventsOf,
  fewestAlive,
  gone,
  hosts,
  live,
  PATIENCE_MS,
  shortLeases,
  witness,
  type Life,
} from './hosts.js'

const ON_B = (life: Life): boolean => life.node === 'host-b'
/** From when on all of them live. */
const allBorn = (lives: readonly Life[]): number =>
  Math.max(...lives.filter((life) => !ON_B(life)).map((life) => life.first))

const allRunOn = (sql: Sql, n: number, node: string) =>
  waitFor(
    async () => {
      const rows = (await placements(sql)).filter(
        (row) => row.node === node && row.run_state === 'running',
      )
      return rows.length === n ? rows : null
    },
    { label: `${n} run on ${node}`, timeoutMs: PATIENCE_MS, show: () => placements(sql) },
  )

t.test(
  'D19: a host of six is drained one by one: none runs twice, none is lost, five run at any time',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '10 s')
    const { agent, worker } = hosts(t, url)
    const { insert, lives, overlap } = witness(t)
    worker()
    const a = agent('host-a')
    await live(sql, 'host-a')
    for (let n = 0; n < 6; n++) await insert(sql)
    const daemon = await sleeper(sql, { type: 'daemon' })
    const before = (await running(sql, 7, PATIENCE_MS)).filter(
      (row) => row.deployment_id !== daemon,
    )
    const ids = before.map((row) => row.assignment_id)
    agent('host-b')
    await live(sql, 'host-a', 'host-b')
    await waitFor(() => new Set(lives().map((life) => life.assignment_id)).size === 6, {
      label: 'each witness has spoken',
    })

    const drain = mooring(t, ['drain', 'host-a', '--max-moves', '1', '--wait'], {
      databaseUrl: url,
      env: { MOORING_STATE_DIR: tempDir(t) },
    })
    t.same(await drain.exited, { code: 0, signal: null })
    t.match(drain.stdout(), /6 of 6 left[^]*host-a is drained: nothing is left on it/)
    t.notOk(
      before.some((row) => alive(row.pid)),
      'done is said when the processes are gone',
    )
    t.match(await sql`select total, "left", blocked, done from mooring.drain_progress`, [
      { total: 6, left: 0, blocked: 0, done: true },
    ])

    const after = (await allRunOn(sql, 7, 'host-b')).filter((row) => row.deployment_id !== daemon)
    t.same(
      after.map((row) => [row.assignment_id, row.epoch]),
      ids.map((id) => [id, '3']),
      'each moved once, by a release and a claim',
    )
    await waitFor(
      () => ids.every((id) => lives().some((life) => life.assignment_id === id && ON_B(life))),
      { label: 'each has spoken on the other host', show: lives },
    )
    t.equal(overlap(ids), 0, 'none ran twice')
    t.equal(lives().length, 12, 'a life on each host for each of them')
    t.ok(fewestAlive(lives(), allBorn(lives()), ON_B) >= 5, 'one by one')
    t.equal(await eventsOf(sql, 'reaped'), 0)
    t.equal(await eventsOf(sql, 'move_wanted'), 6)
    t.equal(await eventsOf(sql, 'node_drained'), 1)
    t.equal(
      (await placements(sql)).filter((row) => row.deployment_id === daemon && row.node === 'host-a')
        .length,
      1,
      'the daemon stays with its agent',
    )

    a.kill('SIGTERM')
    t.same(await a.exited, { code: 0, signal: null })
    const forget = mooring(t, ['delete', 'node', 'host-a'], {
      databaseUrl: url,
      env: { MOORING_STATE_DIR: tempDir(t) },
    })
    t.same(await forget.exited, { code: 0, signal: null })
    t.same(
      (await placements(sql)).map((row) => row.node),
      Array(7).fill('host-b'),
    )
  },
)

t.test(
  'negative control: drained six at a time all are away at once, and the witness sees it',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '10 s')
    const { agent, worker } = hosts(t, url)
    const { insert, lives, overlap } = witness(t)
    worker()
    agent('host-a')
    await live(sql, 'host-a')
    for (let n = 0; n < 6; n++) await insert(sql)
    const ids = (await running(sql, 6, PATIENCE_MS)).map((row) => row.assignment_id)
    agent('host-b')
    await live(sql, 'host-a', 'host-b')
    await waitFor(() => new Set(lives().map((life) => life.assignment_id)).size === 6, {
      label: 'each witness has spoken',
    })
    await sql`select from mooring.drain_node('host-a', max_moves => 6)`
    await allRunOn(sql, 6, 'host-b')
    await waitFor(() => lives().length === 12, { label: 'each witness has spoken again' })
    t.ok(fewestAlive(lives(), allBorn(lives()), ON_B) < 5)
    t.equal(overlap(ids), 0)
  },
)

t.test(
  'D18: a process is sent to the host that was named, and starts there when it is gone',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '10 s')
    const { agent, worker } = hosts(t, url)
    const { insert, lives, overlap } = witness(t)
    worker()
    agent('host-a')
    await live(sql, 'host-a')
    await insert(sql)
    const [row] = await running(sql, 1, PATIENCE_MS)
    agent('host-b')
    agent('host-c')
    await live(sql, 'host-a', 'host-b', 'host-c')
    const reassign = mooring(t, ['reassign', row!.assignment_id, 'host-c'], {
      databaseUrl: url,
      env: { MOORING_STATE_DIR: tempDir(t) },
    })
    t.same(await reassign.exited, { code: 0, signal: null })
    await allRunOn(sql, 1, 'host-c')
    await waitFor(() => lives().length === 2, { label: 'the witness has spoken again' })
    t.same(
      lives().map((life) => life.node),
      ['host-a', 'host-c'],
    )
    t.equal(overlap([row!.assignment_id]), 0)
  },
)

t.test(
  'a host dies in the middle of its drain: the rest follows its lease, and nothing runs twice',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql)
    const { agent, worker } = hosts(t, url)
    const { insert, overlap } = witness(t)
    worker()
    const a = agent('host-a')
    await live(sql, 'host-a')
    for (let n = 0; n < 4; n++) await insert(sql)
    const before = await running(sql, 4, PATIENCE_MS)
    const ids = before.map((row) => row.assignment_id)
    agent('host-b')
    await live(sql, 'host-a', 'host-b')
    await sql`select from mooring.drain_node('host-a', max_moves => 1)`
    await waitFor(
      async () =>
        (await placements(sql)).some((row) => row.node === 'host-b' && row.run_state === 'running'),
      { label: 'the first has moved', timeoutMs: PATIENCE_MS, show: () => placements(sql) },
    )
    a.killTree()
    await gone(
      before.map((row) => row.pid),
      'the host is dead',
    )
    await allRunOn(sql, 4, 'host-b')
    await waitFor(
      async () =>
        (await sql`select from mooring.drain_progress p where p.done and p.drained_at is not null`)
          .length === 1,
      {
        label: 'it is drained',
        timeoutMs: PATIENCE_MS,
        show: () => sql`select * from mooring.drain_progress`,
      },
    )
    t.equal(overlap(ids), 0)
    t.ok((await eventsOf(sql, 'reaped')) > 0)
  },
)

t.test(
  'the target of a drain dies: its work goes to the third, none is lost, none runs twice',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql)
    const { agent, worker } = hosts(t, url)
    const { insert, overlap } = witness(t)
    worker()
    agent('host-a')
    await live(sql, 'host-a')
    for (let n = 0; n < 4; n++) await insert(sql)
    const before = await running(sql, 4, PATIENCE_MS)
    const b = agent('host-b')
    agent('host-c')
    await live(sql, 'host-a', 'host-b', 'host-c')
    // by its lease it lives on for a moment, so it is promised and given what it will never run
    b.killTree()
    await b.exited
    await sql`select from mooring.drain_node('host-a', 'host-b', 2)`
    await waitFor(
      async () => (await eventsOf(sql, 'reaped')) + (await eventsOf(sql, 'move_dropped')) > 0,
      {
        label: 'what the dead host was promised is freed',
        timeoutMs: PATIENCE_MS,
        show: () => placements(sql),
      },
    )
    await waitFor(
      async () =>
        (
          await sql`
            select from mooring.drain_progress p where p.why ~ 'host-b cannot take it' or p.done`
        ).length === 1,
      {
        label: 'what is left is blocked, with the reason',
        timeoutMs: PATIENCE_MS,
        show: () => sql`select * from mooring.drain_progress`,
      },
    )
    await sql`select from mooring.drain_node('host-a', 'host-c')`
    await allRunOn(sql, 4, 'host-c')
    t.equal(overlap(before.map((row) => row.assignment_id)), 0)
  },
)
