/**
 * npm run faults: real agents, workers and a real Postgres are hurt at random. A judge that knows
 * only the stamps of the workloads looks for two instances of one assignment at one time. Exit code
 * 0: everything in order; 1: not; 2: bad usage.
 */
import { availableParallelism } from 'node:os'
import { writeFileSync, readFileSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'
import { parseCount } from '../cli/options.js'
import { CATALOGUE, type Circumstances, type Fault } from './catalogue.js'
import { CONTROLS, runControl, type ControlResult } from './controls.js'
import { MANNERS, type Manners } from './fleet.js'
import { goTogether, randomPlan, singlePlan, type Plan } from './plan.js'
import { commandFor, renderTable, sentenceOf, summary } from './report.js'
import { createRig, LEVELS, type Rig } from './rig.js'
import { runPlan, toJson, type RunResult } from './run.js'

interface Options {
  runs?: number
  seed?: number
  level?: string
  faults?: string[]
  jobs: number
  network: 'auto' | 'namespaces' | 'proxy'
  json?: boolean | string
  table?: boolean | string
  controls?: boolean | string[]
  short?: boolean
  list?: boolean
  keep?: boolean
}

export interface Report {
  machine: { cores: number; node: string; network: string }
  skipped: Readonly<Record<string, string>>
  runs: readonly RunResult[]
  controls: readonly ControlResult[]
}

const names = (value: string): string[] => value.split(',')
const seedOf = (value: string): number => {
  if (!/^\d{1,10}$/.test(value)) throw new InvalidArgumentError('It must be a whole number.')
  return Number(value)
}

const program = new Command('faults')
  .description('Hurts a fleet at random and judges what came of it.')
  .option(
    '--runs <n>',
    'random runs (default 20); with --table, runs of each cell (default 3)',
    parseCount,
  )
  .option(
    '--seed <s>',
    'of the first run, the next has the next one (default: from the clock)',
    seedOf,
  )
  .addOption(
    new Option('--level <level>', 'containment (default: the best there is)').choices(LEVELS),
  )
  .option('--faults <names>', 'only these, separated by commas', names)
  .option('--jobs <n>', 'runs at once', parseCount, 1)
  .addOption(
    new Option('--network <kind>', 'how hosts are cut off')
      .choices(['auto', 'namespaces', 'proxy'])
      .default('auto'),
  )
  .option('--json [file]', 'everything as JSON, printed or into a file')
  .option(
    '--table [file]',
    'each fault alone at each level, as Markdown; of a file that --json wrote, ' +
      'without running anything',
  )
  .option(
    '--controls [names]',
    'negative controls: each guard switched off, the judge has to see it',
    names,
  )
  .option('--short', 'every fault once in pairs, and two controls: a few minutes')
  .option('--keep', 'keep stamps, logs and events of every run, not only of those that failed')
  .option('--list', 'the faults and the controls, and what is not available here')
  .action(main)

await program.parseAsync()

async function main(options: Options): Promise<void> {
  if (typeof options.table === 'string')
    return print(renderTable(JSON.parse(readFileSync(options.table, 'utf8')) as Report))
  const unknown = (options.faults ?? []).filter(
    (name) => !CATALOGUE.some((fault) => fault.name === name),
  )
  if (unknown.length > 0)
    program.error(`no fault is named ${unknown.join(', ')}; --list shows them`, { exitCode: 2 })
  const noControl = (Array.isArray(options.controls) ? options.controls : []).filter(
    (name) => !CONTROLS.some((control) => control.name === name),
  )
  if (noControl.length > 0)
    program.error(`no control is named ${noControl.join(', ')}; --list shows them`, { exitCode: 2 })
  const rig = await createRig({ network: options.network })
  if (process.env['FAULTS_ANNOUNCE']) say(`folder ${rig.stage.folder}`)
  const stop = (): void => void rig.close().finally(() => process.exit(1))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, stop)
  try {
    if (options.list) return list(rig)
    const report = await perform(rig, options)
    if (typeof options.json === 'string') writeFileSync(options.json, toJson(report))
    print(
      options.json === true
        ? toJson(report)
        : options.table
          ? renderTable(report)
          : summary(report),
    )
    const wrong =
      report.runs.some(({ ok, void: nothing }) => !ok && nothing === null) ||
      report.controls.some(({ ok, skipped }) => !ok && skipped === null)
    // where everything was prepared, what was left out is as bad as what failed
    process.exitCode =
      wrong || (process.env['CI'] !== undefined && Object.keys(report.skipped).length > 0) ? 1 : 0
  } finally {
    await rig.close()
  }
}

