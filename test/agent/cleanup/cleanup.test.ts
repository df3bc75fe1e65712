/**
 * Unused items on a host's disk: when they are removed, and what never is.
 * Time is a number that the test sets; the files are real.
 */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { Needed } from '../../../agent/cleanup/needed.js'
import { createCleanup, type Keep } from '../../../agent/cleanup/cleanup.js'
import { mounting, mountTmpfs } from '../../helpers/mount.js'
import { waitFor } from '../../helpers/wait-for.js'
import { heardLog, running, scaleDown, sleeper, testAgent } from '../fleet.js'
import { temporaryFolder } from '../rig.js'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments } from '../../helpers/factories.js'
import { run } from '../../cli/fleet.js'

const DAY = 86_400_000
const NOTHING: Needed = { assignment: () => false, package: () => false }
const everything: Needed = { assignment: () => true, package: () => true }

interface Host {
  folder: string
  now: number
  uses: Needed | null
  life(more?: Partial<Keep>): ReturnType<typeof createCleanup>
  heard: ReturnType<typeof heardLog>
  put(path: string, text?: string): string
  has(path: string): boolean
  left(): string[]
}

async function host(t: Test): Promise<Host> {
  const folder = await temporaryFolder(t)
  const heard = heardLog()
  const on: Host = {
    folder,
    now: 1_000,
    uses: NOTHING,
    heard,
    life: (more) =>
      createCleanup({
        folder,
        node: 'host-a',
        keep: { logsMs: 7 * DAY, packagesMs: 7 * DAY, workMs: null, ...more },
        needed: () => on.uses,
        log: heard.log,
        clock: () => on.now,
      }),
    put(path, text = '') {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), text)
      return join(folder, path)
    },
    has: (path) => existsSync(join(folder, path)),
    left: () =>
      execFileSync('find', ['.', '-type', 'f', '-not', '-name', 'removal-ledger.json'], {
        cwd: folder,
        encoding: 'utf8',
      })
        .split('\n')
        .filter((line) => line !== '')
        .sort(),
  }
  return on
}

const pkg = (on: Host, version: string): void => {
  on.put(`packages/web@${version}/node_modules/web/index.js`, 'run()')
  on.put(`packages/web@${version}/node_modules/.bin/web`)
  on.put(`packages/web@${version}/.mooring.json`, '{"files":[]}')
}

const only = (...ids: string[]): Needed => ({
  assignment: (id) => ids.includes(id),
  package: () => false,
})

t.test(
  'Y38: logs of an assignment that ended here are removed after a week, owned ones never',
  async (t) => {
    const on = await host(t)
    for (const name of [
      '7.log',
      '7.log.1.gz',
      '7.log.2.gz',
      '7.log.tmp',
      '8.log',
      'notes.txt',
      '9.log.bak',
    ])
      on.put(`logs/${name}`, 'words')
    on.uses = only('8')
    const cleanup = on.life()
    await cleanup.runOnce()
    on.now += 7 * DAY - 1
    await cleanup.runOnce()
    t.ok(on.has('logs/7.log'), 'a reader still finds why it ended')
    on.now += 1
    await cleanup.runOnce()
    t.strictSame(
      on.left(),
      ['./logs/8.log', './logs/9.log.bak', './logs/notes.txt'],
      'what the agent did not make it does not touch',
    )
    t.strictSame(
      readdirSync(join(on.folder, 'logs')).filter((name) => name.startsWith('.')),
      [],
    )
    t.match(on.heard.events('cleaned_up'), [{ logs: 1, work: 0, packages: [] }])
    t.match(
      cleanup.whyLogIsGone('7'),
      new RegExp(
        '^the log of assignment 7 on host-a was removed on \\d{4}-.*: it had ended there, ' +
          'and the agent keeps logs only for a while after that \\(--keep-logs\\)$',
      ),
    )
    t.equal(cleanup.whyLogIsGone('8'), null)
  },
)

