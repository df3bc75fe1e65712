/**
 * INSERT of one custom command until its process is there: trigger, job, worker, claim, hint,
 * agent, spawn. One at a time, two agents.
 *
 * The benchmark observes from outside, by inotify. The agent writes runs/<assignment>.json when
 * spawn() has given it a pid, and that is after the child's exec. The appearance of this file is
 * "spawned", later than the exec by some tenths of a millisecond. The process, a shell, makes a
 * file as its first act, which is later by the start of the shell. (The start time in /proc comes
 * in steps of 10 ms.)
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { median, percentile, repeat, type Bench, type Benchmark, type Figure } from './benchmark.js'
import { removeDeployments, watchFiles, type Appearances } from './workload.js'

export const benchmarks: Benchmark[] = [
  { name: 'insert-to-spawned', spawns: true, run: insertToSpawned },
]

const NODES = ['host-a', 'host-b']
const COMMAND = '/bin/sh'
const ARGS = ['-c', ': > "$FIRST_ACT_IN/$MOORING_DEPLOYMENT_ID"; exec sleep 1000000']

async function insertToSpawned(bench: Bench): Promise<Figure[]> {
  const samples = bench.size(200, 3)
  return bench.inDatabase((database) =>
    bench.onHost(database, async (host) => {
      const { sql, connect } = database
      await Promise.all([host.worker(), ...NODES.map((node) => host.agent(node))])
      const user = connect(1, 'bench: user')
      const folder = join(host.folder, 'first-acts')
      const firstActs = watchFiles([folder])
      const runFiles = watchFiles(NODES.map((node) => join(host.folder, 'agents', node, 'runs')))
      const sample = async (): Promise<{
        insertedMs: number
        spawnedMs: number
        actedMs: number
      }> => {
        const start = performance.now()
        const [row] = await user<{ id: string }[]>`
          insert into mooring.deployment (command, args, env)
          values (${COMMAND}, ${user.json(ARGS)}, ${user.json({ FIRST_ACT_IN: folder })})
          returning id`
        const insertedMs = performance.now() - start
        const actedMs = (await firstActs.of(row!.id)) - start
        const [assignment] = await sql<
          { id: string }[]
        >`select a.id from mooring.assignment a where a.deployment_id = ${row!.id}`
        const spawnedMs = (await runFiles.of(`${assignment!.id}.json`)) - start
        await removeDeployments(sql)
        // the rounds and beats have periods: do not fall in step with them
        await pause(Math.random() * 50)
        return { insertedMs, spawnedMs, actedMs }
      }
      try {
        const runs = await repeat(bench, async (run) => {
          bench.say(`${samples} inserts, run ${run}`)
          const values = []
          for (let i = 0; i < samples; i++) values.push(await sample())
          return {
            inserted: values.map((value) => value.insertedMs),
            spawned: values.map((value) => value.spawnedMs),
            acted: values.map((value) => value.actedMs),
          }
        })
        const note = `${samples} inserts in each run`
        return [
          {
            what: 'INSERT of one custom-command deployment -> process spawned, p50',
            unit: 'ms',
            asked: { atMost: 8 },
            floor: '2.8 ms',
            values: runs.map((run) => median(run.spawned)),
            note,
          },
          {
            what: 'the same, p99',
            unit: 'ms',
            asked: { atMost: 30 },
            floor: '6.8 ms',
            values: runs.map((run) => percentile(run.spawned, 99)),
            note,
          },
          {
            what: 'of that: until the INSERT is answered, p50',
            unit: 'ms',
            values: runs.map((run) => median(run.inserted)),
          },
          {
            what: 'the same -> first act of the process, p50',
            unit: 'ms',
            values: runs.map((run) => median(run.acted)),
          },
          {
            what: 'spawn() of the same command here -> its first act',
            unit: 'ms',
            values: await ownCost(folder, firstActs, bench.size(100, 3)),
            note: 'nothing of ours but the watching',
          },
        ]
      } finally {
        firstActs.close()
        runFiles.close()
      }
    }),
  )
}

async function ownCost(folder: string, firstActs: Appearances, samples: number): Promise<number[]> {
  const values: number[] = []
  for (let i = 0; i < samples; i++) {
    const name = `own-${i}`
    const start = performance.now()
    const child = spawn(COMMAND, ARGS, {
      stdio: 'ignore',
      env: { PATH: process.env['PATH'], FIRST_ACT_IN: folder, MOORING_DEPLOYMENT_ID: name },
    })
    values.push((await firstActs.of(name)) - start)
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    await pause(Math.random() * 50)
  }
  return values
}
