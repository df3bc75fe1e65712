/**
 * An agent ends and its work does not. The warden keeps what runs until the lease ends, and the
 * next agent of that name takes it over as it is. When none comes, the work is dead before anything
 * of it starts elsewhere.
 */
import { readFileSync } from 'node:fs'
import t from 'tap'
import type { Sql } from 'postgres'
import { placements, running, sleeper } from '../agent/fleet.js'
import { deployment } from '../helpers/factories.js'
import { testDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'
import {
  alive,
  eventsOf,
  gone,
  hosts,
  live,
  PATIENCE_MS,
  processes,
  shortLeases,
  wardenOf,
  witness,
} from './hosts.js'
import type { Host } from './hosts.js'

async function kill(host: Host): Promise<void> {
  host.kill('SIGKILL')
  await host.exited
}

/** The successor has reported to the database what it found. */
const takenOver = (sql: Sql, session: string | null) =>
  waitFor(
    async () => {
      const [row] = await sql<
        { session: string | null }[]
      >`select s.session::text from mooring.node_status s where s.node = 'host-a'`
      return row!.session !== null && row!.session !== session ? row!.session : null
    },
    { label: 'the next session has the name', timeoutMs: PATIENCE_MS },
  )

t.test(
  'defect 7: an agent that is killed and restarted takes over its processes, and none notices',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '20 s')
    const { agent, worker } = hosts(t, url)
    worker()
    const first = agent('host-a')
    await live(sql, 'host-a')
    const talker = await sleeper(sql, {
      command: 'sh',
      args: ['-c', 'echo began; while :; do sleep 0.1; echo still; done'],
      replicas: 2,
    })
    await deployment(sql, { type: 'daemon', command: 'sleep', args: ['1000'] })
    const before = await running(sql, 3, PATIENCE_MS)
    const session = await takenOver(sql, null)
    await kill(first)
    t.ok(
      before.every((row) => alive(row.pid)),
      'its processes go on without it',
    )

    const second = agent('host-a')
    await takenOver(sql, session)
    await second.said('"registered"', PATIENCE_MS)
    t.ok(
      before.every((row) => alive(row.pid)),
      'and with the next one',
    )
    t.strictSame(
      processes(await running(sql, 3, PATIENCE_MS)),
      processes(before),
      'same epochs, same processes',
    )
    t.equal(await eventsOf(sql, 'reaped'), 0)
    const { assignment_id: id } = before.find((row) => row.deployment_id === talker)!
    t.equal(second.logOf(id).match(/began/g)!.length, 1, 'the log is one')
    const length = second.logOf(id).length
    await waitFor(() => second.logOf(id).length > length, { label: 'and is written on' })

    await sql`update mooring.deployment set enabled = false where id = ${talker}`
    await gone(
      before.filter((row) => row.deployment_id === talker).map((row) => row.pid),
      'the next agent stops what an earlier one started',
    )
    second.kill('SIGTERM')
    t.same(await second.exited, { code: 0, signal: null })
    t.notOk(before.some((row) => alive(row.pid)))
    await waitFor(() => wardenOf(second) === null, {
      label: 'with the last process the warden ends',
    })
  },
)

t.test(
  'a process that ended while no agent was there is started again by the next one',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '20 s')
    const { agent, worker } = hosts(t, url)
    worker()
    const first = agent('host-a')
    await live(sql, 'host-a')
    await sleeper(sql, { replicas: 2 })
    const before = await running(sql, 2, PATIENCE_MS)
    await kill(first)
    process.kill(before[0]!.pid!, 'SIGKILL')
    await gone([before[0]!.pid], 'one of them ends')
    agent('host-a')
    const after = await waitFor(
      async () => {
        const rows = (await placements(sql)).filter(
          (row) => row.run_state === 'running' && alive(row.pid),
        )
        return rows.length === 2 ? rows : null
      },
      { label: 'both run', timeoutMs: PATIENCE_MS, show: () => placements(sql) },
    )
    t.equal(after[1]!.pid, before[1]!.pid, 'the other is the one that ran')
    t.not(after[0]!.pid, before[0]!.pid)
  },
)

