/**
 * PID namespaces: which ones are ready, what becomes of them, and what a workload finds in one.
 * Skipped on a host without them.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { childrenOf, withRunIdPrefix, readProcess } from '../../../host/process-table.js'
import { createNamespace } from '../../../agent/warden/namespace.js'
import type { Namespace } from '../../../agent/warden/namespace.js'
import { readMounts } from '../../../host/mounts.js'
import { NAMESPACES_READY, createNamespacePool } from '../../../agent/warden/namespace-pool.js'
import type { NamespacePool } from '../../../agent/warden/namespace-pool.js'
import { detectContainment } from '../../../agent/warden/containment.js'
import { createDeadMan } from '../../../agent/warden/dead-man.js'
import { startInNamespace } from '../../../agent/warden/spawn.js'
import type { ProcessHandle } from '../../../agent/warden/spawn.js'
import { mounting, mountTmpfs } from '../../helpers/mount.js'
import { waitFor } from '../../helpers/wait-for.js'
import { temporaryFolder } from '../rig.js'

const { level, wrapper } = detectContainment()
const skip = level === 'pid-namespace' ? false : 'no PID namespace can be made here'
let tests = 0

interface Kit {
  namespaces: NamespacePool
  made: Namespace[]
  /** Until so many stand. */
  ready(count?: number): Promise<void>
  run(
    argv: readonly string[],
    more?: { cwd?: string; env?: Record<string, string>; logFile?: string },
  ): ProcessHandle
}

/** Does not read the mounts of this host, because another test may be mounting. */
function kit(
  t: Test,
  options: Parameters<typeof createNamespacePool>[1] = {},
  wrapperOf: (nr: number) => readonly string[] = () => wrapper,
): Kit {
  const prefix = `namespaces-test-${process.pid}-${++tests}.`
  const made: Namespace[] = []
  let runs = 0
  const namespaces = createNamespacePool(
    () => {
      made.push(createNamespace(wrapperOf(made.length), `${prefix}warden`))
      return made.at(-1)!
    },
    { mounts: () => '', ...options },
  )
  t.teardown(async () => {
    namespaces.close()
    for (const namespace of made) namespace.kill()
    await Promise.all(made.map((namespace) => namespace.ended))
    await waitFor(() => withRunIdPrefix(prefix).length === 0, { label: 'nothing is left' })
  })
  return {
    namespaces,
    made,
    async ready(count = NAMESPACES_READY) {
      await waitFor(() => made.filter(standing).length === count, {
        label: `${count} namespaces stand`,
      })
    },
    run: (argv, more = {}) =>
      startInNamespace(
        {
          argv,
          cwd: '/',
          env: { PATH: process.env['PATH']! },
          runId: `${prefix}${++runs}`,
          logFile: null,
          ...more,
        },
        namespaces.take,
      ),
  }
}

/** By us, by a shell that is bash, by tap into all that a test starts. */
const ADDED = /^(MOORING_RUN|_|NODE_OPTIONS|_TAPJS\w*)=/

const standing = (namespace: Namespace): boolean => namespace.isReady() && namespace.isAlive()
const namespaceOf = (pid: number): string => readlinkSync(`/proc/${pid}/ns/pid`)