async function perform(rig: Rig, options: Options): Promise<Report> {
  const seed = options.seed ?? Date.now() % 1_000_000
  const { usable, skipped } = choose(rig.circumstances, options.faults)
  for (const [name, why] of Object.entries(skipped)) say(`${name} is left out: ${why}`)
  const levels = options.level
    ? [options.level]
    : options.table
      ? rig.levels
      : rig.levels.slice(0, 1)
  const work: { level: string | undefined; plan: Plan }[] = []
  if (options.table) {
    for (const level of levels)
      for (const fault of usable)
        for (let nr = 0; nr < (options.runs ?? 3); nr++)
          work.push({ level, plan: singlePlan(seed + nr, fault, mannersAt(level)) })
  } else if (options.short) {
    work.push(
      ...pairs(usable, seed, mannersAt(levels[0])).map((plan) => ({ level: levels[0], plan })),
    )
  } else if (!options.controls || options.runs !== undefined) {
    for (let nr = 0; nr < (options.runs ?? 20); nr++)
      work.push({ level: levels[0], plan: randomPlan(seed + nr, usable, mannersAt(levels[0])) })
  }
  const runs = await inParallel(options.jobs, work, async ({ level, plan }, nr) => {
    const result = await attempt(rig, level, plan, options.keep === true)
    say(
      `${nr + 1}/${work.length} ` +
        `${sentenceOf(result)}${result.ok ? '' : `\n#   again: ${commandFor(result, options)}`}`,
    )
    return result
  })
  const wanted = options.short
    ? CONTROLS.filter(({ inShort }) => inShort)
    : options.controls
      ? CONTROLS.filter(
          ({ name }) => options.controls === true || (options.controls as string[]).includes(name),
        )
      : []
  const controls = await inParallel(options.jobs, wanted, async (control) => {
    const result = await runControl(rig, control, options.level ?? rig.levels[0])
    say(`control ${result.name}: ${result.sentence}`)
    if (result.skipped) skipped[`control ${result.name}`] = result.skipped
    return result
  })
  return {
    machine: {
      cores: availableParallelism(),
      node: process.version,
      network: rig.stage.namespaces ? 'namespaces' : 'proxy',
    },
    skipped,
    runs,
    controls,
  }
}

/** A run that could not be carried out is reported as such; it does not count as in order. */
async function attempt(
  rig: Rig,
  level: string | undefined,
  plan: Plan,
  keepAll: boolean,
): Promise<RunResult> {
  try {
    return await runPlan({ ...rig.stage, level, keepAll }, plan, (text) => {
      if (process.env['FAULTS_ANNOUNCE']) say(text)
    })
  } catch (error) {
    const verdict = {
      overlaps: [],
      overlapMs: 0,
      gaps: [],
      epochsBack: [],
      lost: [],
      robbed: [],
      killed: [],
      lateWrites: [],
      ok: false,
    }
    return {
      seed: plan.seed,
      level: level ?? 'none',
      plan,
      timeline: [],
      verdict,
      settledMs: null,
      missing: null,
      gaps: [],
      ok: false,
      void: null,
      kept: `not carried out: ${(error as Error).stack}`,
    }
  }
}

function choose(
  circumstances: Circumstances,
  wanted: readonly string[] | undefined,
): { usable: Fault[]; skipped: Record<string, string> } {
  const skipped: Record<string, string> = {}
  const usable = CATALOGUE.filter((fault) => {
    if (wanted && !wanted.includes(fault.name)) return false
    const why = fault.needs ? circumstances[fault.needs] : null
    if (why !== null) skipped[fault.name] = why
    return why === null
  })
  if (usable.length === 0)
    program.error(`nothing is left to do: ${JSON.stringify(skipped)}`, { exitCode: 2 })
  return { usable, skipped }
}

/**
 * A process that sheds environment, session and parent is found in a PID namespace only. Everywhere
 * else it is a known leak, and shown in the table.
 */
function mannersAt(level: string | undefined): readonly Manners[] {
  return level === 'pid-namespace' ? MANNERS : MANNERS.filter((manners) => manners !== 'shedder')
}

/**
 * Each fault once, two at a time where they go together; those of the server first, of which only
 * one fits into a run.
 */
function pairs(faults: readonly Fault[], seed: number, manners: readonly Manners[]): Plan[] {
  const left = [...faults].sort((a, b) => Number(b.at === 'server') - Number(a.at === 'server'))
  const plans: Plan[] = []
  for (let first = left.shift(); first; first = left.shift()) {
    const fits = left.findIndex((fault) => goTogether(first!, fault))
    const [second] = fits < 0 ? [] : left.splice(fits, 1)
    const plan = singlePlan(seed + plans.length, first, manners)
    const steps = [first, ...(second ? [second] : [])].map((fault, nr) => ({
      fault: fault.name,
      host: nr,
      atMs: 300 * nr,
      lastsMs: 2_900,
      draw: plan.steps[0]!.draw,
    }))
    plans.push({ ...plan, steps })
  }
  return plans
}

async function inParallel<T, R>(
  jobs: number,
  work: readonly T[],
  each: (item: T, nr: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  let next = 0
  await Promise.all(
    Array.from({ length: Math.max(1, jobs) }, async () => {
      while (next < work.length) {
        const nr = next++
        results[nr] = await each(work[nr]!, nr)
      }
    }),
  )
  return results
}

function list({ circumstances, levels, stage }: Rig): void {
  for (const fault of CATALOGUE)
    print(
      `${fault.name.padEnd(18)} ` +
        fault.what +
        (fault.needs && circumstances[fault.needs] ? ` (${circumstances[fault.needs]})` : ''),
    )
  for (const control of CONTROLS) print(`control ${control.name.padEnd(22)} ${control.what}`)
  print(
    `levels: ${levels.map((level) => level ?? 'none').join(', ')}; hosts are cut ` +
      `off by ${stage.namespaces ? 'network namespaces' : 'a TCP proxy'}`,
  )
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

function say(text: string): void {
  process.stderr.write(`# ${text}\n`)
}
