/** Assignments that run npm packages: real installs, real processes. */
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { runIdPrefix } from '../../../state-folder/process-files.js'
import { withRunIdPrefix } from '../../../host/process-table.js'
import { packageRegistry } from '../../helpers/registry.js'
import { waitFor } from '../../helpers/wait-for.js'
import { ownedPackage, printed, rig, temporaryFolder } from '../rig.js'

await packageRegistry(t)

const may = { mayStart: true }
const mayNot = { mayStart: false }

/** The real npm, with its verbs written down; `body` comes before it. */
async function watchedNpm(
  t: Test,
  body = '',
): Promise<{ path: string; folder: string; verbs(): Promise<string[]> }> {
  const folder = await temporaryFolder(t)
  const real = execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim()
  const path = join(folder, 'npm')
  await writeFile(path, `#!/bin/sh\necho "$1" >> "${folder}/verbs"\n${body}\nexec "${real}" "$@"\n`)
  await chmod(path, 0o755)
  return {
    path,
    folder,
    verbs: async () =>
      (await readFile(join(folder, 'verbs'), 'utf8').catch(() => '')).trim().split('\n'),
  }
}

t.test('Y34: a package is installed, its bin is run with the args, and it stops', async (t) => {
  const r = await rig(t, { trusts: /^http-server@/ })
  const [a, b] = [
    ownedPackage('http-server', '14.1.1', { args: ['--port', '0', '-a', '127.0.0.1', '.'] }),
    ownedPackage('http-server', '14.1.1', { args: ['--port', '0', '-a', '127.0.0.1'] }),
  ]
  r.supervisor.reconcile([a, b], may)
  await Promise.all([r.reached(a, 'running'), r.reached(b, 'running')])
  t.strictSame(r.states(a), ['installing', 'running'])
  await waitFor(() => /Starting up http-server, serving/.test(r.logText(a)), {
    label: 'it says that it serves',
    show: () => r.logText(a),
  })
  t.strictSame(
    readdirSync(join(r.stateDir, 'packages')),
    ['http-server@14.1.1'],
    'both share one folder',
  )
  r.supervisor.reconcile(
    [
      { ...a, wanted: 'stop' },
      { ...b, wanted: 'stop' },
    ],
    may,
  )
  await Promise.all([r.reached(a, 'stopped'), r.reached(b, 'stopped')])

  const third = ownedPackage('http-server', '14.1.1')
  r.supervisor.reconcile([third], may)
  await r.reached(third, 'running')
  t.strictSame(r.states(third), ['running'], 'what is there is not installed again')
})

t.test(
  'Y34: a command beside a package runs in the package folder, with its bins on the PATH',
  async (t) => {
    const r = await rig(t)
    const a = ownedPackage('http-server', '14.1.1', {
      command: 'sh',
      args: ['-c', 'http-server --version; pwd; echo done=1; sleep 1000'],
    })
    r.supervisor.reconcile([a], may)
    await printed(r, a, 'done')
    t.match(
      r.logText(a),
      /^v14\.1\.1\n.*\/packages\/http-server@14\.1\.1\/node_modules\/http-server\n/,
    )
  },
)

t.test(
  'what cannot be installed or run is failed with the way out, and is tried again',
  async (t) => {
    const r = await rig(t)
    const missing = ownedPackage('is-number', '99.0.0')
    const library = ownedPackage('@types/ms', '2.1.0')
    r.supervisor.reconcile([missing, library], may)
    t.match(await r.reached(missing, 'failed'), {
      error:
        /there is no is-number@99.0.0: `npm view is-number versions dist-tags` lists what there is/,
      next_start_in_ms: 40,
    })
    t.match(await r.reached(library, 'failed'), {
      error: /@types\/ms@2.1.0 has neither a bin nor a main/,
    })
    await waitFor(() => r.states(missing).filter((state) => state === 'failed').length > 1, {
      label: 'it is tried again',
    })
  },
)

