import t from 'tap'
import type { Sql } from 'postgres'
import { placements, running } from '../agent/fleet.js'
import { mooring, tempDir } from '../helpers/processes.js'
import { deployment } from '../helpers/factories.js'
import { testDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'
import {
  alive,
  eventsOf,
  fewestAlive,
  hosts,
  live,
  PATIENCE_MS,
  shortLeases,
  witness,
} from './hosts.js'

const REPLICAS = 4

/** Asks again and again how many are observed running; the fewest there ever were. */
function sampling(sql: Sql) {
  let on = true
  let fewest = Infinity
  let asked = 0
  const sampled = (async () => {
    for (; on; asked++) {
      const [row] = await sql<
        { n: number }[]
      >`select count(*)::int as n from mooring.placement p where p.run_state = 'running'`
      fewest = Math.min(fewest, row!.n)
    }
  })()
  return async () => {
    on = false
    await sampled
    return { fewest, asked }
  }
}

/**
 * Replicas that bear witness run on host-a; host-b and host-c are there; then host-a is drained to
 * its end, watched all the while.
 */
async function drainUnderWatch(
  t: Parameters<typeof testDatabase>[0],
  handover: 'start-first' | 'stop-first',
) {
  const { url, sql, client } = await testDatabase(t)
  await shortLeases(sql, '10 s')
  await sql`update mooring.setting set handover_settle = '500 ms'`
  const { agent, worker } = hosts(t, url)
  const { insert, lives } = witness(t)
  worker()
  agent('host-a')
  await live(sql, 'host-a')
  // stopped first, they are away for so long that no observer can miss it
  await insert(sql, {
    on_lost: 'keep',
    handover,
    replicas: REPLICAS,
    ...(handover === 'stop-first'
      ? { env: { WITNESS_GOODBYE_MS: '3000' }, stop_grace: '1 min' }
      : {}),
  })
  const before = await running(sql, REPLICAS, PATIENCE_MS)
  await waitFor(() => lives().length === REPLICAS, {
    label: 'each witness has spoken',
    timeoutMs: PATIENCE_MS,
  })
  agent('host-b')
  agent('host-c')
  await live(sql, 'host-a', 'host-b', 'host-c')
  const stopSampling = sampling(client('sampler'))
  const from = Math.max(...lives().map((life) => life.first))
  const drain = mooring(t, ['drain', 'host-a', '--max-moves', '2', '--wait'], {
    databaseUrl: url,
    env: { MOORING_STATE_DIR: tempDir(t) },
  })
  t.same(await drain.exited, { code: 0, signal: null }, drain.stderr())
  await waitFor(
    async () =>
      (await placements(sql)).filter((row) => row.run_state === 'running').length === REPLICAS,
    { label: 'all run', timeoutMs: PATIENCE_MS, show: () => placements(sql) },
  )
  await waitFor(() => lives().length === 2 * REPLICAS, {
    label: 'each successor has spoken',
    timeoutMs: PATIENCE_MS,
  })
  // one life on host-a for each, and one that goes on elsewhere
  return {
    sql,
    before,
    sampled: await stopSampling(),
    fewest: fewestAlive(lives(), from, (life) => life.node !== 'host-a'),
  }
}

t.test(
  'D19: a host is drained of start-first work, with never fewer processes than replicas',
  async (t) => {
    const { sql, before, sampled, fewest } = await drainUnderWatch(t, 'start-first')
    t.ok(sampled.asked > 20)
    t.equal(sampled.fewest, REPLICAS, 'as the database shows it')
    t.equal(fewest, REPLICAS, 'as the processes say it')
    t.notOk(
      before.some((row) => alive(row.pid)),
      'done is said when the old processes are gone',
    )
    const after = await sql<
      { ordinal: number; node: string; handover: string | null; epoch: string }[]
    >`select p.ordinal, p.node, p.handover, p.epoch from mooring.placement p order by p.ordinal`
    t.same(
      after.map((row) => [row.ordinal, row.handover, row.epoch]),
      [
        [0, null, '1'],
        [1, null, '1'],
        [2, null, '1'],
        [3, null, '1'],
      ],
    )
    t.notOk(after.some((row) => row.node === 'host-a'))
    t.equal(await eventsOf(sql, 'handed_over'), REPLICAS)
    t.equal(await eventsOf(sql, 'handover_failed'), 0)
    t.ok(
      (await placements(sql)).every((row) => alive(row.pid)),
      'and the new ones live',
    )
  },
)

t.test(
  'negative control: the same drain stop-first, and both see that there were fewer',
  async (t) => {
    const { sampled, fewest } = await drainUnderWatch(t, 'stop-first')
    t.ok(sampled.fewest < REPLICAS)
    t.ok(fewest < REPLICAS)
  },
)

t.test(
  'a successor that crashes is given up, and its predecessor has noticed nothing',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '10 s')
    const { agent, worker } = hosts(t, url)
    worker()
    agent('host-a')
    await live(sql, 'host-a')
    const script = 'if [ "$MOORING_NODE" = host-b ]; then exit 3; fi; exec sleep 100000'
    const id = await deployment(sql, {
      package_name: null,
      command: '/bin/sh',
      args: ['-c', script],
      on_lost: 'keep',
      handover: 'start-first',
    })
    const [before] = await running(sql, 1, PATIENCE_MS)
    agent('host-b')
    await live(sql, 'host-a', 'host-b')
    await sql`select from mooring.drain_node('host-a')`
    await waitFor(
      async () =>
        (
          await sql`
            select
              from mooring.drain_progress p
             where p.why ~ 'does not stay up there: exited with code 3'`
        ).length === 1,
      {
        label: 'the drain says so',
        timeoutMs: PATIENCE_MS,
        show: () => sql`select * from mooring.drain_progress`,
      },
    )
    await waitFor(async () => (await placements(sql)).length === 1, {
      label: 'the successor is forgotten',
      timeoutMs: PATIENCE_MS,
      show: () => placements(sql),
    })
    t.match(await placements(sql), [
      {
        assignment_id: before!.assignment_id,
        deployment_id: id,
        node: 'host-a',
        epoch: '1',
        pid: before!.pid,
        run_state: 'running',
      },
    ])
    t.ok(alive(before!.pid))
    t.equal(await eventsOf(sql, 'handover_failed'), 1)
  },
)
