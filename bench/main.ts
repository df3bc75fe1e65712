/**
 * npm run bench -- [name...]: what Mooring's figures come from. Real Postgres with durable
 * settings, a database for each benchmark, agents and workers as processes where the figure is
 * about them. Prints what was asked and what was measured; a missed figure is no failure, a
 * benchmark that breaks is.
 */
import { Command } from 'commander'
import { parseCount } from '../cli/options.js'
import { raceDeadline } from '../host/deadline.js'
import { benchmarks as agent } from './agent.js'
import { benchmarks as backlog } from './backlog.js'
import type { Bench, Benchmark } from './benchmark.js'
import { benchmarks as claim } from './claim.js'
import { benchmarks as database } from './database.js'
import { benchmarks as drain } from './drain.js'
import { benchmarks as failover } from './failover.js'
import { benchmarks as heartbeat } from './heartbeat.js'
import { benchmarks as insertBurst } from './insert-burst.js'
import { benchmarks as insertToAssigned } from './insert-to-assigned.js'
import { benchmarks as insertToSpawned } from './insert-to-spawned.js'
import { benchmarks as looks } from './looks.js'
import { createHost, type Host } from './programs.js'
import { benchmarks as reap } from './reap.js'
import { loadNow, machineLine, renderJson, renderTable, type Measured } from './report.js'
import { startServer, type Server } from './server.js'

const ALL: readonly Benchmark[] = [
  ...insertToAssigned,
  ...insertToSpawned,
  ...failover,
  ...agent,
  ...database,
  ...drain,
  ...claim,
  ...backlog,
  ...insertBurst,
  ...reap,
  ...heartbeat,
  ...looks,
]
const DEFAULT_RUNS = 5
/** A quick benchmark takes seconds. One that hangs says where instead of ending with its caller. */
const QUICK_LIMIT_MS = 120_000

interface Options {
  quick?: boolean
  json?: boolean
  runs?: number
  spawn: boolean
}

const program = new Command('bench')
  .description('Measures Mooring against the figures it was asked to reach.')
  .argument('[name...]', `which ones, by group or name: ${ALL.map(({ name }) => name).join(', ')}`)
  .option('--quick', 'small sizes, one run: shows that every benchmark works')
  .option(
    '--runs <n>',
    `runs of each measurement after a warm-up (default ${DEFAULT_RUNS})`,
    parseCount,
  )
  .option('--no-spawn', 'leave out what starts agents and workers')
  .option('--json', 'print JSON')
  .action(run)

await program.parseAsync()

async function run(names: string[], options: Options): Promise<void> {
  const unknown = names.filter((name) => !ALL.some((benchmark) => isNamed(benchmark, name)))
  if (unknown.length > 0)
    program.error(
      `no benchmark is named ${unknown.join(', ')}; there are ` +
        `${ALL.map(({ name }) => name).join(', ')}`,
      { exitCode: 2 },
    )
  const chosen = ALL.filter(
    (benchmark) =>
      (names.length === 0 || names.some((name) => isNamed(benchmark, name))) &&
      (options.spawn || !benchmark.spawns),
  )
  const quick = options.quick === true
  const runs = quick ? 1 : Math.max(1, options.runs ?? DEFAULT_RUNS)
  const before = loadNow()
  const hosts = new Set<Host>()
  let server: Server | undefined
  const close = async (): Promise<void> => {
    await Promise.all([...hosts].map((host) => host.stop()))
    await server?.stop()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => void close().finally(() => process.exit(1)))
  const figures: Measured[] = []
  try {
    const started = (server = await startServer('.mooring'))
    for (const { name, run: measure } of chosen) {
      try {
        const measured = measure(benchOf(started, hosts, { quick, runs }))
        const values = quick
          ? await raceDeadline(QUICK_LIMIT_MS, measured, () => failWith(started))
          : await measured
        figures.push(...values.map((figure) => ({ ...figure, benchmark: name })))
      } catch (error) {
        process.exitCode = 1
        console.error(`${name} failed: ${error instanceof Error ? error.stack : String(error)}`)
      }
    }
    const circumstances = {
      postgres: started.version,
      quick,
      runs,
      load: { before, after: loadNow() },
    }
    console.log(
      options.json
        ? renderJson(figures, circumstances)
        : `${renderTable(figures)}\n${machineLine(circumstances)}`,
    )
  } finally {
    await close()
  }
  // a benchmark that hung may still wait for something
  if (process.exitCode === 1) process.exit()
}

async function failWith({ describe }: Server): Promise<never> {
  throw new Error(`it did not end within ${QUICK_LIMIT_MS} ms\n${await describe()}`)
}

function isNamed({ name }: Benchmark, wanted: string): boolean {
  return name === wanted || name.startsWith(`${wanted}/`)
}

function benchOf(
  server: Server,
  hosts: Set<Host>,
  { quick, runs }: { quick: boolean; runs: number },
): Bench {
  return {
    quick,
    runs,
    size: (full, small) => (quick ? small : full),
    inDatabase: server.inDatabase,
    async onHost({ url }, use) {
      const host = createHost(url)
      hosts.add(host)
      try {
        return await use(host)
      } finally {
        await host.stop()
        hosts.delete(host)
      }
    },
    say: (text) => process.stderr.write(`# ${text}\n`),
  }
}
