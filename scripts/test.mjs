// npm test [-- FILE...]   the fast tests, or the files named
// npm run test:all        every test, and those of the SQL on Debian's PostgreSQL 15 too
//
// `npm run build` comes first, because tests run as JavaScript from dist/test/. Each leg has its
// own server and temporary folder. A test that leaves something behind there fails the run.
// The last line is for machines: "N passed, N failed, N skipped".
import { spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { ensureCluster } from '../dist/postgres/embedded/cluster.js'
import { runTogether } from './crowd.mjs'
import { connectAdmin, leftDatabases, leftFiles, leftProcesses, leftSessions } from './leaks.mjs'
import { runTestFile } from './test-file.mjs'
import { ROOT, TIMES, allTests, inOrder, isAlone, isLong, isSql, testsNamed } from './test-plan.mjs'

const DEBIAN_15 = '/usr/lib/postgresql/15/bin'
const SETTINGS = JSON.parse(readFileSync(join(ROOT, 'test/helpers/server-settings.json'), 'utf8'))
const REMEMBERED_S = 4

const args = process.argv.slice(2)
const all = args.includes('--all')
const only = args.find((arg) => arg.startsWith('--leg='))?.slice(6)
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stop.abort())

const sum = { pass: 0, fail: 0, skip: 0 }
const failures = []
const seconds = {}
const legs = []
try {
  const paths = args.filter((arg) => !arg.startsWith('--'))
  const named = testsNamed(paths)
  const files = named.length > 0 ? named : allTests().filter((file) => all || !isLong(file))
  const both = all || named.length > 0 || only === '15'
  const plan = [{ name: 'embedded', bindir: '', files }]
  if (both) plan.push({ name: '15', bindir: DEBIAN_15, files: files.filter(isSql) })
  for (const { name, bindir, files } of plan) {
    if ((only && name !== only) || files.length === 0 || stop.signal.aborted) continue
    if (bindir && !existsSync(join(bindir, 'initdb'))) {
      console.log(`# ${bindir} is not there: the tests of the SQL are not run on PostgreSQL 15`)
      if (process.env.CI) sum.fail++
      continue
    }
    legs.push(await openLeg(name, bindir, files))
  }
  const tasks = inOrder(legs.flatMap((leg) => leg.files.map((file) => ({ leg, file }))))
  const together = tasks.filter(({ file }) => !isAlone(file))
  await runTogether(together, runTask, stop.signal)
  for (const task of tasks.filter(({ file }) => isAlone(file)))
    if (!stop.signal.aborted) await runTask(task)
} catch (error) {
  fail(`${error.stack}`)
}
for (const leg of legs) await leg.close().catch((error) => fail(`${error.stack}`))
if (stop.signal.aborted) fail('stopped before the end')
if (args.includes('--remember')) remember()
for (const failure of failures) console.log(`\n# failed ${failure}`)
console.log(`${sum.pass} passed, ${sum.fail} failed, ${sum.skip} skipped`)
process.exit(sum.fail > 0 || sum.pass === 0 ? 1 : 0)

function fail(what) {
  sum.fail++
  failures.push(what)
}

async function runTask({ leg, file }) {
  const ran = await runTestFile(file, leg.env, stop.signal)
  for (const key of Object.keys(sum)) sum[key] += ran[key]
  failures.push(...ran.failures.map((failure) => `on ${leg.name}: ${failure}`))
  seconds[file] = Math.max(seconds[file] ?? 0, ran.seconds)
  // a terminal gets a line for each file, and what failed at the end; a log gets everything
  if (!process.stdout.isTTY) console.log(ran.output.trimEnd().replaceAll(/^(?=.)/gm, '    '))
  const skipped = ran.skip > 0 ? `, ${ran.skip} skipped` : ''
  const verdict = ran.fail > 0 ? 'not ok' : 'ok'
  const counts = `${ran.pass} passed${skipped}, ${ran.seconds.toFixed(1)} s`
  console.log(`${verdict} - ${file} (${leg.name}) # ${counts}`)
}

async function openLeg(name, bindir, files) {
  const folder = mkdtempSync(join(tmpdir(), 'mooring-test-run-'))
  chmodSync(folder, 0o755) // the server's user has to get in
  const temporary = join(folder, 'tmp')
  mkdirSync(temporary, { mode: 0o777 })
  chmodSync(temporary, 0o1777)
  const programs = bindir ? { PGBINDIR: bindir } : {}
  let cluster
  let admin
  const close = async () => {
    try {
      if (!admin) return
      const leaks = [
        ...(await leftProcesses(temporary)),
        ...(await leftSessions(admin)),
        ...(await leftDatabases(admin)),
        ...leftFiles(temporary),
      ]
      for (const leak of leaks) {
        console.log(`not ok - left behind: ${leak}`)
        fail(`on ${name}: left behind: ${leak}`)
      }
    } finally {
      await admin?.end({ timeout: 1 })
      await cluster?.stop()
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
      if (cluster && !cluster.dataDir.startsWith(folder))
        rmSync(resolve(cluster.dataDir, '..'), { recursive: true, force: true })
    }
  }
  try {
    cluster = await ensureCluster({
      stateDir: join(folder, 'server'),
      durable: false,
      settings: SETTINGS,
      env: { PATH: process.env.PATH, ...programs },
    })
    admin = connectAdmin(cluster.url)
    const [{ version }] = await admin`select current_setting('server_version') as version`
    console.log(`# PostgreSQL ${version} (${name}): ${files.length} files`)
    keep(cluster)
  } catch (error) {
    await close()
    throw error
  }
  const env = {
    ...withoutServers(process.env),
    ...programs,
    MOORING_TEST_SERVER: cluster.url,
    TMPDIR: temporary,
  }
  return { name, files, env, close }
}

/** Ends the server when this process is killed: the keeper ends it with the last connection. */
function keep(cluster) {
  const keeper = join(ROOT, 'test/helpers/server-keeper.mjs')
  spawn(process.execPath, [keeper, cluster.dataDir], {
    detached: true,
    stdio: 'ignore',
    env: { PATH: process.env.PATH, KEEPER_URL: cluster.url },
  }).unref()
}

function remember() {
  const long = Object.entries(seconds)
    .filter(([, time]) => time >= REMEMBERED_S)
    .sort(([, one], [, other]) => other - one)
    .map(([file, time]) => [file, Math.round(time)])
  writeFileSync(TIMES, `${JSON.stringify(Object.fromEntries(long), null, 2)}\n`)
}

function withoutServers(env) {
  return Object.fromEntries(
    Object.entries(env).filter(([key]) => !/^(DATABASE_URL|PG[A-Z]+|MOORING_\w+)$/.test(key)),
  )
}
