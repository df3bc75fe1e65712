/**
 * Heartbeats of 1,000 nodes that own 100,000 assignments: none of them may write an index, or the
 * table and its index grow with every beat.
 */
import { setTimeout as pause } from 'node:timers/promises'
import {
  assertEqual,
  median,
  percentile,
  repeat,
  type Bench,
  type Benchmark,
  type Figure,
} from './benchmark.js'
import { addDeployments, addNodes, claim } from './fleet.js'

export const benchmarks: Benchmark[] = [{ name: 'heartbeat', run: beats }]

const ROUNDS_PER_RUN = 5
const PATIENCE_MS = 30_000

async function beats(bench: Bench): Promise<Figure[]> {
  const nodes = bench.size(1_000, 20)
  const perNode = bench.size(100, 10)
  return bench.inDatabase(async ({ sql, connect }) => {
    await addNodes(sql, nodes)
    await addDeployments(sql, nodes * perNode)
    assertEqual(await claim(sql), nodes * perNode, 'rows that claim() returned')
    await sql`vacuum (analyze)`
    // in no order: a fleet does not beat page by page
    const agents = await sql<{ name: string; session: string }[]>`
      select n.name, h.session
        from mooring.node n
        join mooring.heartbeat h on h.node_id = n.id
       order by random()`
    const one = connect(1, 'bench: agent')
    const crowd = connect(8, 'bench: agents')
    const beat = (client: typeof one, { name, session }: { name: string; session: string }) =>
      client`
        select h.*
          from mooring.heartbeat(
            ${name}, ${session}::uuid, ${12.5}::float8, ${345.6}::float8, ${50}::float8,
            ${5e10}::bigint, ${perNode}::int
          ) h`
    const runs = await repeat(bench, async (run) => {
      bench.say(`${nodes} nodes beat ${ROUNDS_PER_RUN + 1} times, run ${run}`)
      const before = await heartbeatTable(one)
      const times: number[] = []
      for (const agent of agents) {
        const start = performance.now()
        await beat(one, agent)
        times.push(performance.now() - start)
      }
      const start = performance.now()
      for (let round = 0; round < ROUNDS_PER_RUN; round++)
        await Promise.all(agents.map((agent) => beat(crowd, agent)))
      const crowdMs = performance.now() - start
      // statistics of the other sessions arrive when they have been idle or gone for a moment
      const expected = before.updates + nodes * (ROUNDS_PER_RUN + 1)
      let after = await heartbeatTable(one)
      for (
        const deadline = performance.now() + PATIENCE_MS;
        after.updates < expected && performance.now() < deadline;
      ) {
        await pause(100)
        await Promise.all(Array.from({ length: 8 }, () => crowd`select pg_stat_force_next_flush()`))
        after = await heartbeatTable(one)
      }
      assertEqual(after.updates, expected, 'updates of mooring.heartbeat')
      return {
        hot: (100 * (after.hot - before.hot)) / (after.updates - before.updates),
        indexPages: after.index_pages - before.index_pages,
        p50: median(times),
        p99: percentile(times, 99),
        perSecond: (nodes * ROUNDS_PER_RUN * 1000) / crowdMs,
      }
    })
    return [
      {
        what: `heartbeats of ${nodes} nodes with ${perNode} assignments each: HOT updates`,
        unit: '%',
        asked: { atLeast: 100 },
        values: runs.map((run) => run.hot),
      },
      {
        what: 'pages the index of mooring.heartbeat grew by',
        unit: '',
        asked: { atMost: 0 },
        values: runs.map((run) => run.indexPages),
        note: 'a HOT update writes no index',
      },
      { what: 'one beat, one session: median', unit: 'ms', values: runs.map((run) => run.p50) },
      { what: 'one beat, one session: p99', unit: 'ms', values: runs.map((run) => run.p99) },
      {
        what: 'beats of all nodes over 8 sessions',
        unit: '/s',
        values: runs.map((run) => run.perSecond),
      },
    ]
  })
}

interface HeartbeatTable {
  updates: number
  hot: number
  index_pages: number
}

async function heartbeatTable(sql: {
  (text: TemplateStringsArray): PromiseLike<unknown>
}): Promise<HeartbeatTable> {
  await sql`select pg_stat_force_next_flush()`
  const rows = (await sql`
    select t.n_tup_upd::int as updates, t.n_tup_hot_upd::int as hot,
           (
             pg_indexes_size('mooring.heartbeat') / current_setting('block_size')::int
           )::int as index_pages
      from pg_stat_user_tables t
     where t.relid = 'mooring.heartbeat'::regclass`) as HeartbeatTable[]
  return rows[0]!
}
