import t from 'tap'
import type { EventRow, FleetRow, NodeRow } from '../../../cli/queries/rows.js'
import { changeLine, changesBetween, newEvents, NOTHING } from '../../../cli/up/snapshot.js'
import type { FleetView, Snapshot } from '../../../cli/up/snapshot.js'
import { frameOf } from '../../../cli/up/frame.js'

const event = (id: number, more: Partial<EventRow> = {}): EventRow => ({
  id: String(id),
  at: new Date(0),
  kind: 'claimed',
  assignment_id: '7',
  deployment_id: '3',
  node: 'host-a',
  epoch: '1',
  actor: 'app',
  reason: null,
  detail: null,
  ...more,
})
const fleet = (more: Partial<FleetRow> = {}): FleetRow => ({
  nodes: 1,
  healthy: 1,
  deployments: 21,
  assignments: 21,
  assigned: 21,
  running: 20,
  waiting: 0,
  failing: 0,
  version: 1,
  hold: null,
  reap_paused: null,
  placement_lock_holder: null,
  workers: 1,
  ...more,
})
const node = (more: Partial<NodeRow> = {}): NodeRow => ({
  node: 'host-a',
  health: 'HEALTHY',
  enabled: true,
  draining: false,
  beat_age: '00:00:01',
  assignments: 21,
  running: 20,
  cpu_pct: 1,
  memory_mb: 2,
  disk_free_pct: 50,
  weight: 100,
  labels: {},
  drivers: ['npm'],
  session: null,
  ...more,
})
const view = (more: Partial<FleetView> = {}): FleetView => ({
  fleet: fleet(),
  nodes: [node()],
  states: [
    { node: 'host-a', run_state: 'running', assignments: 20 },
    { node: 'host-a', run_state: 'starting', assignments: 1 },
  ],
  unplaced: [],
  events: [],
  ...more,
})
const snapshot = (more: Partial<Snapshot> = {}): Snapshot => ({
  view: view(),
  problem: null,
  processes: [],
  ...more,
})
const lines = (before: Snapshot, after: Snapshot) => changesBetween(before, after).map(changeLine)

t.test('a quiet fleet says nothing, however old its beats grow', async (t) => {
  t.same(
    lines(
      snapshot(),
      snapshot({ view: view({ nodes: [node({ beat_age: '00:00:02', cpu_pct: 9 })] }) }),
    ),
    [],
  )
})

t.test('each change is one line', async (t) => {
  t.same(lines(NOTHING, snapshot()), [
    'node host-a: HEALTHY, 21 assigned, 20 running, 1 starting',
    'fleet: 1 of 1 nodes healthy, 21 deployments, 21 of 21 assigned, 20 running, 0 ' +
      'waiting, 1 worker',
  ])
  t.match(
    lines(
      snapshot(),
      snapshot({ view: view({ events: [event(5, { reason: 'fewest\nassigned' })] }) }),
    ),
    [/^event \d\d:\d\d:\d\d claimed assignment 7 deployment 3 host-a epoch 1 - fewest assigned$/],
  )
  t.same(lines(snapshot(), snapshot({ view: view({ nodes: [] }) })), ['node host-a: forgotten'])
  t.same(
    lines(
      snapshot(),
      snapshot({
        processes: [
          { name: 'worker', state: 'waiting', pid: null, restarts: 1, note: 'exited with 1' },
        ],
      }),
    ),
    ['process worker: waiting, restarts 1: exited with 1'],
  )
})

t.test('a database that is away is said once, and its return once', async (t) => {
  const away = snapshot({ problem: 'no answer' })
  t.same(lines(snapshot(), away), ['database: no answer'])
  t.same(lines(away, away), [])
  t.same(lines(away, snapshot()), ['database: the database answers again'])
})

t.test('what happened before the first look is not shown as news', async (t) => {
  t.same(
    lines(NOTHING, snapshot({ view: view({ events: [event(1)] }) })).filter((line) =>
      line.startsWith('event'),
    ),
    [],
  )
})

t.test('an event that commits late, with a lower id, is still shown', async (t) => {
  t.same(
    newEvents([event(1), event(3)], [event(1), event(2), event(3)]).map((row) => row.id),
    ['2'],
  )
})

t.test(
  'the picture shows nodes, what waits and why, and as many events as there is room',
  async (t) => {
    const frame = frameOf(
      snapshot({
        view: view({
          events: Array.from({ length: 40 }, (_, i) => event(i + 1)),
          unplaced: [
            {
              assignment_id: '9',
              deployment_id: '4',
              package_name: 'api',
              waiting_since: null,
              reason: 'no node trusts api@1.0.0',
            },
          ],
        }),
        processes: [
          { name: 'host-b', state: 'waiting', pid: null, restarts: 2, note: 'exited with 1' },
          { name: 'worker', state: 'running', pid: 4, restarts: 0, note: null },
        ],
      }),
      { rows: 24, footer: 'type this' },
    )
    t.ok(frame.length <= 24, `${frame.length} lines`)
    const text = frame.join('\n')
    t.match(text, /host-a +HEALTHY +1\.0 s +21 +20 +1 starting/)
    t.match(text, /waiting: assignment 9 \(api\): no node trusts api@1\.0\.0/)
    t.match(text, /process host-b: waiting, restarts 2: exited with 1/)
    t.notMatch(text, /process worker/)
    t.equal(frame.at(-1), 'type this')
  },
)
