/**
 * Processes that an earlier agent left with its warden, under the next agent.
 * test/e2e/takeover.test.ts has real wardens and agents.
 */
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
  'a process that ended before the next agent has orders is counted and started again',
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