t.test(
  'the mtime of a file decides nothing: a wrong clock or a quiet workload ages no log',
  async (t) => {
    const on = await host(t)
    utimesSync(on.put('logs/7.log', 'words'), new Date(0), new Date(0))
    const cleanup = on.life()
    await cleanup.runOnce()
    t.ok(on.has('logs/7.log'))
    on.now += 8 * DAY
    // a person, or an agent of an older version, has replaced it
    on.put('logs/7.log', 'other words')
    await cleanup.runOnce()
    t.ok(on.has('logs/7.log'), 'what was written since the last round starts again at 0')
    on.now += 8 * DAY
    await cleanup.runOnce()
    t.notOk(on.has('logs/7.log'))
  },
)

t.test(
  'an item that was needed between two rounds starts again at 0, and no longer counts as removed',
  async (t) => {
    const on = await host(t)
    on.put('logs/7.log')
    on.put('logs/8.log')
    pkg(on, '1.0.0')
    const cleanup = on.life()
    await cleanup.runOnce()
    on.now += 6 * DAY
    on.uses = { ...only('7'), package: (folder) => folder === 'web@1.0.0' }
    cleanup.noteNeeded()
    on.uses = NOTHING
    on.now += 2 * DAY
    await cleanup.runOnce()
    t.strictSame(
      [on.has('logs/7.log'), on.has('packages/web@1.0.0'), on.has('logs/8.log')],
      [true, true, false],
    )
    t.type(cleanup.whyLogIsGone('8'), 'string')
    on.uses = only('8')
    cleanup.noteNeeded()
    t.equal(cleanup.whyLogIsGone('8'), null)
    on.uses = NOTHING
    await cleanup.stop()
    on.now += 6 * DAY
    const next = on.life()
    await next.runOnce()
    on.now += 5 * DAY
    await next.runOnce()
    t.ok(on.has('logs/7.log'), 'and so it does for the next agent')
  },
)

t.test(
  'a restarted agent continues to count, without the time in which no agent ran',
  async (t) => {
    const on = await host(t)
    on.put('logs/7.log')
    const first = on.life()
    await first.runOnce()
    on.now += 5 * DAY
    await first.stop()
    on.now += 100 * DAY
    const second = on.life()
    await second.runOnce()
    t.ok(on.has('logs/7.log'), 'no agent could have used it')
    on.now += 2 * DAY
    await second.runOnce()
    t.notOk(on.has('logs/7.log'))
    await second.stop()
    t.type(on.life().whyLogIsGone('7'), 'string', 'a later agent knows it as well')
  },
)

t.test('a ledger that was cut short resets every age, and makes nothing fail', async (t) => {
  const on = await host(t)
  on.put('logs/7.log')
  for (const text of [
    '{"unused":{"logs/7":{"ms":1e99',
    '{"unused":{"logs/7":null}}',
    '{"unused":{"logs/7":{"ms":-5,"state":7}},"removed":[null]}',
    'null',
    '[]',
  ]) {
    on.put('removal-ledger.json', text)
    await on.life().runOnce()
    t.ok(on.has('logs/7.log'), text)
  }
})

t.test('nothing is removed before it is known what the node owns, nor after a stop', async (t) => {
  const on = await host(t)
  on.put('logs/7.log')
  on.uses = null
  const cleanup = on.life({ logsMs: 0 })
  await cleanup.runOnce()
  t.ok(on.has('logs/7.log'))
  on.uses = NOTHING
  await cleanup.stop()
  await cleanup.runOnce()
  t.ok(on.has('logs/7.log'), "the folder may be another agent's by now")
  await on.life({ logsMs: null }).runOnce()
  t.ok(on.has('logs/7.log'), 'forever')
  await on.life({ logsMs: 0 }).runOnce()
  t.notOk(on.has('logs/7.log'))
})

