/**
 * Real installs by the real npm, from a registry of the test's own. A stand-in replaces npm only
 * where a request must not reach it; it prints its arguments.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { chmod, lstat, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { dirname, join, relative } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { createNpmInstaller, isWrittenTo } from '../../../agent/packages/npm-install.js'
import type { NpmInstaller } from '../../../agent/packages/npm-install.js'
import { npmEnv } from '../../../agent/packages/npm-command.js'
import type { NpmOptions } from '../../../agent/packages/npm-command.js'
import { resolveEntry } from '../../../agent/packages/entry-point.js'
import { workloadUser } from '../../../agent/workload-user.js'
import { withRunIdPrefix } from '../../../host/process-table.js'
import type { PackageRef } from '../../../syntax/package-reference.js'
import { packageRegistry } from '../../helpers/registry.js'
import { waitFor } from '../../helpers/wait-for.js'
import { silent, temporaryFolder } from '../rig.js'

interface Setup {
  installer: NpmInstaller
  packagesDir: string
  prefix: string
  again(npm?: NpmOptions): NpmInstaller
}

let setups = 0

await packageRegistry(t)

async function setup(t: Test, npm: NpmOptions = {}): Promise<Setup> {
  const packagesDir = join(await temporaryFolder(t), 'packages')
  const prefix = `npm-test-${process.pid}-${++setups}.`
  const again = (options: NpmOptions = npm): NpmInstaller =>
    createNpmInstaller({ packagesDir, runIdPrefix: prefix, log: silent, npm: options })
  return { installer: again(), packagesDir, prefix, again }
}

/** In npm's place: writes its arguments and environment into a file, then does what `body` says. */
async function standIn(
  t: Test,
  body: string,
): Promise<{ path: string; calls: () => Promise<string> }> {
  const folder = await temporaryFolder(t)
  const path = join(folder, 'npm')
  await writeFile(
    path,
    `#!/bin/sh\n(printf '%s\\n' call "$@"; env) >> "${folder}/calls"\n${body}\n`,
  )
  await chmod(path, 0o755)
  return { path, calls: () => readFile(join(folder, 'calls'), 'utf8') }
}

const exact = (name: string, version: string): PackageRef => ({ name, version, kind: 'exact' })
const never = new AbortController().signal
const isNumber = exact('is-number', '7.0.0')

t.test(
  'Y33: concurrent callers share one install of a package, and later calls need no npm',
  async (t) => {
    const { installer, packagesDir, again } = await setup(t)
    t.equal(await installer.find(isNumber), null)
    const [first, second] = await Promise.all([
      installer.install(isNumber, never),
      installer.install(isNumber, never),
    ])
    t.equal(first.packageDir, second.packageDir)
    t.match(await resolveEntry(first.packageDir), { file: join(first.packageDir, 'index.js') })
    t.strictSame(await readdir(packagesDir), ['is-number@7.0.0'], 'nothing temporary is left')

    const without = again({ path: '/no/such/npm' })
    t.ok(await without.find(isNumber))
    t.ok(await without.install(isNumber, never), 'an exact version is never installed twice')
  },
)

t.test(
  'a scoped package gets one folder, and a package with dependencies gets those',
  async (t) => {
    const { installer, packagesDir } = await setup(t)
    const scoped = await installer.install(exact('@isaacs/cliui', '8.0.2'), never)
    t.strictSame(await readdir(packagesDir), ['@isaacs+cliui@8.0.2'])
    t.ok(existsSync(join(scoped.packageDir, '..', '..', 'string-width', 'package.json')))
  },
)

t.test('Y33: a dist-tag is looked up in the registry each time', async (t) => {
  const { installer } = await setup(t)
  const found = await installer.resolveTag(
    { name: 'is-number', version: 'latest', kind: 'tag' },
    never,
  )
  t.match(found, { name: 'is-number', version: /^\d+\.\d+\.\d+$/, kind: 'exact' })
  await t.rejects(
    installer.resolveTag({ name: 'is-number', version: 'no-such-tag', kind: 'tag' }, never),
    {
      name: 'InstallError',
      message: new RegExp(
        'there is no is-number@no-such-tag: ' +
          '`npm view is-number versions dist-tags` lists what there is',
      ),
    },
  )
})

