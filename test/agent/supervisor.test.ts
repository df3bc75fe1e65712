/** Real processes under a real supervisor; packages and npm are in supervisor-packages.test.ts. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { waitFor } from '../helpers/wait-for.js'
import { markPrefix } from '../../agent/run-file.js'
import { createLocalHost } from '../../agent/warden/local-host.js'
import type { LocalProcess } from '../../agent/warden/local-host.js'
import { alive, owned, ownedPackage, printed, rig, temporaryFolder } from './rig.js'

const may = { mayStart: true }
const mayNot = { mayStart: false }

/** Ends on SIGTERM only after a while, and says so. */
const SLOW_TO_END = 'trap "sleep 0.3; echo ended; exit 0" TERM; echo me=$$; while :; do sleep 0.02; done'
const IGNORES_SIGTERM = 'trap "" TERM; echo me=$$; while :; do sleep 0.02; done'

t.test('a command that is listed runs', async t => {
  const r = await rig(t)
  const a = owned()
  r.supervisor.reconcile([a], may)
  t.match(await r.reached(a, 'running'), { state: 'running', epoch: '1', generation: '1', pid: Number, restarts: 0, exit_code: null, exit_signal: null, error: null, next_start_in_ms: null })
  t.ok(alive(r.last(a)!.pid!))
  t.equal(r.supervisor.running(), 1)
  t.strictSame(r.supervisor.pids(), [r.last(a)!.pid])
})

t.test('Y35: a workload knows who it is, and nothing that is only the agent\'s business', async t => {
  process.env['DATABASE_URL'] = 'postgres://user:hunter2@host/db'
  t.teardown(() => { delete process.env['DATABASE_URL'] })
  const r = await rig(t)
  const a = owned({ epoch: '12', ordinal: 3, script: 'env; pwd; echo done=1; sleep 1000', env: { GREETING: 'hello world', MOORING_EPOCH: '99' } })
  r.supervisor.reconcile([a], may)
  await printed(r, a, 'done')
  const said = r.logText(a).split('\n')
  for (const line of [`MOORING_ASSIGNMENT_ID=${a.assignment_id}`, 'MOORING_EPOCH=12', 'MOORING_DEPLOYMENT_ID=7', 'MOORING_NODE=host-a', 'MOORING_ORDINAL=3', 'GREETING=hello world']) t.ok(said.includes(line), line)
  t.notMatch(r.logText(a), /hunter2/)
  t.ok(said.some(line => line.endsWith(join('work', a.assignment_id))), 'its folder is its own')
})

t.test('the same set again and again is one process', async t => {
  const r = await rig(t)
  const set = [owned(), owned()]
  for (let i = 0; i < 10; i++) r.supervisor.reconcile(set, may)
  await Promise.all(set.map(a => r.reached(a, 'running')))
  t.strictSame(set.map(a => r.states(a)), [['running'], ['running']])
})

