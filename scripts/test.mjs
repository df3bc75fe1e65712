// npm test [-- FILE...]: every test on the embedded Postgres, and those of the SQL again on Debian's PostgreSQL 15.
// Each leg has a server and a temporary folder of its own; what a test leaves behind in either of them is a failure.
// The last line is for machines: "N passed, N failed, N skipped".
import { spawn } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { ensureCluster } from '../dist/postgres/embedded/cluster.js'
import { failuresIn } from './failures.mjs'
import { connectAdmin, leftDatabases, leftFiles, leftProcesses, leftSessions } from './leaks.mjs'

const ROOT = resolve(import.meta.dirname, '..')
const DEBIAN_15 = '/usr/lib/postgresql/15/bin'
const SETTINGS = JSON.parse(readFileSync(join(ROOT, 'test/helpers/server-settings.json'), 'utf8'))

const args = process.argv.slice(2)
const only = args.find((arg) => arg.startsWith('--leg='))?.slice(6)
const files = args
  .filter((arg) => !arg.startsWith('--'))
  .map((file) => relative(ROOT, resolve(file)))
// the mutants try the tests, not the server
const inSql = (file) => /^test\/(sql|races)(\/|$)/.test(file) && file !== 'test/sql/mutants.test.ts'
const legs = [
  { name: 'embedded', env: { PGBINDIR: '' }, files },
  {
    name: '15',
    env: { PGBINDIR: DEBIAN_15 },
    files:
      files.length > 0
        ? files.filter(inSql)
        : ['test/sql', 'test/races'].flatMap(testsIn).filter(inSql),
  },
].filter(({ name }) => !only || name === only)

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stop.abort())

const sum = { pass: 0, fail: 0, skip: 0 }
const failures = []
for (const leg of legs) {
  if (stop.signal.aborted) break
  if (leg.name === '15' && leg.files.length === 0) continue
  if (leg.name === '15' && !existsSync(join(DEBIAN_15, 'initdb'))) {
    console.log(`# ${DEBIAN_15} is not there: the tests of the SQL were not run on PostgreSQL 15`)
    if (process.env.CI) sum.fail++
    continue
  }
  const counts = await runLeg(leg)
  for (const key of Object.keys(sum)) sum[key] += counts[key]
}
if (stop.signal.aborted) {
  console.log('# stopped before the end')
  sum.fail++
}
for (const failure of failures) console.log(`\n${failure}`)
console.log(`${sum.pass} passed, ${sum.fail} failed, ${sum.skip} skipped`)
process.exit(sum.fail > 0 || sum.pass === 0 ? 1 : 0)

async function runLeg({ name, env, files }) {
  const folder = mkdtempSync(join(tmpdir(), 'mooring-test-run-'))
  chmodSync(folder, 0o755) // the server's user has to get in
  const temporary = join(folder, 'tmp')
  mkdirSync(temporary, { mode: 0o777 })
  chmodSync(temporary, 0o1777)
  let cluster
  let admin
  try {
    const bindir = env.PGBINDIR ? { PGBINDIR: env.PGBINDIR } : {}
    cluster = await ensureCluster({
      stateDir: join(folder, 'server'),
      durable: false,
      settings: SETTINGS,
      env: { PATH: process.env.PATH, ...bindir },
    })
    admin = connectAdmin(cluster.url)
    const [{ version }] = await admin`select current_setting('server_version') as version`
    console.log(`# PostgreSQL ${version} (${name})`)
    keep(cluster)
    const report = join(folder, 'report.tap')
    const code = await runTap(files, report, {
      ...withoutServers(process.env),
      ...bindir,
      MOORING_TEST_SERVER: cluster.url,
      TMPDIR: temporary,
    })
    const counts = countsOf(report)
    failures.push(
      ...failuresIn(existsSync(report) ? readFileSync(report, 'utf8') : '').map(
        (failure) => `# failed on ${name}: ${failure}`,
      ),
    )
    if (code !== 0 && counts.fail === 0) counts.fail++
    const leaks = [
      ...(await leftProcesses(temporary)),
      ...(await leftSessions(admin)),
      ...(await leftDatabases(admin)),
      ...leftFiles(temporary),
    ]
    for (const leak of leaks) console.log(`not ok - left behind: ${leak}`)
    failures.push(...leaks.map((leak) => `# failed on ${name}: left behind: ${leak}`))
    counts.fail += leaks.length
    return counts
  } catch (error) {
    console.log(`not ok - ${error.stack}`)
    return { pass: 0, fail: 1, skip: 0 }
  } finally {
    await admin?.end({ timeout: 1 })
    await cluster?.stop()
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
    if (cluster && !cluster.dataDir.startsWith(folder))
      rmSync(resolve(cluster.dataDir, '..'), { recursive: true, force: true })
  }
}

/** On a terminal tap draws; elsewhere it writes the report to stdout, and with a report file it would do so twice. */
function runTap(files, report, env) {
  const terminal = process.stdout.isTTY
  const how = terminal ? ['--reporter=base', `--output-file=${report}`] : ['--reporter=tap']
  const child = spawn(
    process.execPath,
    [
      join(ROOT, 'node_modules/tap/dist/esm/run.mjs'),
      'run',
      '--disable-coverage',
      ...how,
      ...files,
    ],
    {
      cwd: ROOT,
      env,
      stdio: ['ignore', terminal ? 'inherit' : 'pipe', 'inherit'],
    },
  )
  child.stdout?.on('data', (chunk) => {
    process.stdout.write(chunk)
    appendFileSync(report, chunk)
  })
  const abort = () => {
    child.kill('SIGTERM')
    setTimeout(() => child.kill('SIGKILL'), 2_000).unref() // its test files are ended with what else is left of the run
  }
  stop.signal.addEventListener('abort', abort, { once: true })
  return new Promise((done, failed) => {
    child.once('error', failed)
    child.once('close', (code) => {
      stop.signal.removeEventListener('abort', abort)
      done(code ?? 1)
    })
  })
}

/** The server ends even when this process is killed: the keeper sees that nobody is connected any more. */
function keep(cluster) {
  const keeper = join(ROOT, 'test/helpers/server-keeper.mjs')
  spawn(process.execPath, [keeper, cluster.dataDir], {
    detached: true,
    stdio: 'ignore',
    env: { PATH: process.env.PATH, KEEPER_URL: cluster.url },
  }).unref()
}

/** tap's last summary comment, "# { total: 3, pass: 2, fail: 1 }". */
function countsOf(report) {
  const summary = existsSync(report)
    ? [...readFileSync(report, 'utf8').matchAll(/^# \{ (.*) \}$/gm)].pop()?.[1]
    : undefined
  const counts = Object.fromEntries(
    (summary ?? 'fail: 1')
      .split(', ')
      .map((pair) => pair.split(': '))
      .map(([key, value]) => [key, Number(value)]),
  )
  return {
    pass: counts.pass ?? 0,
    fail: counts.fail ?? 0,
    skip: (counts.skip ?? 0) + (counts.todo ?? 0),
  }
}

function testsIn(folder) {
  return existsSync(join(ROOT, folder))
    ? readdirSync(join(ROOT, folder))
        .filter((file) => file.endsWith('.test.ts'))
        .map((file) => `${folder}/${file}`)
    : []
}

function withoutServers(env) {
  return Object.fromEntries(
    Object.entries(env).filter(([key]) => !/^(DATABASE_URL|PG[A-Z]+|MOORING_\w+)$/.test(key)),
  )
}
