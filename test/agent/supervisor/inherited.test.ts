/** What an earlier agent left with its warden, and what the next one makes of it. Of real wardens and agents tells e2e/takeover. */
import t from 'tap'
import type { ManagedProcess } from '../../../agent/warden/process-runner.js'
import { owned, rig } from '../rig.js'

/** A process that ended by itself while no agent was there. */
const ended = (assignment_id: string): ManagedProcess => ({
  runId: `inherited-${assignment_id}`,
  about: {
    assignment_id,
    epoch: '1',
    generation: '1',
    stop_grace_ms: 1_000,
    leased: true,
    restarts: 4,
  },
  pid: () => 99,
  rootPid: () => 98,
  started: Promise.resolve({ pid: 99, startTicks: 1 }),
  startedAtMs: 0,
  exit: Promise.resolve({ code: 3, signal: null, error: null }),
  gone: Promise.resolve(),
  fenced: new Promise(() => {}),
  end() {},
})

t.test(
  'what ended before the next agent knows what is wanted is no stop: it is waited for, counted and started again',
  async (t) => {
    const assignment = owned()
    const r = await rig(t, { inherited: [ended(assignment.assignment_id)] })
    await r.reached(assignment, 'backoff', { exit_code: 3, restarts: 5 })
    r.supervisor.reconcile([assignment], { mayStart: true })
    await r.reached(assignment, 'running', { restarts: 5 })
    t.notOk(r.states(assignment).includes('stopped'))
  },
)

t.test('and where it is not wanted any more it is told as stopped, once', async (t) => {
  const assignment = owned()
  const r = await rig(t, { inherited: [ended(assignment.assignment_id)] })
  await r.reached(assignment, 'backoff')
  r.supervisor.reconcile([], { mayStart: true })
  r.supervisor.reconcile([], { mayStart: true })
  await r.reached(assignment, 'stopped')
  t.equal(r.states(assignment).filter((state) => state === 'stopped').length, 1)
})
