/**
 * INSERT of 21 deployments until another session sees all of them assigned: trigger, job, worker,
 * claim, commit. Two agents run, and start what they get meanwhile.
 */
import { assertEqual, type Bench, type Benchmark, type Figure } from './benchmark.js'
import { balance } from './fleet.js'
import { hintsOf, insertCommands, removeDeployments } from './workload.js'

export const benchmarks: Benchmark[] = [
  { name: 'insert-to-assigned', spawns: true, run: insertToAssigned },
]

const ROWS = 21

async function insertToAssigned(bench: Bench): Promise<Figure[]> {
  return bench.inDatabase((database) =>
    bench.onHost(database, async (host) => {
      const { sql, connect } = database
      await Promise.all([host.worker(), host.agent('host-a'), host.agent('host-b')])
      const user = connect(1, 'bench: user')
      const hints = await hintsOf(database)
      const values: number[] = []
      for (let i = -3; i < bench.size(50, 2); i++) {
        bench.say(`${ROWS} deployments, ${i}`)
        const start = performance.now()
        await insertCommands(user, ROWS)
        await hints.until(async () => (await balance(sql)).placed === ROWS)
        if (i >= 0) values.push(performance.now() - start)
        const { least, most } = await balance(sql)
        assertEqual(`${least}..${most}`, '10..11', 'assignments per node')
        await removeDeployments(sql)
      }
      return [
        {
          what: `INSERT of ${ROWS} deployments -> all assigned, two agents`,
          unit: 'ms',
          asked: { atMost: 50 },
          floor: '7 ms',
          values,
        },
      ]
    }),
  )
}