t.test(
  '--handover: a new agent takes over from one that runs, which exits 0 and stops nothing',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '20 s')
    const { agent, worker } = hosts(t, url)
    worker()
    const first = agent('host-a')
    await live(sql, 'host-a')
    await sleeper(sql, { replicas: 3 })
    const before = await running(sql, 3, PATIENCE_MS)
    const second = agent('host-a', { args: ['--handover'] })
    t.same(await first.exited, { code: 0, signal: null })
    await second.said('"registered"', PATIENCE_MS)
    await sleeper(sql)
    const after = await running(sql, 4, PATIENCE_MS)
    t.strictSame(processes(after.slice(0, 3)), processes(before))
    t.equal(await eventsOf(sql, 'node_left'), 0)
  },
)

t.test(
  'an agent that is killed for good: what it ran is dead before it runs elsewhere',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql)
    const { agent, worker } = hosts(t, url)
    const { insert, lives, overlap } = witness(t)
    worker()
    const a = agent('host-a')
    await live(sql, 'host-a')
    await Promise.all([insert(sql), insert(sql), insert(sql)])
    const before = await running(sql, 3, PATIENCE_MS)
    const ids = before.map((row) => row.assignment_id)
    await waitFor(() => ids.every((id) => lives().some((life) => life.assignment_id === id)), {
      label: 'each has spoken',
      show: lives,
    })
    agent('host-b')
    await live(sql, 'host-b')
    await kill(a)
    await waitFor(
      async () =>
        (await placements(sql)).filter(
          (row) => row.run_state === 'running' && row.node === 'host-b',
        ).length === 3,
      {
        label: 'the other host runs everything',
        timeoutMs: PATIENCE_MS,
        show: () => placements(sql),
      },
    )
    t.notOk(before.some((row) => alive(row.pid)))
    await waitFor(
      () =>
        ids.every((id) =>
          lives().some((life) => life.assignment_id === id && life.node === 'host-b'),
        ),
      { label: 'each has spoken on the other host', timeoutMs: PATIENCE_MS, show: lives },
    )
    t.equal(overlap(ids), 0, 'by the witness of the workloads themselves')
  },
)

t.test(
  'a warden that is killed or stopped ends everything with it, and the agent begins again at once',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '20 s')
    const { agent, worker } = hosts(t, url)
    worker()
    const a = agent('host-a')
    await live(sql, 'host-a')
    await sleeper(sql, { replicas: 2 })
    let before = await running(sql, 2, PATIENCE_MS)
    for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
      const warden = wardenOf(a)!
      process.kill(warden, signal)
      await gone(
        before.map((row) => row.pid),
        `after ${signal} nothing of it is left`,
      )
      const after = await waitFor(
        async () => {
          const rows = (await placements(sql)).filter(
            (row) => row.run_state === 'running' && alive(row.pid),
          )
          return rows.length === 2 && rows.every((row) => !before.some((of) => of.pid === row.pid))
            ? rows
            : null
        },
        { label: 'all runs again', timeoutMs: PATIENCE_MS, show: () => placements(sql) },
      )
      t.notOk(alive(warden))
      t.same(
        after.map((row) => [row.node, row.epoch]),
        before.map((row) => [row.node, row.epoch]),
        'where it was, under its epoch',
      )
      before = after
    }
    t.equal(a.events('warden_lost').length, 2)
  },
)

t.test('a warden costs no secrets: its environment holds no DATABASE_URL', async (t) => {
  const { url, sql } = await testDatabase(t)
  const { agent } = hosts(t, url)
  const a = agent('host-a')
  await live(sql, 'host-a')
  t.notMatch(readFileSync(`/proc/${wardenOf(a)}/environ`, 'utf8'), /postgres/)
})
