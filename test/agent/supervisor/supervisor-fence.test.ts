/** What a supervisor does when a lease ends or the database holds. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { waitFor } from '../../helpers/wait-for.js'
import { runIdPrefix } from '../../../state-folder/process-files.js'
import { createLocalRunner } from '../../../agent/warden/local-runner.js'
import type { LocalProcess } from '../../../agent/warden/local-runner.js'
import { owned, printed, rig, temporaryFolder } from '../rig.js'
import { NO_SPREAD } from '../../../host/backoff.js'

const may = { mayStart: true }
const mayNot = { mayStart: false }

const IGNORES_SIGTERM = 'trap "" TERM; echo me=$$; while :; do sleep 0.02; done'

t.test(
  'fenced work gets SIGTERM at once and SIGKILL after the given grace, not its own',
  async (t) => {
    const r = await rig(t)
    const [polite, rude, other] = [
      owned(),
      owned({ script: IGNORES_SIGTERM, stop_grace_ms: 3_600_000 }),
      owned(),
    ]
    r.supervisor.reconcile([polite, rude, other], may)
    await printed(r, rude, 'me')
    // who is asked may be slow to hear it
    r.supervisor.fence([polite.assignment_id, 'unknown'], 60_000)
    r.supervisor.fence([rude.assignment_id], 100)
    t.match(await r.reached(polite, 'stopped'), {
      error: 'fenced: lease ended',
      exit_signal: 'SIGTERM',
    })
    t.match(await r.reached(rude, 'stopped'), {
      error: 'fenced: lease ended',
      exit_signal: 'SIGKILL',
    })
    t.strictSame(r.states(other), ['running'])
  },
)

t.test(
  'fenced work starts again by a later reconcile that lists it, also in a hold, and only then',
  async (t) => {
    const r = await rig(t, { backoff: { firstMs: 1, spread: NO_SPREAD } })
    const a = owned()
    r.supervisor.reconcile([a], may)
    await r.reached(a, 'running')
    r.supervisor.fence([a.assignment_id], 100)
    await r.reached(a, 'stopped')
    r.supervisor.fence([a.assignment_id], 100)
    t.strictSame(
      r.states(a),
      ['running', 'stopping', 'stopped'],
      'fencing what is fenced says nothing new',
    )
    r.supervisor.reconcile([a], mayNot)
    await waitFor(() => r.last(a)?.state === 'running', { label: 'it runs again' })
    t.strictSame(r.states(a), ['running', 'stopping', 'stopped', 'running'])
  },
)

t.test(
  'what is fenced where it runs is told on, and starts again by a later reconcile',
  async (t) => {
    const started: LocalProcess[] = []
    const told: string[] = []
    const stateDir = await temporaryFolder(t)
    const local = createLocalRunner()
    const r = await rig(t, {
      stateDir,
      onFenced: (id) => told.push(id),
      runner: {
        runIdPrefix: runIdPrefix(stateDir),
        start: (spec) => started[started.push(local.start(spec)) - 1]!,
      },
    })
    const a = owned()
    r.supervisor.reconcile([a], may)
    await r.reached(a, 'running')
    started[0]!.fence(10_000)
    t.match(await r.reached(a, 'stopped'), { error: 'fenced: lease ended', exit_signal: 'SIGTERM' })
    t.strictSame(told, [a.assignment_id])
    r.supervisor.reconcile([a], mayNot)
    await waitFor(() => r.last(a)?.state === 'running', { label: 'it runs again' })
  },
)

t.test('a fence shortens a stop that is under way', async (t) => {
  const r = await rig(t)
  const a = owned({ script: IGNORES_SIGTERM, stop_grace_ms: 3_600_000 })
  r.supervisor.reconcile([a], may)
  await printed(r, a, 'me')
  r.supervisor.reconcile([{ ...a, wanted: 'stop' }], may)
  r.supervisor.fence([a.assignment_id], 50)
  t.match(await r.reached(a, 'stopped'), { exit_signal: 'SIGKILL' })
})

t.test('a fence calls off a start that is timed', async (t) => {
  const r = await rig(t, { backoff: { firstMs: 4_000, spread: NO_SPREAD } })
  const a = owned({ script: 'exit 1' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff')
  r.supervisor.fence([a.assignment_id], 100)
  t.match(await r.reached(a, 'stopped'), { error: 'fenced: lease ended' })
  const b = owned({ script: 'exit 1' })
  r.supervisor.reconcile([b], may)
  await r.reached(b, 'backoff', { restarts: 2 })
  t.strictSame(
    r.states(a),
    ['running', 'backoff', 'stopped'],
    'the time for its restart is long over',
  )
})

t.test(
  'in a hold nothing new starts; what this session ran under that epoch is restarted',
  async (t) => {
    const r = await rig(t)
    const [ran, fresh, reclaimed] = [
      owned({ script: 'echo started=1; while [ ! -e go ]; do sleep 0.01; done; rm go; exit 1' }),
      owned(),
      owned(),
    ]
    r.supervisor.reconcile([ran, reclaimed], may)
    await printed(r, ran, 'started')
    r.supervisor.reconcile([ran, fresh, { ...reclaimed, epoch: '2' }], mayNot)
    t.strictSame(r.states(fresh), [])
    writeFileSync(join(r.stateDir, 'work', ran.assignment_id, 'go'), '')
    await r.reached(ran, 'backoff')
    await r.reached(ran, 'running', { restarts: 1 })
    await r.reached(reclaimed, 'stopping')
    await waitFor(() => r.supervisor.running() === 1, {
      label: 'the instance of the old epoch is gone',
    })
    t.strictSame(r.states(reclaimed), ['running', 'stopping'], 'its new epoch waits')
    r.supervisor.reconcile([ran, fresh, { ...reclaimed, epoch: '2' }], may)
    await r.reached(fresh, 'running')
    await r.reached(reclaimed, 'running', { epoch: '2' })
  },
)

t.test(
  'what was not listed for a while may come back in a hold under the epoch it ran with',
  async (t) => {
    const r = await rig(t)
    const a = owned()
    r.supervisor.reconcile([a], may)
    r.supervisor.fence([a.assignment_id], 100)
    r.supervisor.reconcile([], mayNot)
    await r.reached(a, 'stopped')
    r.supervisor.reconcile([{ ...a, epoch: '2' }], mayNot)
    t.equal(r.last(a)?.state, 'stopped')
    r.supervisor.reconcile([], mayNot)
    r.supervisor.reconcile([a], mayNot)
    await waitFor(() => r.last(a)?.state === 'running', { label: 'it runs again' })
    t.ok(
      r.reports.every((report) => report.epoch === '1'),
      'of what was never begun here nothing is told',
    )
  },
)

t.test(
  'what was ordered to stop does not start again in a hold under the same epoch',
  async (t) => {
    const r = await rig(t)
    const [stopped, restarted] = [owned(), owned()]
    r.supervisor.reconcile([stopped, restarted], may)
    await r.reached(restarted, 'running')
    await r.reached(stopped, 'running')
    r.supervisor.reconcile([{ ...stopped, wanted: 'stop' }, restarted], may)
    // the report frees the row, and a standby that lacks both order and release is promoted
    await r.reached(stopped, 'stopped')
    r.supervisor.fence([restarted.assignment_id], 100)
    await r.reached(restarted, 'stopped')
    r.supervisor.reconcile([stopped, restarted], mayNot)
    await waitFor(() => r.last(restarted)?.state === 'running', { label: 'the other runs again' })
    t.equal(r.last(stopped)?.state, 'stopped')
    r.supervisor.reconcile([], mayNot)
    await r.reached(restarted, 'stopped')
    r.supervisor.reconcile([stopped, restarted], mayNot)
    await waitFor(() => r.last(restarted)?.state === 'running', { label: 'it runs once more' })
    t.equal(r.last(stopped)?.state, 'stopped', 'nor when it was not listed for a while')
    r.supervisor.reconcile([stopped, restarted], may)
    await waitFor(() => r.last(stopped)?.state === 'running', { label: 'it runs after the hold' })
  },
)