t.test(
  'Y33: what is placed here during a round keeps its log and package: need is checked last',
  async (t) => {
    const on = await host(t)
    on.put('logs/7.log')
    pkg(on, '1.0.0')
    let asked = 0
    const late = createCleanup({
      folder: on.folder,
      node: 'host-a',
      keep: { logsMs: 0, packagesMs: 0, workMs: 0 },
      needed: () => (++asked <= 2 ? NOTHING : everything),
      log: on.heard.log,
      clock: () => on.now,
    })
    await late.runOnce()
    t.ok(asked > 2)
    t.ok(on.has('logs/7.log'))
    t.ok(on.has('packages/web@1.0.0/node_modules/web/index.js'))
    t.strictSame(on.heard.events('cleaned_up'), [])
  },
)

t.test(
  'Y33: an unused version of a package is removed after a week; installs in progress stay',
  async (t) => {
    const on = await host(t)
    pkg(on, '1.0.0')
    pkg(on, '2.0.0')
    on.put('packages/.tmp-abc/node_modules/web/index.js')
    on.put('packages/by-hand/index.js')
    on.uses = { assignment: () => false, package: (folder) => folder === 'web@2.0.0' }
    const cleanup = on.life()
    await cleanup.runOnce()
    on.now += 7 * DAY
    await cleanup.runOnce()
    t.strictSame(readdirSync(join(on.folder, 'packages')).sort(), [
      '.tmp-abc',
      'by-hand',
      'web@2.0.0',
    ])
    t.match(on.heard.events('cleaned_up'), [{ packages: ['web@1.0.0'] }])
  },
)

t.test(
  'Y34: what a workload wrote into its package stays, logged once; a cache does not count',
  async (t) => {
    const on = await host(t)
    for (const version of ['1.0.0', '2.0.0', '3.0.0']) pkg(on, version)
    on.put('packages/web@3.0.0/node_modules/web/index.js', 'without an inventory it is unknown')
    execFileSync('rm', [join(on.folder, 'packages', 'web@3.0.0', '.mooring.json')])
    // the file system counts time in steps of some milliseconds
    await waitFor(
      () => {
        on.put('packages/web@2.0.0/node_modules/.cache/x')
        const data = on.put('packages/web@1.0.0/node_modules/web/data/users.db', 'users')
        // tar and cp -p set this one back
        utimesSync(data, new Date(0), new Date(0))
        return (
          execFileSync('find', ['-newercc', '../../../.mooring.json', '-name', 'users.db'], {
            cwd: join(data, '..'),
            encoding: 'utf8',
          }) !== ''
        )
      },
      { label: 'it is younger than the install' },
    )
    const cleanup = on.life({ packagesMs: 0 })
    await cleanup.runOnce()
    await cleanup.runOnce()
    t.strictSame(readdirSync(join(on.folder, 'packages')).sort(), ['web@1.0.0', 'web@3.0.0'])
    t.equal(
      readFileSync(join(on.folder, 'packages/web@1.0.0/node_modules/web/data/users.db'), 'utf8'),
      'users',
    )
    t.match(
      on.heard
        .events('package_kept')
        .map((line) => line['package'])
        .sort(),
      ['web@1.0.0', 'web@3.0.0'],
    )
  },
)

t.test('what a command left in its work folder stays, except with --keep-work', async (t) => {
  const on = await host(t)
  on.put('work/7/data')
  on.put('work/8/data')
  on.uses = only('8')
  const week = on.life()
  await week.runOnce()
  on.now += 365 * DAY
  await week.runOnce()
  t.ok(on.has('work/7/data'))
  await on.life({ workMs: 0 }).runOnce()
  t.strictSame(readdirSync(join(on.folder, 'work')), ['8'])
})

t.test(
  'an agent that was killed while it removed leaves nothing for good: the next one goes on',
  async (t) => {
    const on = await host(t)
    on.put('logs/.gone-1/7.log')
    on.put('packages/.gone-2/web@1.0.0/node_modules/web/index.js')
    execFileSync('chmod', ['-R', 'a-w', join(on.folder, 'packages/.gone-2/web@1.0.0')])
    // the oldest parts had gone already
    on.put('logs/8.log')
    on.put('logs/8.log.1.gz')
    await on.life({ logsMs: 0 }).runOnce()
    t.strictSame(on.left(), [])
    t.strictSame(on.heard.events('cleanup_failed'), [])
  },
)