t.test('a version or package that does not exist is named, with the way out', async (t) => {
  const { installer, packagesDir } = await setup(t)
  await t.rejects(installer.install(exact('is-number', '99.0.0'), never), {
    name: 'InstallError',
    message:
      'there is no is-number@99.0.0: `npm view is-number versions dist-tags` lists what there is',
  })
  await t.rejects(installer.install(exact('mooring-no-such-package-a1b2c3', '1.0.0'), never), {
    name: 'InstallError',
    message: /there is no package mooring-no-such-package-a1b2c3 in the registry/,
  })
  t.strictSame(await readdir(packagesDir), [], 'nothing is left that could be taken for an install')
})

t.test('a registry that cannot be reached is said to be that', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  const { installer } = await setup(t, { registry: `http://127.0.0.1:${port}/` })
  await t.rejects(installer.install(isNumber, never), {
    name: 'InstallError',
    message: new RegExp(
      'the npm registry cannot be reached from this host \\(ECONNREFUSED\\) ' +
        'to install is-number@7.0.0',
    ),
  })
})

t.test('defect 11: a failed install is not cached as success', async (t) => {
  const broken = await standIn(
    t,
    'mkdir -p node_modules/is-number; echo "{}" > node_modules/is-number/package.json; exit 1',
  )
  const liar = await standIn(
    t,
    'mkdir -p node_modules/is-number; ' +
      'echo \'{"name":"is-number","version":"6.6.6"}\' > node_modules/is-number/package.json; ' +
      'exit 0',
  )
  const idle = await standIn(t, 'exit 0')
  const { packagesDir, again } = await setup(t)
  await t.rejects(again({ path: broken.path }).install(isNumber, never), {
    message: /npm failed to install is-number@7.0.0 \(code 1\)/,
  })
  await t.rejects(again({ path: liar.path }).install(isNumber, never), {
    message: /asked for is-number@7.0.0 and installed is-number@6.6.6/,
  })
  await t.rejects(again({ path: idle.path }).install(isNumber, never), {
    message: /installed nothing of that name/,
  })
  t.strictSame(await readdir(packagesDir), [])
  t.equal(await again({}).find(isNumber), null)
  t.ok(await again({}).install(isNumber, never), 'the next attempt does it')
})

t.test('a package that something was deleted from is noticed and installed again', async (t) => {
  const { installer } = await setup(t)
  const ref = exact('@isaacs/cliui', '8.0.2')
  const { packageDir } = await installer.install(ref, never)
  const modules = join(packageDir, '..', '..')
  const { file } = await resolveEntry(packageDir)
  for (const lost of [
    file,
    join(packageDir, 'package.json'),
    join(modules, 'string-width'),
    modules,
    join(modules, '..', '.mooring.json'),
  ]) {
    await rm(lost, { recursive: true })
    t.equal(await installer.find(ref), null, lost)
    await installer.install(ref, never)
    t.ok(existsSync(lost), lost)
  }
})

t.test(
  'what a workload wrote or changed beside its package stays when deleted files are put back',
  async (t) => {
    const { installer } = await setup(t)
    const ref = exact('@isaacs/cliui', '8.0.2')
    const { packageDir } = await installer.install(ref, never)
    const folder = join(packageDir, '..', '..', '..')
    await mkdir(join(packageDir, 'data'))
    await writeFile(join(packageDir, 'data', 'positions'), 'long 100')
    await writeFile(join(packageDir, 'LICENSE.txt'), 'mine')
    const { file } = await resolveEntry(packageDir)
    for (const lost of [
      file,
      join(packageDir, 'package.json'),
      join(folder, 'node_modules', 'string-width'),
      join(folder, '.mooring.json'),
    ]) {
      await rm(lost, { recursive: true })
      t.equal(await installer.find(ref), null, lost)
      await installer.install(ref, never)
      t.ok(existsSync(lost), lost)
      t.equal(await readFile(join(packageDir, 'data', 'positions'), 'utf8'), 'long 100')
      t.equal(await readFile(join(packageDir, 'LICENSE.txt'), 'utf8'), 'mine')
      t.ok(await isWrittenTo(folder, never), 'and is not taken for installed')
    }
    t.strictSame(
      await readdir(join(folder, '..')),
      ['@isaacs+cliui@8.0.2'],
      'nothing is left of the installs that mended it',
    )
  },
)

