/** What ends by itself, cannot be started or will not be run: counted, told, and tried again. */
import t from 'tap'
import { waitFor } from '../../helpers/wait-for.js'
import { owned, ownedPackage, printed, rig } from '../rig.js'
import { NO_SPREAD } from '../../../host/backoff.js'

const may = { mayStart: true }

t.test('Y37, defect 11: a crash loop is counted and backs off', async (t) => {
  const r = await rig(t, { backoff: { firstMs: 20, maxMs: 80, spread: NO_SPREAD } })
  const a = owned({ script: 'exit 3' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff', { restarts: 5 })
  const backoffs = r.reports.filter((report) => report.state === 'backoff').slice(0, 5)
  t.strictSame(
    backoffs.map((report) => report.next_start_in_ms),
    [20, 40, 80, 80, 80],
  )
  t.strictSame(
    backoffs.map((report) => report.restarts),
    [1, 2, 3, 4, 5],
  )
  t.match(backoffs[0], {
    exit_code: 3,
    exit_signal: null,
    error: /^exited with code 3 after \d+\.\d s$/,
    pid: null,
  })
})

t.test('a stable process starts the row of delays again, and the counter goes on', async (t) => {
  const r = await rig(t, { backoff: { firstMs: 10, spread: NO_SPREAD, stableMs: 4_000 } })
  const a = owned({
    script:
      'if [ -e second ]; then touch third; sleep 4.5; fi; ' +
      '[ -e first ] && touch second; touch first; exit 1',
  })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff', { restarts: 3 })
  t.strictSame(
    r.reports
      .filter((report) => report.state === 'backoff')
      .slice(0, 3)
      .map((report) => report.next_start_in_ms),
    [10, 20, 10],
  )
})

t.test('an edit during a backoff starts at once, with counters at zero', async (t) => {
  const r = await rig(t, { backoff: { firstMs: 3_600_000, maxMs: 3_600_000 } })
  const a = owned({ script: 'exit 1' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'backoff')
  const edited = owned({ assignment_id: a.assignment_id, generation: '2' })
  await waitFor(
    () => {
      r.supervisor.reconcile([edited], may)
      return r.last(a)?.state === 'running'
    },
    { label: 'the edited one runs' },
  )
  t.match(r.last(a), { generation: '2', restarts: 0 })
})

t.test(
  'what a workload leaves behind when it ends by itself is gone before it is started again',
  async (t) => {
    const r = await rig(t)
    const a = owned({
      stop_grace_ms: 200,
      script:
        '[ -e here ] && ! kill -0 $(cat here) 2>/dev/null && echo clean=1; ' +
        'setsid -f sh -c \'trap "" TERM; echo $$ > here; while :; do sleep 0.02; done\'; ' +
        'while [ ! -s here ]; do sleep 0.01; done; exit 1',
    })
    r.supervisor.reconcile([a], may)
    t.equal(await printed(r, a, 'clean'), 1)
  },
)

t.test('a signal is told as the reason, and what was printed is not', async (t) => {
  const r = await rig(t)
  const a = owned({ script: 'echo the password is hunter2 >&2; kill -SEGV $$' })
  r.supervisor.reconcile([a], may)
  t.match(await r.reached(a, 'backoff'), {
    exit_code: null,
    exit_signal: 'SIGSEGV',
    error: /^ended by SIGSEGV after/,
  })
  t.notMatch(JSON.stringify(r.reports), /hunter2/)
})

t.test(
  'what cannot be started is failed, with reason and backoff, and disturbs nothing else',
  async (t) => {
    const r = await rig(t)
    const good = owned()
    const bad: [string, ReturnType<typeof owned>, RegExp][] = [
      [
        'no such program',
        owned({ command: 'no-such-program' }),
        /there is no program "no-such-program" on this host/,
      ],
      ['not executable', owned({ command: '/etc/passwd' }), /EACCES/],
      ['NUL in an argument', owned({ args: ['a\0b'] }), /argument 1 contains a NUL/],
      [
        'NUL in the environment',
        owned({ env: { TOKEN: 'hunter2\0' } }),
        /variable TOKEN contains a NUL/,
      ],
      ['too large', owned({ env: { BIG: 'x'.repeat(200_000) } }), /E2BIG/],
      ['NUL in the command', owned({ command: 's\0h' }), /NUL/],
    ]
    r.supervisor.reconcile([...bad.map(([, a]) => a), good], may)
    for (const [name, a, reason] of bad) {
      t.match(
        await r.reached(a, 'failed'),
        { error: reason, pid: null, next_start_in_ms: 40 },
        name,
      )
      await waitFor(() => r.states(a).length > 1, { label: 'it is tried again' })
    }
    t.strictSame(r.states(good), ['running'])
    t.equal(r.supervisor.running(), 1)
    t.notMatch(JSON.stringify(r.reports), /hunter2|xxxxx/)
  },
)

t.test('what failed is settled as soon as it is no longer wanted', async (t) => {
  const r = await rig(t, { backoff: { firstMs: 3_600_000, maxMs: 3_600_000 } })
  const a = owned({ command: 'no-such-program' })
  r.supervisor.reconcile([a], may)
  await r.reached(a, 'failed')
  r.supervisor.reconcile([{ ...a, wanted: 'stop' }], may)
  t.equal(r.last(a)?.state, 'stopped')
})

t.test(
  'a refusal names its reason, is repeated at each reconcile, and is judged again for a new spec',
  async (t) => {
    const r = await rig(t, { allowExec: false, trusts: /^http-server@/ })
    const a = owned()
    r.supervisor.reconcile([a], may)
    r.supervisor.reconcile([a], may)
    t.match(r.reports, [
      { state: 'refused', error: /--allow-exec/, pid: null },
      { state: 'refused' },
    ])
    r.supervisor.reconcile(
      [ownedPackage('is-odd', '3.0.1', { assignment_id: a.assignment_id, generation: '2' })],
      may,
    )
    t.match(r.last(a), {
      state: 'refused',
      generation: '2',
      error: /is-odd@3.0.1 is not trusted here/,
    })
    r.supervisor.reconcile(
      [ownedPackage('git+ssh://x/y', '1.0.0', { assignment_id: a.assignment_id, generation: '3' })],
      may,
    )
    t.match(r.last(a), { state: 'refused', error: /is not a registry name/ })
    t.equal(r.supervisor.running(), 0)
  },
)

t.test('a running instance whose new spec is refused ends, and is refused', async (t) => {
  const r = await rig(t, { trusts: null })
  const a = owned()
  r.supervisor.reconcile([a], may)
  r.supervisor.reconcile(
    [ownedPackage('x', '1.0.0', { assignment_id: a.assignment_id, generation: '2' })],
    may,
  )
  await r.reached(a, 'refused', { generation: '2' })
  t.equal(r.supervisor.running(), 0)
})