t.test('Y38: stdout and stderr go to one log, appended to over restarts', async t => {
  const r = await rig(t)
  const a = owned({ script: 'echo out; echo err >&2; exit 0' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff', { restarts: 2 })
  t.match(r.logText(a), /^out\nerr\nout\nerr\n/)
})

t.test('stopped is said only when the whole tree is gone', async t => {
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

t.test('as long as stop is wanted, each reconcile says stopped again: the last time may have been lost', async t => {
  const r = await rig(t)
  const a = owned({ wanted: 'stop' })
  r.supervisor.reconcile([a], may)
  r.supervisor.reconcile([a], may)
  t.strictSame(r.states(a), ['stopped', 'stopped'])
  r.supervisor.reconcile([], may)
  t.strictSame(r.states(a), ['stopped', 'stopped'], 'and no more when it is no longer owned')
})

t.test('what is no longer owned is stopped, with its own grace', async t => {
  const r = await rig(t)
  const a = owned({ stop_grace_ms: 50, script: IGNORES_SIGTERM })
  r.supervisor.reconcile([a], may)
  await printed(r, a, 'me')
  r.supervisor.reconcile([], may)
  t.match(await r.reached(a, 'stopped'), { exit_signal: 'SIGKILL' })
})

t.test('a deleted deployment, of which no spec is left, is stopped', async t => {
  const r = await rig(t)
  const a = owned()
  r.supervisor.reconcile([a], may)
  r.supervisor.reconcile([{ ...a, wanted: 'stop', command: null, args: [] }], may)
  await r.reached(a, 'stopped', { exit_signal: 'SIGTERM' })
})

t.test('defect 7: the end of the agent leaves no orphans', async t => {
  const r = await rig(t)
  const a = owned({ script: 'sh -c \'echo child=$$; while :; do sleep 0.05; done\' & setsid -f sh -c \'echo daemon=$$; while :; do sleep 0.05; done\'; echo leader=$$; wait' })
  const b = owned({ stop_grace_ms: 100, script: IGNORES_SIGTERM })
  r.supervisor.reconcile([a, b], may)
  const pids = await Promise.all([printed(r, a, 'child'), printed(r, a, 'daemon'), printed(r, a, 'leader'), printed(r, b, 'me')])
  t.ok(pids.every(alive))
  await r.supervisor.stopAll()
  t.strictSame(pids.filter(alive), [])
  t.strictSame([r.last(a)?.state, r.last(b)?.state], ['stopped', 'stopped'])
})

t.test('stopAll is legal before any start, may be called twice, and nothing starts afterwards', async t => {
  const r = await rig(t)
  await Promise.all([r.supervisor.stopAll(), r.supervisor.stopAll()])
  const a = owned()
  r.supervisor.reconcile([a], may)
  t.strictSame(r.reports, [])
})

t.test('killAll has sent SIGKILL when it returns', async t => {
  const r = await rig(t)
  const a = owned({ script: IGNORES_SIGTERM, stop_grace_ms: 3_600_000 })
  r.supervisor.reconcile([a], may)
  const pid = await printed(r, a, 'me')
  r.supervisor.killAll()
  await waitFor(() => !alive(pid), { label: 'it is dead' })
  await r.supervisor.stopAll()
  t.equal(r.supervisor.running(), 0)
})

t.test('defect 10: an edit restarts without overlap: the new copy starts when the whole old tree is gone', async t => {
  const r = await rig(t)
  // Each copy takes the folder as its own and complains when another is still there. The old one is slow to go, its child slower.
  const script = 'mkdir here || echo OVERLAP; trap "sleep 0.2; rmdir here; exit 0" TERM; (trap "sleep 0.4; rmdir ../$MOORING_ASSIGNMENT_ID/there; exit 0" TERM; mkdir there || echo OVERLAP; while :; do sleep 0.02; done) & echo me$GEN=$$; while :; do sleep 0.02; done'
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
  t.strictSame(r.reports.map(report => [report.state, report.generation]), [['running', '1'], ['stopping', '1'], ['running', '2']])
})

t.test('defect 10: a change that is no new generation restarts nothing', async t => {
  const r = await rig(t)
  const a = owned()
  r.supervisor.reconcile([a], may)
  r.supervisor.reconcile([{ ...a, stop_grace_ms: 5, on_lost: 'keep', lease_ttl_ms: 500 }], may)
  await r.reached(a, 'running')
  t.strictSame(r.states(a), ['running'])
})

t.test('of many edits during a stop only the last is started', async t => {
  const r = await rig(t)
  const a = owned({ script: SLOW_TO_END })
  r.supervisor.reconcile([a], may)
  await printed(r, a, 'me')
  for (const generation of ['2', '3', '4']) r.supervisor.reconcile([{ ...a, generation }], may)
  await r.reached(a, 'running', { generation: '4' })
  t.strictSame(r.reports.filter(report => report.state === 'running').map(report => report.generation), ['1', '4'])
})

t.test('a new epoch is a new start, with the new epoch in its environment', async t => {
  const r = await rig(t)
  const a = owned({ script: 'echo epoch$MOORING_EPOCH=$MOORING_EPOCH; sleep 1000' })
  r.supervisor.reconcile([a], may)
  await printed(r, a, 'epoch1')
  r.supervisor.reconcile([{ ...a, epoch: '2' }], may)
  t.equal(await printed(r, a, 'epoch2'), 2)
  t.match(r.last(a), { state: 'running', epoch: '2', restarts: 0 })
})

t.test('Y37, defect 11: a crash loop is counted and backs off', async t => {
  const r = await rig(t, { backoff: { firstMs: 20, maxMs: 80, jitter: 0 } })
  const a = owned({ script: 'exit 3' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff', { restarts: 5 })
  const backoffs = r.reports.filter(report => report.state === 'backoff').slice(0, 5)
  t.strictSame(backoffs.map(report => report.next_start_in_ms), [20, 40, 80, 80, 80])
  t.strictSame(backoffs.map(report => report.restarts), [1, 2, 3, 4, 5])
  t.match(backoffs[0], { exit_code: 3, exit_signal: null, error: /^exited with code 3 after \d+\.\d s$/, pid: null })
})

t.test('a run that was stable begins the row of delays anew, the counter goes on', async t => {
  const r = await rig(t, { backoff: { firstMs: 10, jitter: 0, stableMs: 150 } })
  const a = owned({ script: 'if [ -e second ]; then touch third; sleep 0.3; fi; [ -e first ] && touch second; touch first; exit 1' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff', { restarts: 3 })
  t.strictSame(r.reports.filter(report => report.state === 'backoff').slice(0, 3).map(report => report.next_start_in_ms), [10, 20, 10])
})

t.test('an edit during a backoff starts at once, with counters at zero', async t => {
  const r = await rig(t, { backoff: { firstMs: 3_600_000, maxMs: 3_600_000 } })
  const a = owned({ script: 'exit 1' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff')
  const edited = owned({ assignment_id: a.assignment_id, generation: '2' })
  await waitFor(() => {
    r.supervisor.reconcile([edited], may)
    return r.last(a)?.state === 'running'
  }, { label: 'the edited one runs' })
  t.match(r.last(a), { generation: '2', restarts: 0 })
})

t.test('what a workload leaves behind when it ends by itself is gone before it is started again', async t => {
  const r = await rig(t)
  const a = owned({ stop_grace_ms: 200, script: '[ -e here ] && ! kill -0 $(cat here) 2>/dev/null && echo clean=1; setsid -f sh -c \'trap "" TERM; echo $$ > here; while :; do sleep 0.02; done\'; while [ ! -s here ]; do sleep 0.01; done; exit 1' })
  r.supervisor.reconcile([a], may)
  t.equal(await printed(r, a, 'clean'), 1)
})

t.test('a signal is told as the reason, and what was printed is not', async t => {
  const r = await rig(t)
  const a = owned({ script: 'echo the password is hunter2 >&2; kill -SEGV $$' })
  r.supervisor.reconcile([a], may)
  t.match(await r.reached(a, 'backoff'), { exit_code: null, exit_signal: 'SIGSEGV', error: /^ended by SIGSEGV after/ })
  t.notMatch(JSON.stringify(r.reports), /hunter2/)
})

t.test('what cannot be started is failed, with reason and backoff, and disturbs nobody', async t => {
  const r = await rig(t)
  const good = owned()
  const bad: [string, ReturnType<typeof owned>, RegExp][] = [
    ['no such program', owned({ command: 'no-such-program' }), /there is no program "no-such-program" on this host/],
    ['not executable', owned({ command: '/etc/passwd' }), /EACCES/],
    ['NUL in an argument', owned({ args: ['a\0b'] }), /argument 1 contains a NUL/],
    ['NUL in the environment', owned({ env: { TOKEN: 'hunter2\0' } }), /variable TOKEN contains a NUL/],
    ['too large', owned({ env: { BIG: 'x'.repeat(200_000) } }), /E2BIG/],
    ['NUL in the command', owned({ command: 's\0h' }), /NUL/],
  ]
  r.supervisor.reconcile([...bad.map(([, a]) => a), good], may)
  for (const [name, a, reason] of bad) {
    t.match(await r.reached(a, 'failed'), { error: reason, pid: null, next_start_in_ms: 40 }, name)
    await waitFor(() => r.states(a).length > 1, { label: 'it is tried again' })
  }
  t.strictSame(r.states(good), ['running'])
  t.equal(r.supervisor.running(), 1)
  t.notMatch(JSON.stringify(r.reports), /hunter2|xxxxx/)
})

t.test('what failed is settled as soon as it is no longer wanted', async t => {
  const r = await rig(t, { backoff: { firstMs: 3_600_000, maxMs: 3_600_000 } })
  const a = owned({ command: 'no-such-program' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'failed')
  r.supervisor.reconcile([{ ...a, wanted: 'stop' }], may)
  t.equal(r.last(a)?.state, 'stopped')
})

t.test('what this agent will not run is refused with the reason, again at each reconcile, and judged anew when the spec changes', async t => {
  const r = await rig(t, { allowExec: false, trusts: /^http-server@/ })
  const a = owned()
  r.supervisor.reconcile([a], may)
  r.supervisor.reconcile([a], may)
  t.match(r.reports, [{ state: 'refused', error: /--allow-exec/, pid: null }, { state: 'refused' }])
  r.supervisor.reconcile([ownedPackage('is-odd', '3.0.1', { assignment_id: a.assignment_id, generation: '2' })], may)
  t.match(r.last(a), { state: 'refused', generation: '2', error: /is-odd@3.0.1 is not trusted here/ })
  r.supervisor.reconcile([ownedPackage('git+ssh://x/y', '1.0.0', { assignment_id: a.assignment_id, generation: '3' })], may)
  t.match(r.last(a), { state: 'refused', error: /is not a registry name/ })
  t.equal(r.supervisor.running(), 0)
})

t.test('a running copy whose new spec is refused ends, and is refused', async t => {
  const r = await rig(t, { trusts: null })
  const a = owned()
  r.supervisor.reconcile([a], may)
  r.supervisor.reconcile([ownedPackage('x', '1.0.0', { assignment_id: a.assignment_id, generation: '2' })], may)
  await r.reached(a, 'refused', { generation: '2' })
  t.equal(r.supervisor.running(), 0)
})

t.test('fenced work gets SIGTERM at once and SIGKILL after the given grace, not its own', async t => {
  const r = await rig(t)
  const [polite, rude, other] = [owned(), owned({ script: IGNORES_SIGTERM, stop_grace_ms: 3_600_000 }), owned()]
  r.supervisor.reconcile([polite, rude, other], may)
  await printed(r, rude, 'me')
  r.supervisor.fence([polite.assignment_id, rude.assignment_id, 'unknown'], 100)
  t.match(await r.reached(polite, 'stopped'), { error: 'fenced: lease ended', exit_signal: 'SIGTERM' })
  t.match(await r.reached(rude, 'stopped'), { error: 'fenced: lease ended', exit_signal: 'SIGKILL' })
  t.strictSame(r.states(other), ['running'])
})

t.test('fenced work starts again by a later reconcile that lists it, also in a hold, and only then', async t => {
  const r = await rig(t, { backoff: { firstMs: 1, jitter: 0 } })
  const a = owned()
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'running')
  r.supervisor.fence([a.assignment_id], 100)
  await r.reached(a, 'stopped')
  r.supervisor.fence([a.assignment_id], 100)
  t.strictSame(r.states(a), ['running', 'stopping', 'stopped'], 'fencing what is fenced says nothing new')
  r.supervisor.reconcile([a], mayNot)
  await waitFor(() => r.last(a)?.state === 'running', { label: 'it runs again' })
  t.strictSame(r.states(a), ['running', 'stopping', 'stopped', 'running'])
})

t.test('what is fenced where it runs is told on, and starts again by a later reconcile', async t => {
  const started: LocalProcess[] = []
  const told: string[] = []
  const stateDir = await temporaryFolder(t)
  const local = createLocalHost()
  const r = await rig(t, { stateDir, onFenced: id => told.push(id), host: { markPrefix: markPrefix(stateDir), start: spec => started[started.push(local.start(spec)) - 1]! } })
  const a = owned()
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'running')
  started[0]!.fence(10_000)
  t.match(await r.reached(a, 'stopped'), { error: 'fenced: lease ended', exit_signal: 'SIGTERM' })
  t.strictSame(told, [a.assignment_id])
  r.supervisor.reconcile([a], mayNot)
  await waitFor(() => r.last(a)?.state === 'running', { label: 'it runs again' })
})

t.test('a fence shortens a stop that is under way', async t => {
  const r = await rig(t)
  const a = owned({ script: IGNORES_SIGTERM, stop_grace_ms: 3_600_000 })
  r.supervisor.reconcile([a], may)
  await printed(r, a, 'me')
  r.supervisor.reconcile([{ ...a, wanted: 'stop' }], may)
  r.supervisor.fence([a.assignment_id], 50)
  t.match(await r.reached(a, 'stopped'), { exit_signal: 'SIGKILL' })
})

t.test('a fence calls off a start that is timed', async t => {
  const r = await rig(t, { backoff: { firstMs: 100, jitter: 0 } })
  const a = owned({ script: 'exit 1' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff')
  r.supervisor.fence([a.assignment_id], 100)
  t.match(await r.reached(a, 'stopped'), { error: 'fenced: lease ended' })
  const b = owned({ script: 'exit 1' })
  r.supervisor.reconcile([b], may)
  await r.reached(b, 'backoff', { restarts: 2 })
  t.equal(r.last(a)?.state, 'stopped', 'the time for its restart is long over')
})

t.test('in a hold nothing new starts; what this session ran under that epoch is restarted', async t => {
  const r = await rig(t)
  const [ran, fresh, reclaimed] = [owned({ script: 'echo started=1; while [ ! -e go ]; do sleep 0.01; done; rm go; exit 1' }), owned(), owned()]
  r.supervisor.reconcile([ran, reclaimed], may)
  await printed(r, ran, 'started')
  r.supervisor.reconcile([ran, fresh, { ...reclaimed, epoch: '2' }], mayNot)
  t.strictSame(r.states(fresh), [])
  writeFileSync(join(r.stateDir, 'work', ran.assignment_id, 'go'), '')
  await r.reached(ran, 'backoff')
  await r.reached(ran, 'running', { restarts: 1 })
  await r.reached(reclaimed, 'stopping')
  await waitFor(() => r.supervisor.running() === 1, { label: 'the copy of the old epoch is gone' })
  t.strictSame(r.states(reclaimed), ['running', 'stopping'], 'its new epoch waits')
  r.supervisor.reconcile([ran, fresh, { ...reclaimed, epoch: '2' }], may)
  await r.reached(fresh, 'running')
  await r.reached(reclaimed, 'running', { epoch: '2' })
})

t.test('what was not listed for a while may come back in a hold under the epoch it ran with', async t => {
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
  t.ok(r.reports.every(report => report.epoch === '1'), 'of what was never begun here nothing is told')
})

t.test('a work folder goes with its assignment when it is empty, and stays when the workload left something', async t => {
  const r = await rig(t)
  const [tidy, untidy] = [owned(), owned({ script: 'echo x > kept; echo done=1; sleep 1000' })]
  r.supervisor.reconcile([tidy, untidy], may)
  await printed(r, untidy, 'done')
  r.supervisor.reconcile([], may)
  await Promise.all([r.reached(tidy, 'stopped'), r.reached(untidy, 'stopped')])
  t.notOk(existsSync(join(r.stateDir, 'work', tidy.assignment_id)))
  t.ok(existsSync(join(r.stateDir, 'work', untidy.assignment_id, 'kept')))
})

t.test('thirty at once start and stop together', async t => {
  const r = await rig(t)
  const set = Array.from({ length: 30 }, () => owned())
  r.supervisor.reconcile(set, may)
  t.equal(r.supervisor.running(), 30)
  r.supervisor.reconcile(set.map(a => ({ ...a, wanted: 'stop' })), may)
  await waitFor(() => set.every(a => r.last(a)?.state === 'stopped'), { label: 'all are stopped' })
  t.equal(r.supervisor.running(), 0)
})
