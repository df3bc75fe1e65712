/**
 * reap() of 10,000 assignments: a hundred hosts of a fleet of a thousand fall silent at once. The
 * assignments have been running, so each has an observation that has to be marked lost, and the
 * others' 90,000 rows stand beside them. One session listens to every lost node and counts what it
 * hears.
 */
import { setTimeout as pause } from 'node:timers/promises'
import {
  assertEqual,
  elapsedMs,
  repeat,
  type Bench,
  type Benchmark,
  type Figure,
} from './benchmark.js'
import { addDeployments, addNodes, claim, countEvents, observeAll } from './fleet.js'

export const benchmarks: Benchmark[] = [{ name: 'reap', run: reapMany }]

const PATIENCE_MS = 30_000

async function reapMany(bench: Bench): Promise<Figure[]> {
  const lost = bench.size(100, 4)
  const nodes = Math.max(bench.size(1_000, 20), lost * (bench.runs + 2))
  const perNode = bench.size(100, 10)
  let notifications = 0
  const values = await bench.inDatabase(async ({ sql, connect }) => {
    await addNodes(sql, nodes)
    await addDeployments(sql, nodes * perNode)
    assertEqual(await claim(sql), nodes * perNode, 'rows that claim() returned')
    await observeAll(sql)
    // a fleet that has been running has been looked at
    await sql`vacuum (analyze)`
    const worker = connect(1, 'bench: worker')
    const listener = connect(1, 'bench: listener')
    return repeat(bench, async (run) => {
      bench.say(`reap of ${lost * perNode}, run ${run}`)
      const dead = await sql<{ node_id: number }[]>`
        update mooring.heartbeat h
           set beat_at = clock_timestamp() - interval '2 hours'
         where h.node_id in (
           select n.id from mooring.node n order by n.id offset ${run * lost} limit ${lost}
         )
        returning h.node_id`
      // as those that live do every three seconds: what owns work and is late is looked at more
      // closely
      await sql`
        update mooring.heartbeat h
           set beat_at = clock_timestamp()
         where h.beat_at > clock_timestamp() - h.lease_ttl`
      for (const { node_id } of dead) {
        await listener.listen(`mooring_node_${node_id}`, () => notifications++)
      }
      const before = await countEvents(sql, 'reaped')
      notifications = 0
      let reaped = 0
      const ms = await elapsedMs(async () => {
        const [row] = await worker<
          { n: number }[]
        >`select count(*)::int as n from mooring.reap(10000)`
        reaped = row!.n
      })
      assertEqual(reaped, lost * perNode, 'rows that reap() returned')
      assertEqual((await countEvents(sql, 'reaped')) - before, reaped, 'events')
      for (
        const deadline = performance.now() + PATIENCE_MS;
        notifications < lost && performance.now() < deadline;
      )
        await pause(5)
      assertEqual(notifications, lost, 'notifications, one for each lost node')
      return ms
    })
  })
  return [
    {
      what: `reap() of ${lost * perNode} from ${lost} nodes, one NOTIFY per transaction and node`,
      unit: 'ms',
      asked: { atMost: 150 },
      floor: '80 ms',
      values,
      note: `${notifications} notifications for ${lost} nodes`,
    },
  ]
}