t.test('latest is looked up at a new start, not when it crashed', async (t) => {
  const npm = await watchedNpm(t)
  const r = await rig(t, { npm: { path: npm.path } })
  // Has a main that ends at once.
  const a = ownedPackage('is-number', 'latest')
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff', { restarts: 3, exit_code: 0 })
  t.strictSame(await npm.verbs(), ['view', 'install'])
  r.supervisor.reconcile([{ ...a, generation: '2' }], may)
  await r.reached(a, 'backoff', { generation: '2' })
  t.strictSame(
    await npm.verbs(),
    ['view', 'install', 'view'],
    'and what it means is not installed twice',
  )
})

t.test(
  'a package that lost its files while it ran is installed again when it crashes',
  async (t) => {
    const npm = await watchedNpm(t)
    const r = await rig(t, { npm: { path: npm.path } })
    const a = ownedPackage('is-number', '7.0.0')
    r.supervisor.reconcile([a], may)
    await r.reached(a, 'backoff')
    execFileSync('rm', [
      join(r.stateDir, 'packages', 'is-number@7.0.0', 'node_modules', 'is-number', 'index.js'),
    ])
    await waitFor(async () => (await npm.verbs()).length === 2, { label: 'it is installed again' })
    await waitFor(
      () =>
        existsSync(
          join(r.stateDir, 'packages', 'is-number@7.0.0', 'node_modules', 'is-number', 'index.js'),
        ),
      { label: 'the file is back' },
    )
  },
)

t.test('an assignment that is stopped while it is being installed takes npm with it', async (t) => {
  const npm = await watchedNpm(t, 'sleep 1000')
  const r = await rig(t, { npm: { path: npm.path } })
  const a = ownedPackage('is-number', '7.0.0')
  r.supervisor.reconcile([a], may)
  await waitFor(async () => (await npm.verbs())[0] === 'install', { label: 'npm runs' })
  r.supervisor.reconcile([{ ...a, wanted: 'stop' }], may)
  t.strictSame(r.states(a), ['installing', 'stopped'])
  await waitFor(() => withRunIdPrefix(runIdPrefix(r.stateDir)).length === 0, {
    label: 'npm is gone',
  })
})

t.test('a fence, and the end of the agent, call an install off', async (t) => {
  const npm = await watchedNpm(t, 'sleep 1000')
  const r = await rig(t, { npm: { path: npm.path } })
  const [a, b] = [ownedPackage('is-number', '7.0.0'), ownedPackage('is-number', '6.0.0')]
  r.supervisor.reconcile([a, b], may)
  await waitFor(async () => (await npm.verbs()).length === 2, { label: 'npm runs twice' })
  r.supervisor.fence([a.assignment_id], 100)
  t.match(r.last(a), { state: 'stopped', error: 'fenced: lease ended' })
  await r.supervisor.stopAll()
  t.equal(r.last(b)?.state, 'stopped')
  await waitFor(() => withRunIdPrefix(runIdPrefix(r.stateDir)).length === 0, {
    label: 'npm is gone',
  })
})

t.test('an install that ends in a hold is not started before the hold is over', async (t) => {
  const npm = await watchedNpm(t)
  const r = await rig(t, { npm: { path: npm.path } })
  const a = ownedPackage('http-server', '14.1.1')
  r.supervisor.reconcile([a], may)
  r.supervisor.reconcile([a], mayNot)
  await waitFor(() => existsSync(join(r.stateDir, 'packages', 'http-server@14.1.1')), {
    label: 'it is installed',
    timeoutMs: 60_000,
  })
  // Several turns of the event loop and reads of the disk later than a start would take.
  for (let i = 0; i < 20; i++) await readFile('/proc/self/stat')
  t.strictSame(r.states(a), ['installing'])
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'running')
})

t.test('an edit during an install starts what is wanted last', async (t) => {
  const r = await rig(t)
  const a = ownedPackage('is-number', '7.0.0')
  r.supervisor.reconcile([a], may)
  const edited = ownedPackage('http-server', '14.1.1', {
    assignment_id: a.assignment_id,
    generation: '2',
  })
  r.supervisor.reconcile([edited], may)
  await r.reached(a, 'running')
  t.strictSame(
    r.reports.filter((report) => report.state === 'running').map((report) => report.generation),
    ['2'],
  )
})
