/** One test file, run by node alone: a test file prints TAP by itself. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { failuresIn } from './failures.mjs'
import { ROOT, isAlone } from './test-plan.mjs'

const TIMEOUT_S = 600
/** The timeout of tap ends a file from within and names the test. This one ends a hanging file. */
const KILL_AFTER_S = 660
const KILL_ALONE_AFTER_S = 1_320
const GRACE_MS = 5_000

/**
 * Resolves with { output, failures, pass, fail, skip, seconds } and never rejects. A file fails
 * when it ends with an error, prints no plan or asserts nothing.
 */
export async function runTestFile(file, env, signal) {
  const program = join(ROOT, 'dist', file.replace(/\.ts$/, '.js'))
  const started = performance.now()
  if (!existsSync(program)) return result(file, '', 'it is not built: npm run build', 0)
  const child = spawn(process.execPath, ['--enable-source-maps', program], {
    cwd: ROOT,
    env: { ...env, TAP_TIMEOUT: String(TIMEOUT_S) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => (output += text))

  let death
  const end = (why) => {
    death ??= why
    child.kill('SIGTERM')
    setTimeout(() => child.kill('SIGKILL'), GRACE_MS).unref()
  }
  const abort = () => end('it was stopped')
  signal.addEventListener('abort', abort, { once: true })
  const limit = isAlone(file) ? KILL_ALONE_AFTER_S : KILL_AFTER_S
  const timer = setTimeout(() => end(`it did not end within ${limit} s`), limit * 1_000)
  // the end of the test counts, because a process it left behind may hold the pipe open
  const [code, ending] = await new Promise((done) => {
    child.once('error', (error) => done([1, error.message]))
    child.once('exit', (...how) => setTimeout(done, 200, how))
    child.once('close', (...how) => done(how))
  })
  clearTimeout(timer)
  signal.removeEventListener('abort', abort)
  child.stdout.destroy()
  child.stderr.destroy()
  if (code !== 0) death ??= `it ended with ${ending ?? `code ${code}`}`
  return result(file, output, death, (performance.now() - started) / 1_000)
}

function result(file, output, death, seconds) {
  const counts = countsOf(output)
  const failures = failuresIn(output).map((text) => `${file}\n${text}`)
  const wrong =
    (counts.fail === 0 ? death : undefined) ??
    (/^1\.\.\d+/m.test(output) ? undefined : 'it printed no plan') ??
    (counts.pass + counts.fail + counts.skip === 0 ? 'it asserted nothing' : undefined)
  if (wrong) {
    counts.fail++
    failures.push(`${file}\nnot ok - ${wrong}\n${output.split('\n').slice(-LAST_LINES).join('\n')}`)
  }
  return { output, failures, ...counts, seconds }
}

const LAST_LINES = 20

/** A file's last summary comment, "# { total: 3, pass: 2, fail: 1 }". */
function countsOf(output) {
  const summary = [...output.matchAll(/^# \{ (.*) \}$/gm)].pop()?.[1] ?? ''
  const counts = Object.fromEntries(
    [...summary.matchAll(/(\w+): (\d+)/g)].map(([, key, number]) => [key, Number(number)]),
  )
  return {
    pass: counts.pass ?? 0,
    fail: counts.fail ?? 0,
    skip: (counts.skip ?? 0) + (counts.todo ?? 0),
  }
}