t.test('namespace pool', { skip }, async (t) => {
  t.test('a start takes one that is ready, and another takes its place', async (t) => {
    const { made, ready, run } = kit(t)
    await ready()
    const process = run(['sleep', '1000'])
    t.equal(process.root!.pid, made[0]!.root.pid)
    t.equal(made.length, NAMESPACES_READY, 'nothing was made for it')
    await process.started
    await waitFor(() => made.length === NAMESPACES_READY + 1, { label: 'the next is made' })
  })

  t.test(
    'more starts than are ready: each has its own namespace, and later as many are ready as before',
    async (t) => {
      const { made, ready, run } = kit(t)
      await ready()
      const processes = Array.from({ length: 5 }, () => run(['sleep', '1000']))
      const started = await Promise.all(processes.map((each) => each.started))
      t.equal(new Set(started.map((each) => namespaceOf(each!.pid))).size, 5)
      t.notOk(started.some((each) => namespaceOf(each!.pid) === namespaceOf(process.pid)))
      await waitFor(() => made.length === 5 + NAMESPACES_READY, {
        label: 'as many as before are ready',
      })
      await waitFor(() => made.every(standing), { label: 'all are ready' })
    },
  )

  t.test('one is used once: it ends with its workload', async (t) => {
    const { made, ready, run } = kit(t)
    await ready()
    const process = run(['true'])
    t.match(await process.exit, { code: 0 })
    await process.close()
    t.notOk(made[0]!.isAlive())
    t.not(run(['true']).root!.pid, process.root!.pid)
  })

  t.test('one that was killed is not used, and is replaced', async (t) => {
    for (const victim of ['init', 'root'] as const) {
      const { made, ready, run } = kit(t)
      await ready()
      const victims = made.map((namespace) =>
        victim === 'init' ? childrenOf(namespace.root.pid)[0]! : namespace.root.pid,
      )
      for (const pid of victims) process.kill(pid, 'SIGKILL')
      // in the same turn, so no event has reported it yet
      while (victims.some((pid) => readProcess(pid) !== null));
      t.match(await run(['sh', '-c', 'exit 3']).exit, { code: 3, error: null }, victim)
      await ready(NAMESPACES_READY + 1)
    }
  })

  t.test('one that was killed is replaced, also where nothing is started', async (t) => {
    const { made, ready } = kit(t)
    await ready()
    process.kill(made[0]!.root.pid, 'SIGKILL')
    await made[0]!.ended
    await ready()
    t.equal(made.length, NAMESPACES_READY + 1)
  })

  t.test(
    'where none is ready a start makes its own; one in the making stays in the pool',
    async (t) => {
      const { made, run } = kit(t, { ready: 1 }, (nr) => (nr === 0 ? ['sleep', '1000'] : wrapper))
      await waitFor(() => made.length === 1, {
        label: 'the first is being made, and never gets ready',
      })
      t.match(await run(['sh', '-c', 'exit 4']).exit, { code: 4 })
      t.ok(made[0]!.isAlive())
      t.equal(made.length, 2)
    },
  )

  t.test(
    'where none can be made the start fails with that reason, and the pool tries again',
    async (t) => {
      let tries = 0
      const broken = createNamespacePool(() => {
        tries++
        throw Object.assign(new Error(), { code: 'EAGAIN' })
      })
      t.teardown(broken.close)
      await waitFor(() => tries >= 2, { label: 'it is tried again' })
      const { exit } = startInNamespace(
        {
          argv: ['true'],
          cwd: '/',
          env: { PATH: process.env['PATH']! },
          runId: 'x',
          logFile: null,
        },
        broken.take,
      )
      t.match(await exit, {
        error: 'cannot start: this host has no room for another process now (EAGAIN)',
      })
      const refused = startInNamespace(
        {
          argv: ['true'],
          cwd: '/',
          env: { PATH: process.env['PATH']! },
          runId: 'x',
          logFile: null,
        },
        () => createNamespace([...wrapper.slice(0, 4), 'sh', '-c', 'exit 7'], 'x'),
      )
      t.equal(await refused.started, null)
      t.match(await refused.exit, {
        error: /cannot start: its PID namespace could not be made \(unshare ended with 7\)/,
      })
    },
  )

  t.test('what init cannot make ready is no start', async (t) => {
    const { run } = kit(t)
    const process = run(['true'], { logFile: '/no/such/folder/log' })
    t.equal(await process.started, null)
    t.match(await process.exit, { error: /^cannot start: .*log/ })
  })

  t.test(
    'a file system that was mounted since is there for the workload, private or not',
    mounting,
    async (t) => {
      const { ready, run } = kit(t, { mounts: readMounts })
      const folder = await temporaryFolder(t)
      await ready()
      mountTmpfs(t, folder, '--make-private')
      writeFileSync(join(folder, 'file'), '')
      const process = run(['test', '-e', 'file'], { cwd: folder })
      t.match(await process.exit, { code: 0 })
    },
  )

  t.test('the mounts of the host are looked at for each start', async (t) => {
    let mounts = 'before'
    const { made, ready, run } = kit(t, { mounts: () => mounts })
    await ready()
    mounts = 'after'
    const process = run(['sleep', '1000'])
    t.notOk(
      made.slice(0, NAMESPACES_READY).some((namespace) => namespace.root.pid === process.root!.pid),
    )
    await waitFor(() => made.filter(standing).length === NAMESPACES_READY + 1, {
      label: 'the earlier ones are gone, and replaced',
    })
  })

  t.test('it ends when its maker is killed, also where PDEATHSIG was set too late', async (t) => {
    const runId = `namespaces-test-${process.pid}-${++tests}.`
    for (const [argv, what] of [
      [wrapper, 'with PDEATHSIG'],
      [wrapper.slice(4), 'without'],
    ] as const) {
      const script = `
          const child = require('node:child_process').spawn(
            ${JSON.stringify(argv[0])},
            ${JSON.stringify(argv.slice(1))},
            {
              detached: true,
              cwd: '/',
              stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
              env: { MOORING_RUN: ${JSON.stringify(runId)} },
            },
          )
          child.stdin.write('echo ready >&3\\n')
          child.stdio[3].on('data', () => console.log('ready'))
          setInterval(() => {}, 1000)`
      const maker = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, '-e', script], {
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      await new Promise((resolve) => maker.stdout.once('data', resolve))
      t.ok(withRunIdPrefix(runId).length >= 2, what)
      maker.kill('SIGKILL')
      await waitFor(() => withRunIdPrefix(runId).length === 0, {
        label: `nothing of it is left, ${what}`,
      })
    }
  })

  t.test(
    'the dead-man timer takes a workload that was put into a ready one, whatever it forked',
    async (t) => {
      const { ready, run } = kit(t)
      const folder = await temporaryFolder(t)
      await ready()
      const rude = run(
        [
          'sh',
          '-c',
          'trap "" TERM; ' +
            'setsid -f sh -c \'trap "" TERM; : > stands; while :; do sleep 0.02; done\'; ' +
            'while :; do sleep 0.02; done',
        ],
        { cwd: folder },
      )
      await waitFor(() => existsSync(join(folder, 'stands')), { label: 'the grandchild stands' })
      const deadMan = createDeadMan()
      deadMan.arm([{ ...rude.root!, inMs: 20 }])
      t.match(await rude.exit, { signal: 'SIGKILL' })
      await waitFor(() => !rude.treeAlive(), { label: 'all of it is dead' })
      deadMan.arm([])
    },
  )

  t.test('what a workload finds', async (t) => {
    const { run, ready } = kit(t)
    const folder = await temporaryFolder(t)
    const logFile = join(folder, 'log')
    const said = async (
      argv: readonly string[],
      more: Parameters<Kit['run']>[1] = {},
    ): Promise<string> => {
      writeFileSync(logFile, '')
      await ready()
      const process = run(argv, { logFile, ...more })
      t.match(await process.exit, { error: null })
      await process.close()
      return readFileSync(logFile, 'utf8')
    }

    t.test(
      'its environment is complete and nothing but its own, whatever the names and values are',
      async (t) => {
        const env = {
          PATH: process.env['PATH']!,
          EMPTY: '',
          QUOTES: `'"'\\''$HOME\`id\`!`,
          LINES: 'a\nb\r\n\tc\n',
          BYTES: 'ä€😀\u0081\u0088\u00ff',
          SPACES: '  a  *  ',
          IFS: ':/',
          PS4: '$(touch pwned)',
          ENV: '/dev/zero',
          CDPATH: '/',
          PWD: '/elsewhere',
          OPTIND: 'x',
          LINENO: 'y',
          UID: '7',
          PPID: '8',
          BASH_ENV: '/nowhere',
          RANDOM: '9',
          SECONDS: 'z',
          'a.b-c': 'dotted',
          LC_ALL: 'C.UTF-8',
          NUL: '\u0001',
        }
        const found = (await said(['cat', '/proc/self/environ'], { env, cwd: folder }))
          .split('\0')
          .filter((entry) => entry !== '' && !ADDED.test(entry))
        t.strictSame(
          found.sort(),
          Object.entries(env)
            .map(([name, value]) => `${name}=${value}`)
            .sort(),
        )
        t.notOk(existsSync(join(folder, 'pwned')))
      },
    )

    t.test('its arguments are what they were', async (t) => {
      const args = [
        '',
        ' ',
        '-n',
        "'",
        '"',
        '$HOME `id` \\',
        'a\nb',
        '#',
        ';',
        '€',
        '*',
        '~',
        '--',
        '!!',
        '{a,b}',
        '&&',
      ]
      t.equal(await said(['printf', '%s\\0', ...args]), args.map((arg) => `${arg}\0`).join(''))
    })

    t.test("its folder is the host's and not unreachable, also with an odd name", async (t) => {
      const odd = join(folder, "-a 'b'\n$c")
      mkdirSync(odd)
      t.equal(await said(['pwd', '-P'], { cwd: odd }), `${odd}\n`)
      t.equal(await said(['readlink', '/proc/self/cwd'], { cwd: odd }), `${odd}\n`)
    })

    t.test('three descriptors: nothing to read, and its log', async (t) => {
      const fds = await said([
        'readlink',
        ...Array.from({ length: 20 }, (_, fd) => `/proc/self/fd/${fd}`),
      ])
      t.strictSame(fds.trim().split('\n'), ['/dev/null', logFile, logFile])
    })

    t.test('it is not PID 1, cannot see the host, and what it orphans is reaped', async (t) => {
      const found = (
        await said([
          'sh',
          '-c',
          'echo $$; ls -d /proc/[0-9]*; ' +
            'orphan=$(sh -c "sleep 0.05 >/dev/null & echo \\$!"); ' +
            'while [ -e /proc/$orphan ]; do sleep 0.01; done; echo reaped',
        ])
      )
        .trim()
        .split('\n')
      t.ok(Number(found[0]) > 1)
      t.ok(found.length <= 6, found.join(' '))
      t.equal(found.at(-1), 'reaped')
    })

    t.test('it has no more rights than the process that started it', async (t) => {
      const own = /^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'latin1'))![1]
      const its = /^CapEff:\s*(\w+)/m.exec(await said(['cat', '/proc/self/status']))![1]
      t.equal(its, process.getuid!() === 0 ? own : '0000000000000000')
    })

    t.test('what exec would refuse for its size is reported as such', async (t) => {
      t.match(await run(['true', 'x'.repeat(128 * 1024)]).exit, { error: /E2BIG/ })
      t.match(await run(['true', ...Array.from({ length: 70 }, () => 'x'.repeat(100_000))]).exit, {
        error: /E2BIG/,
      })
      t.match(
        await run([
          'true',
          'x'.repeat(128 * 1024 - 1),
          ...Array.from({ length: 10 }, () => 'x'.repeat(100_000)),
        ]).exit,
        { code: 0 },
        'and what it takes is not refused',
      )
    })
    t.end()
  })
})
