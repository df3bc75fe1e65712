/**
 * No command runs or believes what it finds in the folder it is started in, or above it. A user of
 * the host who may write there would run code as the one who types the command.
 */
import { spawnSync } from 'node:child_process'
import { chownSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { emptyDatabase, testDatabase } from '../helpers/postgres.js'
import { AS_OWN_USER, mooring, tempDir } from '../helpers/processes.js'

/** A folder below hostile files. Each that is run leaves a file, and ran() lists those. */
function hostile(t: Test): { cwd: string; ran: () => string[] } {
  const folder = tempDir(t, 'hostile')
  const marks = tempDir(t, 'marks')
  const code = (name: string) =>
    `require('node:fs').writeFileSync(${JSON.stringify(join(marks, name))}, '')\n`
  for (const name of [
    '.graphile-workerrc.js',
    '.graphile-workerrc.cjs',
    'graphile-worker.config.js',
    'graphile-worker.config.cjs',
    'graphile.config.js',
    'commander.js',
    'pino.js',
  ])
    writeFileSync(join(folder, name), `${code(name)}module.exports = { schema: 'evil' }\n`)
  for (const task of ['place', 'reap']) {
    mkdirSync(join(folder, 'tasks'), { recursive: true })
    writeFileSync(join(folder, 'tasks', `${task}.js`), code(task))
  }
  writeFileSync(join(folder, 'crontab'), '* * * * * place\n')
  writeFileSync(join(folder, '.env'), 'DATABASE_URL=postgres://evil.invalid/evil\n')
  writeFileSync(join(folder, '.npmrc'), 'registry=http://evil.invalid/\nscript-shell=/bin/false\n')
  writeFileSync(join(folder, '.pgpass'), '*:*:*:*:evil\n')
  const cwd = join(folder, 'below')
  mkdirSync(cwd)
  return { cwd, ran: () => readdirSync(marks) }
}

t.test('control: the library of the jobs runs what it finds', async (t) => {
  const { cwd, ran } = hostile(t)
  const library = createRequire(import.meta.url).resolve('graphile-worker')
  spawnSync(process.execPath, ['-e', `require(${JSON.stringify(library)})`], { cwd })
  t.ok(ran().length > 0)
})

t.test('migrate, worker, agent and a question run nothing of it', async (t) => {
  const { cwd, ran } = hostile(t)
  const empty = await emptyDatabase(t)
  const migrate = mooring(t, ['migrate'], { databaseUrl: empty.url, cwd })
  t.equal((await migrate.exited).code, 0, migrate.stderr())
  const { url } = await testDatabase(t)
  const worker = mooring(t, ['worker'], { databaseUrl: url, cwd })
  await worker.said('worker_started')
  const state = { MOORING_STATE_DIR: tempDir(t) }
  const agent = mooring(t, ['agent', '--name', 'host-a', ...AS_OWN_USER], {
    databaseUrl: url,
    cwd,
    env: state,
  })
  await agent.said('"registered"')
  const status = mooring(t, ['status'], { databaseUrl: url, cwd })
  t.equal((await status.exited).code, 0, status.stderr())
  t.match(status.stdout(), 'host-a')
  for (const program of [agent, worker]) {
    program.kill('SIGTERM')
    t.equal((await program.exited).code, 0)
  }
  t.same(ran(), [])
})

t.test(
  'a state folder of another user is not believed',
  { skip: process.getuid?.() === 0 ? false : 'only root can give a folder away' },
  async (t) => {
    const { cwd } = hostile(t)
    const planted = join(cwd, '.mooring')
    mkdirSync(planted)
    chownSync(planted, 65534, 65534)
    for (const args of [['status'], ['psql', '-c', 'select 1'], ['up'], ['db', 'up']]) {
      const program = mooring(t, args, { cwd })
      t.not((await program.exited).code, 0, args.join(' '))
      t.match(program.stderr(), /\.mooring belongs to another user \(uid 65534\)/, args.join(' '))
    }
    const { url } = await testDatabase(t)
    const agent = mooring(t, ['agent', '--name', 'host-a', ...AS_OWN_USER], {
      databaseUrl: url,
      cwd,
      env: { MOORING_STATE_DIR: '.mooring' },
    })
    t.not((await agent.exited).code, 0)
    t.match(agent.stderr(), /belongs to another user/)
  },
)

t.test(
  'an agent that cannot make its state folder names it and the option',
  { skip: process.getuid?.() === 0 ? false : 'only root can start it as another user' },
  async (t) => {
    const { url } = await testDatabase(t)
    const agent = mooring(t, ['agent', '--name', 'host-a', '--trust', '^web@'], {
      databaseUrl: url,
      cwd: '/',
      env: { HOME: '/nonexistent', XDG_STATE_HOME: '' },
      user: { uid: 65534, gid: 65534 },
    })
    t.not((await agent.exited).code, 0)
    const said = agent.stderr()
    t.match(said, 'state folder /nonexistent/.local/state/mooring/agents/host-a cannot be made')
    t.match(said, /cannot be made \(EACCES\):.*--state-dir/)
  },
)
