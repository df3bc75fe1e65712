/**
 * Real processes under a real supervisor: starts, stops, edits. See also
 *   supervisor-backoff.test.ts   processes that end by themselves or cannot start
 *   supervisor-fence.test.ts     leases and holds
 *   supervisor-packages.test.ts  packages and npm
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { waitFor } from '../../helpers/wait-for.js'
import { alive, owned, printed, rig } from '../rig.js'

const may = { mayStart: true }

/** Ends on SIGTERM only after a while, and says so. */
const SLOW_TO_END =
  'trap "sleep 0.3; echo ended; exit 0" TERM; echo me=$$; while :; do sleep 0.02; done'
const IGNORES_SIGTERM = 'trap "" TERM; echo me=$$; while :; do sleep 0.02; done'

t.test('a command that is listed runs', async (t) => {
  const r = await rig(t)
  const a = owned()
  r.supervisor.reconcile([a], may)
  t.match(await r.reached(a, 'running'), {
    state: 'running',
    epoch: '1',
    generation: '1',
    pid: Number,
    restarts: 0,
    exit_code: null,
    exit_signal: null,
    error: null,
    next_start_in_ms: null,
  })
  t.ok(alive(r.last(a)!.pid!))
  t.equal(r.supervisor.running(), 1)
  t.strictSame(r.supervisor.pids(), [r.last(a)!.pid])
})

t.test(
  "Y35: a workload knows who it is, and nothing that is only the agent's business",
  async (t) => {
    process.env['DATABASE_URL'] = 'postgres://user:hunter2@host/db'
    t.teardown(() => {
      delete process.env['DATABASE_URL']
    })
    const r = await rig(t)
    const a = owned({
      epoch: '12',
      ordinal: 3,
      script: 'env; pwd; echo done=1; sleep 1000',
      env: { GREETING: 'hello world', MOORING_EPOCH: '99' },
    })
    r.supervisor.reconcile([a], may)
    await printed(r, a, 'done')
    const said = r.logText(a).split('\n')
    for (const line of [
      `MOORING_ASSIGNMENT_ID=${a.assignment_id}`,
      'MOORING_EPOCH=12',
      'MOORING_DEPLOYMENT_ID=7',
      'MOORING_NODE=host-a',
      'MOORING_ORDINAL=3',
      'GREETING=hello world',
    ])
      t.ok(said.includes(line), line)
    t.notMatch(r.logText(a), /hunter2/)
    t.ok(
      said.some((line) => line.endsWith(join('work', a.assignment_id))),
      'its folder is its own',
    )
  },
)

t.test('the same set again and again is one process', async (t) => {
  const r = await rig(t)
  const set = [owned(), owned()]
  for (let i = 0; i < 10; i++) r.supervisor.reconcile(set, may)
  await Promise.all(set.map((a) => r.reached(a, 'running')))
  t.strictSame(
    set.map((a) => r.states(a)),
    [['running'], ['running']],
  )
})

