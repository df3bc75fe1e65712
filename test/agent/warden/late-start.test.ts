/**
 * Starts that do not reach their program, and what is asked of them meanwhile. A stopped shell
 * stands for everything that a start may wait for.
 */
import { readFileSync } from 'node:fs'
import t from 'tap'
import type { Test } from 'tap'
import {
  childrenOf,
  withRunIdPrefix,
  processTable,
  readProcess,
} from '../../../host/process-table.js'
import { createNamespace } from '../../../agent/warden/namespace.js'
import type { Namespace } from '../../../agent/warden/namespace.js'
import { createNamespacePool } from '../../../agent/warden/namespace-pool.js'
import { detectContainment } from '../../../agent/warden/containment.js'
import { createLocalRunner } from '../../../agent/warden/local-runner.js'
import type { LocalProcess } from '../../../agent/warden/local-runner.js'
import { startInNamespace } from '../../../agent/warden/spawn.js'
import { waitFor } from '../../helpers/wait-for.js'

const { level, wrapper } = detectContainment()
const skip = level === 'pid-namespace' ? false : 'no PID namespace can be made here'
let namespaces = 0

const about = {
  assignment_id: '1',
  epoch: '1',
  generation: '1',
  stop_grace_ms: 60_000,
  leased: true,
  restarts: 0,
}
const specOf = (runId: string, argv: readonly string[] = ['sleep', '1000']) => ({
  argv,
  cwd: '/',
  env: { PATH: process.env['PATH']! },
  logFile: null,
  runId,
  about,
})

function namespace(t: Test): { namespace: Namespace; runId: string } {
  const runId = `late-start-test-${process.pid}-${++namespaces}.`
  const made = createNamespace(wrapper, runId)
  t.teardown(async () => {
    made.kill()
    await made.ended
    await waitFor(() => withRunIdPrefix(runId).length === 0, { label: 'nothing is left' })
  })
  return { namespace: made, runId }
}

async function stoppedNamespace(
  t: Test,
  what: 'init' | 'runner' = 'runner',
): Promise<{ namespace: Namespace; runId: string }> {
  const { namespace: made, runId } = namespace(t)
  await waitFor(made.isReady, { label: 'it is ready' })
  const [init] = childrenOf(made.root.pid)
  const pid = what === 'init' ? init! : childrenOf(init!)[0]!
  process.kill(pid, 'SIGSTOP')
  await waitFor(() => readProcess(pid)?.stopped, { label: 'it is stopped' })
  return { namespace: made, runId }
}

const isSleep = (pid: number): boolean => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n'
const startIn = (namespace: Namespace, runId: string): LocalProcess =>
  createLocalRunner({ namespaces: { take: () => namespace, close() {} } }).start(specOf(runId))

/** Without a turn of the event loop. */
function until(probe: () => boolean): void {
  const end = performance.now() + 30_000
  while (!probe()) if (performance.now() > end) throw new Error('it never ran')
}

t.test('what does not reach its program', { skip }, async (t) => {
  t.test('no start gets a namespace that was stopped', async (t) => {
    const { namespace: good } = namespace(t)
    await waitFor(good.isReady, { label: 'it is ready' })
    const stopped = [
      (await stoppedNamespace(t, 'init')).namespace,
      (await stoppedNamespace(t)).namespace,
    ]
    t.strictSame(
      stopped.map((each) => each.isAlive()),
      [false, false],
    )
    t.equal(good.isAlive(), true, 'unlike one that was not stopped')
    const made = [...stopped, good]
    const pool = createNamespacePool(() => made.shift() ?? namespace(t).namespace, {
      mounts: () => '',
      ready: 3,
    })
    t.teardown(pool.close)
    await waitFor(() => made.length === 0, { label: 'all are ready' })
    t.equal(pool.take(), good)
    await waitFor(() => stopped.every((each) => readProcess(each.root.pid) === null), {
      label: 'the others are gone',
    })
  })

  t.test(
    'asked to end before it was up, it is gone after its grace, though it never ran',
    async (t) => {
      const { namespace: stopped, runId } = await stoppedNamespace(t)
      const process = startIn(stopped, runId)
      process.end(3_600_000)
      process.end(50)
      process.end(3_600_000)
      let gone = false
      void process.gone.then(() => {
        gone = true
      })
      await waitFor(() => gone, { label: 'it is gone' })
      t.match(await process.exit, { error: null, signal: 'SIGKILL' })
      t.equal(await process.started, null)
    },
  )

  t.test(
    'what is up within its grace gets the pending signal, and the rest of the grace',
    async (t) => {
      const { namespace: slow, runId } = namespace(t)
      const process = startIn(slow, runId)
      process.end(3_600_000)
      await process.gone
      t.match(await process.exit, { signal: 'SIGTERM' })
    },
  )

  t.test(
    'the pending signal reaches what ran only after /proc was read in this turn',
    async (t) => {
      processTable()
      const { namespace: quick, runId } = namespace(t)
      let up: (is: boolean) => void = () => {}
      const process = startIn(
        {
          ...quick,
          up: new Promise((resolve) => {
            up = resolve
          }),
        },
        runId,
      )
      process.end(3_600_000)
      until(() => childrenOf(quick.root.pid).flatMap(childrenOf).some(isSleep))
      // as if reported in this very turn
      up(true)
      let gone = false
      void process.gone.then(() => {
        gone = true
      })
      await waitFor(() => gone, { label: 'SIGTERM has ended it' })
      t.match(await process.exit, { signal: 'SIGTERM' })
    },
  )

  t.test(
    'a start that does not reach its program in time has failed, with possible reasons',
    async (t) => {
      const { namespace: stopped, runId } = await stoppedNamespace(t)
      const process = startInNamespace(specOf(runId), () => stopped, 50)
      const exit = await waitFor(async () => await Promise.race([process.exit, null]), {
        label: 'it has failed',
      })
      t.match(exit, {
        code: null,
        signal: null,
        error:
          /^cannot start: nothing was run within 0.05 s; its working folder, its log or a mount/,
      })
      t.equal(await process.started, null)
      await waitFor(() => readProcess(stopped.root.pid) === null, { label: 'it is gone' })
    },
  )

  t.test('a warden that was paused for longer first reads that the program is up', async (t) => {
    const { namespace: good, runId } = namespace(t)
    await waitFor(good.isReady, { label: 'it is ready' })
    const [init] = childrenOf(good.root.pid)
    const process = startInNamespace(specOf(runId), () => good, 1)
    const before = performance.now()
    // no event is handled meanwhile
    until(() => performance.now() > before + 5 && childrenOf(init!).some(isSleep))
    t.ok(await process.started)
    t.ok(process.treeAlive())
  })
})
