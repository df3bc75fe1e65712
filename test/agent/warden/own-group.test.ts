/** What a workload does to its own process group is its own affair, at each level this host has. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { withRunIdPrefix, processTable, readProcess } from '../../../host/process-table.js'
import { createNamespacePool } from '../../../agent/warden/namespace-pool.js'
import { createNamespace } from '../../../agent/warden/namespace.js'
import { CONTAINMENT_LEVELS, detectContainment } from '../../../agent/warden/containment.js'
import { start, startInNamespace } from '../../../agent/warden/spawn.js'
import type { ProcessHandle } from '../../../agent/warden/spawn.js'
import { stopTree } from '../../../agent/warden/stop-tree.js'
import { waitFor } from '../../helpers/wait-for.js'
import { temporaryFolder } from '../rig.js'

const here = CONTAINMENT_LEVELS.map((level) => detectContainment(level)).filter(
  (found, nr) => found.level === CONTAINMENT_LEVELS[nr],
)
let starts = 0

for (const { level, wrapper } of here) {
  t.test(level, async (t) => {
    const prefix = `group-test-${process.pid}-${level}.`
    const namespaces = createNamespacePool(() => createNamespace(wrapper, `${prefix}warden`), {
      ready: 0,
    })
    t.teardown(async () => {
      namespaces.close()
      await waitFor(() => withRunIdPrefix(prefix).length === 0, { label: 'nothing is left' })
    })
    const run = (script: string, cwd = '/'): ProcessHandle => {
      const spec = {
        argv: ['sh', '-c', script],
        cwd,
        env: { PATH: process.env['PATH']! },
        runId: `${prefix}${++starts}`,
      }
      const handle =
        level === 'pid-namespace'
          ? startInNamespace({ ...spec, logFile: null }, namespaces.take)
          : start({ ...spec, logFd: null }, wrapper)
      t.teardown(async () => {
        await stopTree(handle, 0).done
        await handle.close()
      })
      return handle
    }

    t.test('it leads its session and its group', async (t) => {
      const { pid } = (await run('exec sleep 1000').started)!
      t.match(readProcess(pid), { pgid: pid, sid: pid })
    })

    t.test('a signal to its own group reaches no other process', async (t) => {
      const inOneWay = ['HUP', 'INT', 'QUIT', 'USR1', 'TERM', 'ALRM'].map(
        (signal) => `trap : ${signal}; kill -${signal} 0; kill -${signal} -$$; exit 9`,
      )
      const scripts = [...inOneWay, 'sleep 1000 & trap : HUP; kill -HUP 0; wait; exit 9']
      for (const script of scripts)
        t.strictSame(await run(script).exit, { code: 9, signal: null, error: null }, script)
    })

    t.test('one that kills its group has killed itself, and the signal is reported', async (t) => {
      for (const signal of ['HUP', 'INT', 'TERM', 'KILL'])
        t.match(await run(`kill -${signal} 0; sleep 1000`).exit, {
          code: null,
          signal: `SIG${signal}`,
        })
    })

    t.test('SIGTERM also reaches what was started since /proc was last read', async (t) => {
      const folder = await temporaryFolder(t)
      const at = (file: string): string => join(folder, file)
      const handle = run(
        'while [ ! -e go ]; do sleep 0.01; done; ' +
          '(trap ": > told; exit" TERM; : > there; while :; do sleep 0.01; done) & ' +
          'while :; do sleep 0.01; done',
        folder,
      )
      await handle.started
      processTable()
      // no turn of the event loop, so the signal uses the cached process table
      writeFileSync(at('go'), '')
      const end = performance.now() + 30_000
      while (!existsSync(at('there')) && performance.now() < end);
      t.ok(existsSync(at('there')))
      handle.signalTree('SIGTERM')
      await waitFor(() => existsSync(at('told')), { label: 'the child got SIGTERM' })
    })

    t.test(
      'what it left behind in another session is there still, and is ended with the grace it has',
      async (t) => {
        const handle = run(
          'setsid -f sh -c ": > stands; exec sleep 1000"; ' +
            'while [ ! -e stands ]; do sleep 0.01; done; kill -KILL 0',
          await temporaryFolder(t),
        )
        t.match(await handle.exit, { signal: 'SIGKILL' })
        t.ok(handle.treeAlive())
        await stopTree(handle, 60_000).done
        t.notOk(handle.treeAlive())
      },
    )
  })
}
