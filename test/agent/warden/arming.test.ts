/** When the dead-man timer includes a new process. The processes here are fakes. */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import type { Doomed } from '../../../agent/warden/dead-man.js'
import type { StartedProcess, StartSpec } from '../../../agent/warden/process-runner.js'
import type { LocalProcess } from '../../../agent/warden/local-runner.js'
import { createWarden } from '../../../agent/warden/warden.js'
import { waitFor } from '../../helpers/wait-for.js'

const FAR_MS = 3_600_000
const never = new Promise<never>(() => {})

function warden(t: Test, leased = true) {
  let end: () => void = () => {}
  const gone = new Promise<void>((resolve) => {
    end = resolve
  })
  const exit = gone.then(() => ({ code: 0, signal: null, error: null }))
  t.teardown(() => end())
  const armed: number[][] = []
  const up = new Map<string, () => void>()
  const start = ({ runId, about }: StartSpec): LocalProcess => {
    const root = { pid: Number(runId), startTicks: 1 }
    const started = new Promise<StartedProcess>((resolve) => up.set(runId, () => resolve(root)))
    return {
      runId,
      about,
      root,
      started,
      startedAtMs: 0,
      pid: () => null,
      rootPid: () => root.pid,
      exit,
      gone,
      fenced: never,
      end() {},
      fence() {},
    }
  }
  const clock = { nowMs: 1_000_000 }
  const made = createWarden({
    id: 'w',
    containment: 'process-group',
    runner: { start },
    deadMan: { arm: (doomed: readonly Doomed[]) => armed.push(doomed.map(({ pid }) => pid)) > 0 },
    onEmpty() {},
    clock: () => clock.nowMs,
  })
  made.attach(() => {})
  return {
    armed,
    up: (id: string) => up.get(id)!(),
    asked: (id: string) => up.has(id),
    start(id: string) {
      made.receive({
        t: 'lease',
        nr: 1,
        terms: [
          leased ? [id, '1', clock.nowMs + FAR_MS, clock.nowMs + FAR_MS] : [id, '1', null, null],
        ],
      })
      made.receive({
        t: 'start',
        spec: {
          argv: ['true'],
          cwd: '/',
          env: {},
          logFile: null,
          runId: id,
          about: {
            assignment_id: id,
            epoch: '1',
            generation: '1',
            stop_grace_ms: 0,
            leased,
            restarts: 0,
          },
        },
      })
    },
  }
}

t.test('a new process is armed in the turn in which it is reported to run', async (t) => {
  const w = warden(t)
  w.start('1')
  w.up('1')
  await turn()
  await turn()
  t.strictSame(w.armed, [[1]])
})

t.test('in a burst no timer is forked for each start, and all are armed', async (t) => {
  const w = warden(t)
  const ids = Array.from({ length: 100 }, (_, nr) => `${nr + 1}`)
  const before = performance.now()
  for (const id of ids) w.start(id)
  for (const id of ids) {
    await waitFor(() => w.asked(id), { label: `${id} is started` })
    w.up(id)
    await turn()
  }
  await waitFor(() => w.armed.at(-1)?.length === ids.length, { label: 'all are armed' })
  // one for each 20 ms that it took, however long that was, and the first at once
  t.ok(w.armed.length <= 2 + (performance.now() - before) / 20, `${w.armed.length} timers`)
})

t.test('what has no deadline has no timer forked for it', async (t) => {
  const w = warden(t, false)
  w.start('1')
  w.up('1')
  await turn()
  await turn()
  t.notOk(w.armed.some((doomed) => doomed.length > 0))
})
