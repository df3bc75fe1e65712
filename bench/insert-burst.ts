/**
 * 500 users insert a row each at the same moment, each in a transaction and a session of their own;
 * one real worker places them.
 */
import {
  assertEqual,
  elapsedMs,
  repeat,
  type Bench,
  type Benchmark,
  type Figure,
} from './benchmark.js'
import { addDeployments, addNodes, balance } from './fleet.js'
import { hintsOf } from './workload.js'

export const benchmarks: Benchmark[] = [{ name: 'insert-burst', spawns: true, run: burst }]

async function burst(bench: Bench): Promise<Figure[]> {
  const users = bench.size(500, 20)
  const nodes = 100
  return bench.inDatabase((database) =>
    bench.onHost(database, async (host) => {
      const { sql, connect } = database
      await addNodes(sql, nodes)
      await host.worker()
      const crowd = connect(users, 'bench: user')
      // all of them connected, and with the statement known, before the clock starts
      await Promise.all(Array.from({ length: users }, () => crowd`select pg_sleep(0.5)`))
      const hints = await hintsOf(database)
      let placed = 0
      const runs = await repeat(bench, async (run) => {
        bench.say(`${users} inserts at once, run ${run}`)
        placed += users
        let insertedMs = 0
        const assignedMs = await elapsedMs(async () => {
          const inserts = elapsedMs(() =>
            Promise.all(Array.from({ length: users }, () => addDeployments(crowd, 1))),
          ).then((ms) => (insertedMs = ms))
          await hints.until(async () => (await balance(sql)).placed === placed)
          await inserts
        })
        // placement is exact however the rows arrived
        const { least, most } = await balance(sql)
        assertEqual(
          most - least <= 1,
          true,
          `assignments per node ${least}..${most} are as even as can be`,
        )
        return { insertedMs, assignedMs }
      })
      return [
        {
          what: `${users} one-row INSERT transactions at once -> all assigned`,
          unit: 'ms',
          asked: { atMost: 1_500 },
          values: runs.map((run) => run.assignedMs),
          note: `${users} sessions`,
        },
        {
          what: 'of that: until the last INSERT is committed',
          unit: 'ms',
          values: runs.map((run) => run.insertedMs),
        },
      ]
    }),
  )
}
