import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { sentenceOf } from '../../faults/report.js'
import type { Report } from '../../faults/main.js'
import { program, tempDir } from '../helpers/processes.js'
import { ROOT } from '../helpers/root.js'

const MAIN = join(ROOT, 'dist', 'faults', 'main.js')
const SEED = '20261121'

t.setTimeout(1_200_000)

t.test(
  'every fault at the best containment: no double run, none lost; two removed guards are missed',
  { timeout: 1_080_000 },
  async (t) => {
    const rig = program(
      t,
      process.execPath,
      // one fleet at a time: two starve each other's beats on two slow cores
      [MAIN, '--short', '--json', '--seed', SEED],
      { cwd: tempDir(t, 'rig') },
    )
    await rig.exited
    t.comment(rig.stderr())
    const { runs, controls, skipped } = JSON.parse(rig.stdout()) as Report
    for (const [name, why] of Object.entries(skipped)) {
      t.comment(`${name} was left out: ${why}`)
      // Where everything was prepared for it, a fault that is left out is one that no test covers.
      // What only root can do is left to root.
      if (process.env['CI'] && (process.getuid?.() === 0 || !/root|switched off/.test(why)))
        t.fail(`${name} was left out: ${why}`)
    }
    for (const run of runs)
      t.ok(
        run.ok || run.void !== null,
        run.plan.steps.map(({ fault }) => fault).join(' and ') +
          (run.ok ? '' : `: ${sentenceOf(run)}`),
      )
    for (const { name, ok, sentence, skipped: why } of controls)
      t.ok(ok || why !== null, `control ${name}: ${sentence}`)
    t.ok(new Set(runs.flatMap(({ plan }) => plan.steps.map(({ fault }) => fault))).size >= 20)
  },
)

t.test(
  'a rig that is killed leaves nothing for ever: the next one ends and removes it',
  async (t) => {
    const killed = program(
      t,
      process.execPath,
      [MAIN, '--runs', '1', '--seed', '1', '--faults', 'cut'],
      { cwd: tempDir(t, 'rig'), env: { FAULTS_ANNOUNCE: '1' } },
    )
    await killed.said('settled', 60_000)
    const folder = /folder (\S+)/.exec(killed.stderr())![1]!
    killed.kill('SIGKILL')
    await killed.exited
    t.ok(existsSync(folder))
    const next = program(t, process.execPath, [MAIN, '--list'], { cwd: tempDir(t, 'rig') })
    t.equal((await next.exited).code, 0)
    t.notOk(existsSync(folder))
    const left = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.includes(folder))
    t.same(left, [])
    if (process.getuid?.() === 0)
      t.notMatch(
        execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }),
        folder.slice(folder.lastIndexOf('mooring-faults-') + 'mooring-faults-'.length),
      )
  },
)

t.test('a fault or a control that does not exist is bad usage', async (t) => {
  const rig = program(t, process.execPath, [MAIN, '--faults', 'earthquake'], {
    cwd: tempDir(t, 'rig'),
  })
  t.equal((await rig.exited).code, 2)
  t.match(rig.stderr(), 'no fault is named earthquake')
})
