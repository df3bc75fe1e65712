/** What of the disk is needed: asked of a real supervisor with real installs. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createSupervisor } from '../../../agent/supervisor/supervisor.js'
import { createCleanup } from '../../../agent/cleanup/cleanup.js'
import { packageRegistry } from '../../helpers/registry.js'
import { waitFor } from '../../helpers/wait-for.js'
import { heardLog } from '../fleet.js'
import { ownedPackage, rig, temporaryFolder } from '../rig.js'

await packageRegistry(t)

t.test(
  'Y42: what still runs or ends here needs its package; the version of a tag is not guessed',
  async (t) => {
    const r = await rig(t)
    const a = ownedPackage('http-server', '14.1.1', {
      command: 'sh',
      args: ['-c', 'trap "" TERM; echo up; sleep 1000 & wait; sleep 1000'],
      stop_grace_ms: 60_000,
    })
    const tagged = ownedPackage('is-number', 'latest')
    const asked = (): boolean[] =>
      ['http-server@14.1.1', 'http-server@14.1.0', 'is-number@7.0.0', '@scope+is-number@7.0.0'].map(
        (folder) => r.supervisor.needed([a, tagged]).package(folder),
      )
    t.strictSame(asked(), [true, false, true, false], 'not begun yet')
    r.supervisor.reconcile([a], { mayStart: true })
    t.ok(r.supervisor.needed([a]).package('http-server@14.1.1'), 'being installed')
    await r.reached(a, 'running')
    await waitFor(() => r.logText(a).includes('up'), { label: 'it does not mind SIGTERM' })
    t.strictSame(asked(), [true, false, true, false])
    r.supervisor.reconcile([], { mayStart: true })
    t.equal(r.last(a)?.state, 'stopping')
    t.strictSame(
      [
        r.supervisor.needed([]).package('http-server@14.1.1'),
        r.supervisor.needed([]).assignment(a.assignment_id),
      ],
      [true, true],
    )
    r.supervisor.killAll()
    await r.reached(a, 'stopped')
    t.strictSame(
      [
        r.supervisor.needed([]).package('http-server@14.1.1'),
        r.supervisor.needed([]).assignment(a.assignment_id),
      ],
      [false, false],
    )
  },
)

t.test(
  'Y33: repeated starts never find half a package while unused ones are removed at once',
  async (t) => {
    const r = await rig(t)
    let owned: ReturnType<typeof ownedPackage>[] = []
    const cleanup = createCleanup({
      folder: r.stateDir,
      node: 'host-a',
      keep: { logsMs: 0, packagesMs: 0, workMs: 0 },
      needed: () => r.supervisor.needed(owned),
      log: heardLog().log,
    })
    let done = false
    const looking = (async () => {
      while (!done) await cleanup.runOnce()
    })()
    for (let turn = 0; turn < 4; turn++) {
      // has a main that ends at once, and is started again as long as it is owned
      owned = [ownedPackage('is-number', '7.0.0')]
      r.supervisor.reconcile(owned, { mayStart: true })
      await r.reached(owned[0]!, 'backoff', { restarts: 2, exit_code: 0 })
      const [ended] = owned.splice(0)
      r.supervisor.reconcile([], { mayStart: true })
      await r.reached(ended!, 'stopped')
      if (turn % 2 === 0)
        await waitFor(() => readdirSync(join(r.stateDir, 'packages')).length === 0, {
          label: 'nothing is left of the package',
        })
    }
    done = true
    await looking
    t.strictSame(
      r.reports.filter(({ state, exit_code }) => state === 'failed' || (exit_code ?? 0) !== 0),
      [],
    )
  },
)

t.test(
  'the package of an inherited instance is known only while its row is unchanged',
  async (t) => {
    const a = ownedPackage('http-server', '14.1.1')
    const inherited = [
      {
        runId: 'inherited',
        about: {
          assignment_id: a.assignment_id,
          epoch: '1',
          generation: '1',
          stop_grace_ms: 1_000,
          leased: true,
          restarts: 0,
        },
        pid: () => 99,
        rootPid: () => 98,
        started: Promise.resolve({ pid: 99, startTicks: 1 }),
        startedAtMs: 0,
        exit: new Promise<never>(() => {}),
        gone: new Promise<never>(() => {}),
        fenced: new Promise<never>(() => {}),
        end() {},
      },
    ]
    const stateDir = await temporaryFolder(t)
    const host = {
      start() {
        throw new Error('nothing is started here')
      },
      runIdPrefix: 'x.',
    }
    const supervisor = createSupervisor({
      owner: 'test.1.host-a',
      node: 'host-a',
      stateDir,
      user: null,
      runner: host,
      inherited,
      trusts: /./,
      allowExec: true,
      allowScripts: false,
      log: heardLog().log,
      report() {},
    })
    t.teardown(() => supervisor.detach())
    t.ok(supervisor.needed([a]).package('anything@1.0.0'), 'before the first reconcile')
    supervisor.reconcile([a], { mayStart: true })
    t.strictSame(['http-server@14.1.1', 'anything@1.0.0'].map(supervisor.needed([a]).package), [
      true,
      false,
    ])
    const edited = { ...a, generation: '2', package_version: '14.1.0' }
    supervisor.reconcile([edited], { mayStart: true })
    t.ok(supervisor.needed([edited]).package('http-server@14.1.1'), 'it ends, in an unknown folder')
  },
)
