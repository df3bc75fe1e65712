/**
 * Whole trees: what a workload started goes with it, also where it tried to get away.
 */
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { start } from '../../../agent/warden/spawn.js'
import type { ProcessHandle } from '../../../agent/warden/spawn.js'
import { stopTree } from '../../../agent/warden/stop-tree.js'
import { waitFor } from '../../helpers/wait-for.js'
import { alive, temporaryFolder } from '../rig.js'

interface Workload {
  handle: ProcessHandle
  pidOf(name: string): Promise<number>
}

let starts = 0

async function workload(t: Test, script: string): Promise<Workload> {
  const folder = await temporaryFolder(t)
  const file = join(folder, 'out')
  const logFd = openSync(file, 'a')
  const handle = start({
    argv: ['sh', '-c', script],
    cwd: folder,
    env: { PATH: process.env['PATH']! },
    logFd,
    runId: `stop-test-${process.pid}-${++starts}`,
  })
  closeSync(logFd)
  t.teardown(() => stopTree(handle, 0).done)
  return {
    handle,
    pidOf: async (name) =>
      Number(
        await waitFor(
          () => new RegExp(`^${name}=(\\d+)$`, 'm').exec(readFileSync(file, 'utf8'))?.[1],
          { label: `${name}= is printed` },
        ),
      ),
  }
}

t.test('what ends on SIGTERM is not killed', async (t) => {
  const { handle, pidOf } = await workload(
    t,
    'trap "exit 7" TERM; echo me=$$; while :; do sleep 0.05; done',
  )
  await pidOf('me')
  await stopTree(handle, 30_000).done
  t.match(await handle.exit, { code: 7 })
})

t.test('what ignores SIGTERM is killed after its grace', async (t) => {
  const { handle, pidOf } = await workload(
    t,
    'trap "" TERM; echo me=$$; while :; do sleep 0.05; done',
  )
  const pid = await pidOf('me')
  await stopTree(handle, 200).done
  t.match(await handle.exit, { signal: 'SIGKILL' })
  t.notOk(alive(pid))
})

t.test(
  'a grace that is under way can be cut short, and SIGKILL is sent before hurry returns',
  async (t) => {
    const { handle, pidOf } = await workload(
      t,
      'trap "" TERM; echo me=$$; while :; do sleep 0.05; done',
    )
    await pidOf('me')
    const stop = stopTree(handle, 3_600_000)
    stop.hurry(0)
    await stop.done
    t.match(await handle.exit, { signal: 'SIGKILL' })
  },
)

t.test('done means the whole tree: children that outlive the leader are waited for', async (t) => {
  const { handle, pidOf } = await workload(
    t,
    'sh -c \'trap "sleep 0.3; exit" TERM; echo child=$$; while :; do sleep 0.05; done\' & ' +
      'echo leader=$$; wait',
  )
  const child = await pidOf('child')
  await stopTree(handle, 30_000).done
  t.notOk(alive(child))
  t.notOk(handle.treeAlive())
})

t.test('a grandchild in a session of its own goes too', async (t) => {
  const { handle, pidOf } = await workload(
    t,
    'setsid sh -c \'trap "" TERM; echo grandchild=$$; while :; do sleep 0.05; done\' & wait',
  )
  const grandchild = await pidOf('grandchild')
  await stopTree(handle, 200).done
  t.notOk(alive(grandchild))
})

t.test(
  'a double-forked daemon, whose parents are gone before the first look, ends too',
  async (t) => {
    const { handle, pidOf } = await workload(
      t,
      'setsid -f sh -c ' +
        '\'cd /; trap "" TERM HUP; echo daemon=$$; while :; do sleep 0.05; done\'; ' +
        'echo leader=$$; exit 0',
    )
    const daemon = await pidOf('daemon')
    await handle.exit
    t.ok(alive(daemon), 'it did get away from its parent')
    t.ok(handle.treeAlive(), 'and is still counted')
    await stopTree(handle, 100).done
    t.notOk(alive(daemon))
  },
)

t.test(
  'a child that sheds its environment and its session is found through its living parent',
  async (t) => {
    const { handle, pidOf } = await workload(
      t,
      'env -i setsid sh -c ' +
        '\'trap "" TERM; echo bare=$$; while :; do /bin/sleep 0.05; done\' & wait',
    )
    const bare = await pidOf('bare')
    await stopTree(handle, 200).done
    t.notOk(alive(bare))
  },
)

t.test('a workload that forks as fast as it can is gone all the same', async (t) => {
  const { handle, pidOf } = await workload(
    t,
    'trap "" TERM; echo me=$$; while :; do setsid -f sleep 1000; sleep 0.01; done',
  )
  await pidOf('me')
  await waitFor(() => handle.treeAlive(), { label: 'it runs' })
  await stopTree(handle, 150).done
  t.notOk(handle.treeAlive())
})

t.test('a stopped process is killed as well', async (t) => {
  const { handle, pidOf } = await workload(t, 'echo me=$$; while :; do sleep 0.05; done')
  const pid = await pidOf('me')
  process.kill(pid, 'SIGSTOP')
  await waitFor(() => readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') T '), {
    label: 'it is stopped',
  })
  await stopTree(handle, 100).done
  t.match(await handle.exit, { signal: 'SIGKILL' })
})

t.test('processes of others are left alone, even with the same assignment and epoch', async (t) => {
  const mine = await workload(t, 'echo me=$$; while :; do sleep 0.05; done')
  const other = await workload(t, 'echo me=$$; while :; do sleep 0.05; done')
  await Promise.all([mine.pidOf('me'), other.pidOf('me')])
  await stopTree(mine.handle, 0).done
  t.ok(other.handle.treeAlive())
})

t.test('a look that fails proves nothing: a tree is gone after two empty looks', async (t) => {
  const looks: (boolean | 'fails')[] = [true, 'fails', 'fails', false, 'fails', false, false]
  const signals: string[] = []
  const tree = {
    exit: Promise.resolve(),
    treeAlive() {
      const look = looks.shift()
      if (look === 'fails')
        throw Object.assign(new Error('no descriptor is left'), { code: 'EMFILE' })
      return look === true
    },
    signalTree(signal: NodeJS.Signals) {
      signals.push(signal)
      throw new Error('nor for this')
    },
  }
  await stopTree(tree, 0).done
  t.same(looks, [])
  t.ok(signals.length > 1 && signals.every((signal) => signal === 'SIGKILL'))
})
