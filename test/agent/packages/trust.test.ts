import t from 'tap'
import { checkTrust } from '../../../agent/packages/trust.js'
import { parsePackageRef } from '../../../syntax/package-reference.js'
import { owned, ownedPackage } from '../rig.js'

const HOSTILE_NAMES = [
  'git+ssh://git@github.com/a/b',
  'user/repo',
  'github:user/repo',
  'http://example.com/x.tgz',
  'file:../x',
  '../x',
  './x',
  '/etc',
  '~/.ssh',
  'a b',
  'x;id',
  '$(id)',
  '`id`',
  'x|y',
  'x&y',
  'x>y',
  'x\ny',
  'x\0y',
  'X',
  '',
  '.',
  '..',
  '.hidden',
  '@',
  '@a',
  '@a/',
  '@/b',
  '@a/b/c',
  '@a/../b',
  'x@npm:y',
  'npm:y',
  'x.tgz',
  'x.tar.gz',
  'аbc',
  'x\u200b',
  'x'.repeat(215),
  '--registry=http://x',
]
const HOSTILE_VERSIONS = [
  'npm:other@1.0.0',
  'git+https://x/y.git',
  'file:/etc',
  'http://x/y.tgz',
  '../x',
  './x',
  '/x',
  'user/repo',
  '^1.0.0',
  '~1.0.0',
  '>=1',
  '1.x',
  '1',
  '1.0',
  'x',
  'X',
  'x.x.x',
  '*',
  '',
  ' ',
  'v1.0.0',
  '1.0.0 || 2.0.0',
  '1.0.0;id',
  '$(id)',
  'next.tgz',
  'a.tar.gz',
  '1.0.0-x.tgz',
  '1.0.0+x.tar',
  '-g',
  '1.0.0\n',
  'lat\0est',
  '01.0.0',
  'a'.repeat(129),
  'workspace:x',
  '=1.0.0',
]

t.test(
  'names and versions that npm would not read as a package of the registry are refused',
  async (t) => {
    for (const name of HOSTILE_NAMES)
      t.match(
        parsePackageRef(name, '1.0.0'),
        { reason: /is not a registry name/ },
        JSON.stringify(name.slice(0, 40)),
      )
    for (const version of HOSTILE_VERSIONS)
      t.match(
        parsePackageRef('x', version),
        { reason: /neither an exact version/ },
        JSON.stringify(version.slice(0, 40)),
      )
  },
)

t.test('exact versions and dist-tags are distinguished', async (t) => {
  for (const version of ['14.1.1', '0.0.0', '1.0.0-beta.1', '1.0.0-rc-2', '1.2.3+build.5'])
    t.match(parsePackageRef('http-server', version), { kind: 'exact', version })
  for (const tag of ['latest', 'next', 'beta.1', 'v', 'release-2024', 'xyz'])
    t.match(parsePackageRef('@acme/web_1.x', tag), { kind: 'tag', name: '@acme/web_1.x' })
})

t.test('what is quoted of a hostile name is printable and short', async (t) => {
  const { reason } = parsePackageRef('\x1b[2J'.repeat(500), '1.0.0') as { reason: string }
  t.notMatch(reason, /\x1b/)
  t.ok(reason.length < 700)
})

t.test('Y32: a package runs only where name@version matches the trust pattern', async (t) => {
  const trust = { trusts: /^http-server@14\./, allowExec: false }
  t.match(checkTrust(ownedPackage('http-server', '14.1.1'), trust), {
    ok: true,
    ref: { name: 'http-server', version: '14.1.1' },
  })
  t.match(checkTrust(ownedPackage('http-server', 'latest'), trust), {
    ok: false,
    reason: 'http-server@latest is not trusted here: this agent trusts ^http-server@14\\.',
  })
  t.match(checkTrust(ownedPackage('http-server', '14.1.1'), { ...trust, trusts: null }), {
    ok: false,
    reason: /trusts no package: start it with --trust/,
  })
})

t.test('a trust pattern with a sticky or global flag decides the same each time', async (t) => {
  const trust = { trusts: /serve/g, allowExec: false }
  for (let i = 0; i < 3; i++)
    t.match(checkTrust(ownedPackage('http-server', '1.0.0'), trust), { ok: true })
})

t.test('a command of its own needs --allow-exec, also beside a trusted package', async (t) => {
  const trust = { trusts: /./, allowExec: false }
  t.match(checkTrust(owned(), trust), { ok: false, reason: /--allow-exec/ })
  t.match(checkTrust(ownedPackage('http-server', '14.1.1', { command: 'sh' }), trust), {
    ok: false,
    reason: /--allow-exec/,
  })
  t.match(checkTrust(owned(), { trusts: null, allowExec: true }), {
    ok: true,
    ref: null,
    command: 'sh',
  })
  t.match(
    checkTrust(ownedPackage('evil', '1.0.0', { command: 'sh' }), {
      trusts: /^http-server@/,
      allowExec: true,
    }),
    { ok: false, reason: /not trusted/ },
  )
})

t.test('so does a trusted package whose env decides which code runs', async (t) => {
  const steered = ownedPackage('http-server', '14.1.1', {
    env: { PORT: '1', NODE_OPTIONS: '--import=secret', LD_PRELOAD: 'secret' },
  })
  const verdict = checkTrust(steered, { trusts: /./, allowExec: false })
  t.match(verdict, { ok: false, reason: /sets LD_PRELOAD, NODE_OPTIONS,.*--allow-exec/ })
  t.notMatch(JSON.stringify(verdict), /secret/, 'no value of env')
  t.match(checkTrust(steered, { trusts: /./, allowExec: true }), { ok: true })
})

t.test('an assignment with neither package nor command is refused with that reason', async (t) => {
  t.match(checkTrust(owned({ command: null }), { trusts: /./, allowExec: true }), {
    ok: false,
    reason: 'it names neither a package nor a command',
  })
})