t.test('Y38: stdout and stderr go to one log, appended to over restarts', async (t) => {
  const r = await rig(t)
  const a = owned({ script: 'echo out; echo err >&2; exit 0' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff', { restarts: 2 })
  t.match(r.logText(a), /^out\nerr\nout\nerr\n/)
})

t.test('stopped is said only when the whole tree is gone', async (t) => {
  const r = await rig(t)
  const a = owned({ script: `setsid sh -c '${SLOW_TO_END}' & wait` })
  r.supervisor.reconcile([a], may)
  const child = await printed(r, a, 'me')
  r.supervisor.reconcile([{ ...a, wanted: 'stop' }], may)
  t.match(r.last(a), { state: 'stopping', pid: Number })
  await r.reached(a, 'stopped', { error: null, pid: null })
  t.notOk(alive(child))
  t.match(r.logText(a), /^ended$/m)
  t.equal(r.supervisor.running(), 0)
  t.strictSame(readdirSync(join(r.stateDir, 'runs')), [])
})

t.test(
  'as long as stop is wanted, each reconcile says stopped again: the last time may have been lost',
  async (t) => {
    const r = await rig(t)
    const a = owned({ wanted: 'stop' })
    r.supervisor.reconcile([a], may)
    r.supervisor.reconcile([a], may)
    t.strictSame(r.states(a), ['stopped', 'stopped'])
    r.supervisor.reconcile([], may)
    t.strictSame(r.states(a), ['stopped', 'stopped'], 'and no more when it is no longer owned')
  },
)

t.test('what is no longer owned is stopped, with its own grace', async (t) => {
  const r = await rig(t)
  const a = owned({ stop_grace_ms: 50, script: IGNORES_SIGTERM })
  r.supervisor.reconcile([a], may)
  await printed(r, a, 'me')
  r.supervisor.reconcile([], may)
  t.match(await r.reached(a, 'stopped'), { exit_signal: 'SIGKILL' })
})

t.test('a deleted deployment, of which no spec is left, is stopped', async (t) => {
  const r = await rig(t)
  const a = owned()
  r.supervisor.reconcile([a], may)
  r.supervisor.reconcile([{ ...a, wanted: 'stop', command: null, args: [] }], may)
  await r.reached(a, 'stopped', { exit_signal: 'SIGTERM' })
})

t.test('defect 7: the end of the agent leaves no orphans', async (t) => {
  const r = await rig(t)
  const a = owned({
    script:
      "sh -c 'echo child=$$; while :; do sleep 0.05; done' & " +
      "setsid -f sh -c 'echo daemon=$$; while :; do sleep 0.05; done'; echo leader=$$; wait",
  })
  const b = owned({ stop_grace_ms: 100, script: IGNORES_SIGTERM })
  r.supervisor.reconcile([a, b], may)
  const pids = await Promise.all([
    printed(r, a, 'child'),
    printed(r, a, 'daemon'),
    printed(r, a, 'leader'),
    printed(r, b, 'me'),
  ])
  t.ok(pids.every(alive))
  await r.supervisor.stopAll()
  t.strictSame(pids.filter(alive), [])
  t.strictSame([r.last(a)?.state, r.last(b)?.state], ['stopped', 'stopped'])
})

t.test(
  'stopAll is legal before any start, may be called twice, and nothing starts afterwards',
  async (t) => {
    const r = await rig(t)
    await Promise.all([r.supervisor.stopAll(), r.supervisor.stopAll()])
    const a = owned()
    r.supervisor.reconcile([a], may)
    t.strictSame(r.reports, [])
  },
)

t.test('killAll has sent SIGKILL when it returns', async (t) => {
  const r = await rig(t)
  const a = owned({ script: IGNORES_SIGTERM, stop_grace_ms: 3_600_000 })
  r.supervisor.reconcile([a], may)
  const pid = await printed(r, a, 'me')
  r.supervisor.killAll()
  await waitFor(() => !alive(pid), { label: 'it is dead' })
  await r.supervisor.stopAll()
  t.equal(r.supervisor.running(), 0)
})

t.test(
  'defect 10: an edit restarts without overlap: the next process starts when the old tree is gone',
  async (t) => {
    const r = await rig(t)
    // Each instance makes a folder, and complains when that of an earlier one is still there. The
    // old instance ends slowly, and its child more slowly.
    const script =
      'mkdir here || echo OVERLAP; trap "sleep 0.2; rmdir here; exit 0" TERM; ' +
      '(trap "sleep 0.4; rmdir ../$MOORING_ASSIGNMENT_ID/there; exit 0" TERM; ' +
      'mkdir there || echo OVERLAP; while :; do sleep 0.02; done) & ' +
      'echo me$GEN=$$; while :; do sleep 0.02; done'
    const a = owned({ script, env: { GEN: '1' } })
    r.supervisor.reconcile([a], may)
    const old = await printed(r, a, 'me1')
    const edited = { ...a, generation: '2', env: { GEN: '2' } }
    r.supervisor.reconcile([edited], may)
    r.supervisor.reconcile([edited], may)
    const young = await printed(r, a, 'me2')
    t.notOk(alive(old))
    t.ok(alive(young))
    t.notMatch(r.logText(a), /OVERLAP/)
    t.strictSame(
      r.reports.map((report) => [report.state, report.generation]),
      [
        ['running', '1'],
        ['stopping', '1'],
        ['running', '2'],
      ],
    )
  },
)

t.test('defect 10: a change that is no new generation restarts nothing', async (t) => {
  const r = await rig(t)
  const a = owned()
  r.supervisor.reconcile([a], may)
  r.supervisor.reconcile([{ ...a, stop_grace_ms: 5, on_lost: 'keep', lease_ttl_ms: 500 }], may)
  await r.reached(a, 'running')
  t.strictSame(r.states(a), ['running'])
})

t.test('of many edits during a stop only the last is started', async (t) => {
  const r = await rig(t)
  const a = owned({ script: SLOW_TO_END })
  r.supervisor.reconcile([a], may)
  await printed(r, a, 'me')
  for (const generation of ['2', '3', '4']) r.supervisor.reconcile([{ ...a, generation }], may)
  await r.reached(a, 'running', { generation: '4' })
  t.strictSame(
    r.reports.filter((report) => report.state === 'running').map((report) => report.generation),
    ['1', '4'],
  )
})

t.test('a new epoch is a new start, with the new epoch in its environment', async (t) => {
  const r = await rig(t)
  const a = owned({ script: 'echo epoch$MOORING_EPOCH=$MOORING_EPOCH; sleep 1000' })
  r.supervisor.reconcile([a], may)
  await printed(r, a, 'epoch1')
  r.supervisor.reconcile([{ ...a, epoch: '2' }], may)
  t.equal(await printed(r, a, 'epoch2'), 2)
  t.match(r.last(a), { state: 'running', epoch: '2', restarts: 0 })
})

t.test(
  'an empty work folder goes with its assignment, and one with files in it stays',
  async (t) => {
    const r = await rig(t)
    const [tidy, untidy] = [owned(), owned({ script: 'echo x > kept; echo done=1; sleep 1000' })]
    r.supervisor.reconcile([tidy, untidy], may)
    await printed(r, untidy, 'done')
    r.supervisor.reconcile([], may)
    await Promise.all([r.reached(tidy, 'stopped'), r.reached(untidy, 'stopped')])
    t.notOk(existsSync(join(r.stateDir, 'work', tidy.assignment_id)))
    t.ok(existsSync(join(r.stateDir, 'work', untidy.assignment_id, 'kept')))
  },
)

t.test('thirty at once start and stop together', async (t) => {
  const r = await rig(t)
  const set = Array.from({ length: 30 }, () => owned())
  r.supervisor.reconcile(set, may)
  t.equal(r.supervisor.running(), 30)
  r.supervisor.reconcile(
    set.map((a) => ({ ...a, wanted: 'stop' })),
    may,
  )
  await waitFor(() => set.every((a) => r.last(a)?.state === 'stopped'), {
    label: 'all are stopped',
  })
  t.equal(r.supervisor.running(), 0)
})
