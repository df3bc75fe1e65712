/**
 * The model is checked as a text that could be edited wrongly: a few rules must hold, and each is
 * missed when it is removed. `npm run model` checks all of it. In CI spin has to be there;
 * elsewhere the test says why it does nothing.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { program, tempDir } from '../helpers/processes.js'
import { ROOT } from '../helpers/root.js'

const MODEL = join(ROOT, 'model', 'run.mjs')
const missing = ['spin', 'cc'].filter(
  (name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).error,
)
const skip = missing.length > 0 && !process.env.CI && `${missing.join(' and ')} not installed`

async function model(t: Test, ...args: string[]) {
  const run = program(t, process.execPath, [MODEL, ...args], { cwd: tempDir(t, 'model') })
  const { code } = await run.exited
  return { code, lines: run.stdout().trim().split('\n') }
}

t.test(
  'the quick part of the model breaks no rule, and each negative variant finds the double run',
  { skip },
  async (t) => {
    t.same(missing, [], 'spin and cc are installed')
    const { code, lines } = await model(t, '--quick')
    t.equal(code, 0, lines.join('\n'))
    t.ok(lines.filter((line) => line.includes(': safe')).length >= 3, 'safe ones')
    t.ok(lines.filter((line) => line.includes(': double run')).length >= 5, 'negative ones')
  },
)

t.test('a lease too long for the reaper fails the check', { skip }, async (t) => {
  const { code, lines } = await model(t, 'STALE=2', '--expect=safe')
  t.equal(code, 1)
  t.match(lines[0], 'double run instead of safe')
})

t.test('a rule that is in force fails the check of its absence', { skip }, async (t) => {
  const { code, lines } = await model(t, 'STALE=3', '--expect=double run')
  t.equal(code, 1)
  t.match(lines[0], 'safe instead of double run')
})

t.test('a configuration that does not exist is bad usage', async (t) => {
  t.equal((await model(t, 'bsae')).code, 2)
})