t.test('unused items are removed also on a full disk', mounting, async (t) => {
  const on = await host(t)
  mountTmpfs(t, on.folder, '-o', 'nr_inodes=40')
  pkg(on, '1.0.0')
  for (const path of ['logs/7.log', 'logs/7.log.1.gz', 'work/7/data']) on.put(path, 'words')
  for (let nr = 0, full = false; !full; nr += 1) {
    try {
      on.put(`other/${nr}`)
    } catch (error) {
      full = (error as NodeJS.ErrnoException).code === 'ENOSPC'
      if (!full) throw error
    }
  }
  await on.life({ logsMs: 0, packagesMs: 0, workMs: 0 }).runOnce()
  t.strictSame(
    on.left().filter((path) => !path.startsWith('./other/')),
    [],
  )
})

t.test(
  'a volume mounted in an unused folder is not emptied: the folder stays, logged once',
  mounting,
  async (t) => {
    const on = await host(t)
    const volume = join(on.folder, 'work/7/a volume')
    mountTmpfs(t, volume, '-o', 'nr_inodes=40')
    on.put('work/7/a volume/positions', 'long 100')
    on.put('work/8/data')
    const cleanup = on.life({ workMs: 0 })
    await cleanup.runOnce()
    await cleanup.runOnce()
    t.strictSame(on.left(), ['./work/7/a volume/positions'])
    t.match(on.heard.events('folder_kept'), [{ what: 'work/7' }])
  },
)

t.test('one file that cannot be deleted keeps nothing else', mounting, async (t) => {
  const on = await host(t)
  mountTmpfs(t, join(on.folder, 'work/.gone-1/a'), '-o', 'nr_inodes=40')
  on.put('work/.gone-1/b')
  on.put('work/.gone-1/c/d')
  await on.life({ workMs: 0 }).runOnce()
  t.strictSame(readdirSync(join(on.folder, 'work/.gone-1')), ['a'])
  t.equal(on.heard.events('cleanup_failed').length, 1)
})

t.test(
  'Y38, Y39: with --keep-logs 0 the log of deleted work goes, and readers learn why',
  async (t) => {
    const { sql, url } = await testDatabase(t)
    await scaleDown(sql)
    const { agent, stateDir, text } = testAgent(t, url, { keepLogsMs: 0 })
    await agent.start()
    const going = await sleeper(sql, { command: 'sh', args: ['-c', 'echo words; exec sleep 1000'] })
    const staying = await sleeper(sql, {
      command: 'sh',
      args: ['-c', 'echo words; exec sleep 1000'],
    })
    await sql`select count(*) from mooring.claim()`
    await running(sql, 2)
    const [gone, stays] = await Promise.all(
      [going, staying].map(async (id) => (await assignments(sql, id))[0]!.id),
    )
    const logOf = (id: string): string => join(stateDir, 'agents', 'host-a', 'logs', `${id}.log`)
    await waitFor(
      () =>
        [gone!, stays!].every(
          (id) => existsSync(logOf(id)) && readFileSync(logOf(id), 'utf8') === 'words\n',
        ),
      { label: 'both have written' },
    )
    await sql`delete from mooring.deployment where id = ${going}`
    await waitFor(() => !existsSync(logOf(gone!)), { label: 'its log is removed', show: text })
    t.ok(existsSync(logOf(stays!)))
    for (const state of [stateDir, await temporaryFolder(t)]) {
      const { code, stderr } = await run(t, { url, state }, ['logs', gone!])
      t.equal(code, 1)
      t.match(
        stderr,
        new RegExp(
          `^error: the log of assignment ${gone} on host-a was removed on .*--keep-logs.*` +
            `\nhint: .mooring history ${gone}. shows its other nodes`,
        ),
        state === stateDir ? 'from the file' : 'asked',
      )
    }
    t.match(
      await sql.unsafe(`call mooring.show_log(${gone})`).then(
        () => null,
        (error: unknown) => error,
      ),
      { code: 'MR006', message: /was removed on/ },
    )
  },
)