t.test('an install whose last caller aborts is killed, and leaves nothing', async (t) => {
  const slow = await standIn(t, 'trap "" TERM; setsid sleep 1000 & sleep 1000')
  const { installer, packagesDir, prefix } = await setup(t, { path: slow.path })
  const [first, second] = [new AbortController(), new AbortController()]
  const [one, two] = [
    installer.install(isNumber, first.signal),
    installer.install(isNumber, second.signal),
  ]
  const both = Promise.allSettled([one, two])
  await waitFor(() => withRunIdPrefix(prefix).length >= 3, { label: 'npm and what it started run' })
  first.abort(new Error('called off'))
  await t.rejects(one, { message: 'called off' })
  t.ok(withRunIdPrefix(prefix).length >= 3, 'one caller still waits')
  second.abort(new Error('called off'))
  await both
  await waitFor(() => withRunIdPrefix(prefix).length === 0, {
    label: 'npm and what it started are gone',
  })
  await waitFor(() => readdirSync(packagesDir).length === 0, {
    label: 'the private folder is gone',
  })
})

t.test('an install that hangs is given up', async (t) => {
  const slow = await standIn(t, 'sleep 1000')
  const { installer, prefix } = await setup(t, { path: slow.path, timeoutMs: 100 })
  await t.rejects(installer.install(isNumber, never), {
    message: /npm did not finish with is-number@7.0.0 within 0 s/,
  })
  await waitFor(() => withRunIdPrefix(prefix).length === 0, { label: 'npm is gone' })
})

t.test('at most two installs run at a time', async (t) => {
  const folder = await temporaryFolder(t)
  const counting = await standIn(
    t,
    `echo + >> "${folder}/log"; sleep 1; echo - >> "${folder}/log"; exit 1`,
  )
  const { installer } = await setup(t, { path: counting.path })
  await Promise.allSettled(
    ['1.0.0', '2.0.0', '3.0.0', '4.0.0', '5.0.0'].map((version) =>
      installer.install(exact('is-number', version), never),
    ),
  )
  let [now, most] = [0, 0]
  for (const sign of readFileSync(join(folder, 'log'), 'utf8').trim().split('\n'))
    most = Math.max(most, (now += sign === '+' ? 1 : -1))
  t.equal(most, 2, readFileSync(join(folder, 'log'), 'utf8').replaceAll('\n', ' '))
})

t.test('npm is run without scripts, audits and shell, with -- before the package', async (t) => {
  const spy = await standIn(t, 'exit 1')
  const { installer } = await setup(t, { path: spy.path, registry: 'http://registry.invalid/' })
  await t.rejects(installer.install(isNumber, never))
  const calls = await spy.calls()
  for (const flag of [
    'install',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--omit=dev',
    '--registry\nhttp://registry.invalid/',
  ])
    t.ok(calls.includes(`\n${flag}\n`), flag)
  t.ok(calls.includes('\n--\nis-number@7.0.0\n'))
})

t.test("of the agent's environment only what makes a registry reachable gets to npm", async (t) => {
  const harmless = {
    HOME: '/home/a',
    HTTPS_PROXY: 'http://proxy.invalid:1',
    no_proxy: 'localhost',
    NODE_EXTRA_CA_CERTS: '/ca.pem',
    LC_ALL: 'C',
  }
  const env = npmEnv({
    ...harmless,
    PATH: '/bin',
    NODE_OPTIONS: '--require=/evil.js',
    LD_PRELOAD: '/evil.so',
    npm_config_registry: 'http://evil.invalid/',
    npm_lifecycle_event: 'start',
    DATABASE_URL: 'postgres://u:secret@h/d',
    PGPASSWORD: 'secret',
  })
  t.strictSame(env, { ...harmless, PATH: `${dirname(process.execPath)}:/bin` })
})

