// npm run model [-- NAME...]: model-checks model/lease.pml in every configuration, or in those
// named. --quick: those the tests run; --full: the slow ones too.
// npm run model -- STALE=2 KILL=1 --expect=safe: a configuration of your own.
//
// It prints one line each. It fails when a safe one finds a double run, when a negative one finds
// none, or when the search could not be completed.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { CONFIGURATIONS } from './configurations.mjs'

const MODEL = resolve(import.meta.dirname, 'lease.pml')
/**
 * Steps of the longest path, MiB and seconds one configuration may take: beyond them it has no
 * answer, which is a failure.
 */
// the stack of the search is reserved beforehand: 50 MiB, 400 MiB, 3 GiB
const DEPTHS = [1_000_000, 8_000_000, 60_000_000]
const MAX_MEMORY_MB = 4_000
const MAX_SECONDS = 900

const chosen = choose(process.argv.slice(2))
const missing = ['spin', 'cc'].filter(
  (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).error,
)
if (missing.length > 0) {
  console.log(
    `skipped: ${missing.join(' and ')} not installed (Debian: apt-get install spin gcc libc6-dev)`,
  )
} else {
  let failed = 0
  for (const configuration of chosen) {
    const { found, states, memoryMb, seconds } = check(configuration)
    const right = found === configuration.expected
    if (!right) failed++
    const figures =
      states === undefined ? '' : `  ${states} states  ${memoryMb} MB  ${seconds.toFixed(1)} s`
    console.log(
      `${right ? 'ok    ' : 'NOT OK'}  ${configuration.name}: ` +
        `${found}${right ? '' : ` instead of ${configuration.expected}`}${figures}  ` +
        `${switches(configuration).join(' ')}`,
    )
  }
  console.log(`${chosen.length - failed} as expected, ${failed} not`)
  process.exitCode = failed > 0 ? 1 : 0
}

function choose(args) {
  const own = args.filter((arg) => /^[A-Z_]+=\d+$/.test(arg))
  if (own.length > 0) {
    const expected = args.find((arg) => arg.startsWith('--expect='))?.slice(9) ?? 'safe'
    return [
      {
        name: own.join(','),
        expected,
        set: Object.fromEntries(own.map((pair) => pair.split('='))),
      },
    ]
  }
  if (args.includes('--quick')) return CONFIGURATIONS.filter(({ quick }) => quick)
  if (args.includes('--full')) return CONFIGURATIONS
  const unknown = args.filter((arg) => !CONFIGURATIONS.some(({ name }) => name === arg))
  if (unknown.length > 0) {
    console.error(
      `no configuration is called ${unknown.join(', ')}; there are: ` +
        `${CONFIGURATIONS.map(({ name }) => name).join(' ')}`,
    )
    process.exit(2)
  }
  return args.length > 0
    ? CONFIGURATIONS.filter(({ name }) => args.includes(name))
    : CONFIGURATIONS.filter(({ slow }) => !slow)
}

function check(configuration) {
  const folder = mkdtempSync(join(tmpdir(), 'mooring-model-'))
  try {
    copyFileSync(MODEL, join(folder, 'lease.pml'))
    run(folder, 'spin', [...switches(configuration), '-a', 'lease.pml'])
    // a small one is searched sooner than it is optimised
    run(folder, 'cc', [
      configuration.quick ? '-O0' : '-O2',
      '-w',
      '-DSAFETY',
      '-DCOLLAPSE',
      `-DMEMLIM=${MAX_MEMORY_MB}`,
      '-o',
      'pan',
      'pan.c',
    ])
    const startedAt = performance.now()
    let output
    for (const depth of DEPTHS) {
      // -E: an agent that has nothing to do any more is no error
      output = run(folder, 'nice', ['-n', '10', './pan', '-E', `-m${depth}`, '-w20'])
      if (!output.includes('max search depth too small')) break
    }
    const seconds = (performance.now() - startedAt) / 1000
    const errors = /errors: (\d+)/.exec(output)?.[1]
    const incomplete =
      /max search depth too small|out of memory|reached -DMEMLIM|Search not completed/.test(
        output,
      ) && errors === '0'
    return {
      found:
        errors === undefined || incomplete ? 'no answer' : errors !== '0' ? 'double run' : 'safe',
      states: Number(/([\d.e+]+) states, stored/.exec(output)?.[1] ?? 0),
      memoryMb: Math.round(Number(/([\d.]+)\s+total actual memory/.exec(output)?.[1] ?? 0)),
      seconds,
    }
  } catch (error) {
    return { found: `no answer (${error.message})` }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function run(folder, program, args) {
  const { stdout, stderr, status, error, signal } = spawnSync(program, args, {
    cwd: folder,
    encoding: 'utf8',
    timeout: MAX_SECONDS * 1000,
    killSignal: 'SIGKILL',
    maxBuffer: 1 << 26,
  })
  if (error || signal || (status !== 0 && program !== 'nice'))
    throw new Error(
      `${program}: ` +
        (error?.message ??
          signal ??
          `${stdout}${stderr}`.trim().split('\n').slice(0, 5).join(' | ')),
    )
  return stdout
}

function switches({ set }) {
  return Object.entries(set).map(([name, value]) => `-D${name}=${value}`)
}