t.test('install scripts run only where they are allowed', async (t) => {
  const spy = await standIn(t, 'exit 1')
  const { again } = await setup(t)
  await t.rejects(again({ path: spy.path, allowScripts: true }).install(isNumber, never))
  t.match(await spy.calls(), /^--no-ignore-scripts$/m)
})

t.test(
  "an agent of root has npm run as its workloads' user, and the result is not that user's",
  { skip: process.getuid?.() === 0 ? false : 'only root can run npm as another user' },
  async (t) => {
    const user = workloadUser('nobody')
    const { again, packagesDir } = await setup(t)
    await chmod(dirname(packagesDir), 0o711)
    const spy = await standIn(t, 'id -u >&2; id -G >&2; cat .npmrc >&2; exit 1')
    await chmod(dirname(spy.path), 0o777)
    await t.rejects(again({ path: spy.path, user }).install(isNumber, never), {
      message: /: 65534 65534 registry=http/,
    })

    await again({ user }).install(isNumber, never)
    const folder = join(packagesDir, 'is-number@7.0.0')
    t.notOk(existsSync(join(folder, '.npmrc')), 'a token for the registry is gone')
    const entries = await readdir(folder, { recursive: true, withFileTypes: true })
    t.ok(entries.some(({ name }) => name === 'index.js'))
    for (const path of [
      '',
      ...entries.map(({ path, name }) => join(relative(folder, path), name)),
    ]) {
      const { uid, mode } = await lstat(join(folder, path))
      t.equal(uid, 0, path)
      if (path !== '.mooring.json') t.equal(mode & 0o006, 0o004, `${path} can be read by all`)
    }
    t.same(
      (await readdir(packagesDir)).filter((name) => name.startsWith('.tmp')),
      [],
    )

    await rm(folder, { recursive: true })
    await again().install(isNumber, never)
    t.equal((await lstat(folder)).mode & 0o077, 0, 'control: without a user it is closed')
    t.ok(await again({ user }).find(isNumber))
    t.equal((await lstat(folder)).mode & 0o005, 0o005, 'an agent with a user opens it')
  },
)

t.test('what npm says is bounded and holds no credentials', async (t) => {
  const talker = await standIn(
    t,
    'echo "npm error code EWHATEVER"; ' +
      'echo "npm error GET https://user:hunter2@registry.invalid/x"; ' +
      'yes "npm error words" | head -500; exit 1',
  )
  const { installer } = await setup(t, { path: talker.path })
  const error = await installer.install(isNumber, never).then(
    () => null,
    (e: Error) => e,
  )
  t.match(
    error?.message,
    new RegExp(
      '^npm failed to install is-number@7.0.0 \\(EWHATEVER\\): ' +
        'GET https://\\*\\*\\*@registry.invalid/x words words',
    ),
  )
  t.ok(error!.message.length < 620)
})

t.test('a host without npm says so', async (t) => {
  const { installer } = await setup(t, { path: '/no/such/npm' })
  await t.rejects(installer.install(isNumber, never), {
    name: 'InstallError',
    message: /npm was not found/,
  })
})

t.test('what an earlier life left half installed is cleaned up', async (t) => {
  const { installer, packagesDir, again } = await setup(t)
  await installer.install(isNumber, never)
  await mkdir(join(packagesDir, '.tmp-abc', 'node_modules'), { recursive: true })
  again()
  await waitFor(() => !existsSync(join(packagesDir, '.tmp-abc')), {
    label: 'the abandoned folder is gone',
  })
  t.ok((await stat(join(packagesDir, 'is-number@7.0.0'))).isDirectory())
})
