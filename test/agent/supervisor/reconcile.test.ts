import t from 'tap'
import { reconcile } from '../../../agent/supervisor/reconcile.js'
import type { Phase, LocalAssignment } from '../../../agent/supervisor/reconcile.js'
import { owned } from '../rig.js'

const PHASES: Phase[] = ['none', 'preparing', 'prepared', 'alive', 'ending', 'waiting', 'refused']

function running(
  assignment_id: string,
  phase: Phase,
  more: Partial<LocalAssignment> = {},
): LocalAssignment {
  return {
    assignment_id,
    epoch: '1',
    generation: '1',
    phase,
    ran_epoch: null,
    fenced: false,
    ...more,
  }
}

const may = { mayStart: true }
const mayNot = { mayStart: false }

t.test(
  'what is owned and not here is started, what is here and not owned is stopped',
  async (t) => {
    const want = owned()
    t.strictSame(reconcile([want], [], may), [{ kind: 'start', assignment_id: want.assignment_id }])
    t.strictSame(reconcile([], [running('9', 'alive')], may), [
      { kind: 'stop', assignment_id: '9', reason: 'no_longer_owned' },
    ])
  },
)

t.test('the same complete set again changes nothing', async (t) => {
  const want = owned()
  for (const phase of ['preparing', 'alive', 'ending', 'waiting'] as const)
    t.strictSame(reconcile([want], [running(want.assignment_id, phase)], may), [], phase)
})

t.test(
  'nothing starts while anything of an earlier instance is alive, whatever changed',
  async (t) => {
    for (const phase of ['alive', 'ending'] as const) {
      for (const change of [{ epoch: '2' }, { generation: '2' }, { wanted: 'stop' as const }]) {
        const want = owned(change)
        const kinds = reconcile([want], [running(want.assignment_id, phase)], may).map(
          (action) => action.kind,
        )
        t.strictSame(kinds, phase === 'alive' ? ['stop'] : [], `${phase} ${JSON.stringify(change)}`)
      }
    }
  },
)

t.test('a change of what must run names itself as the reason to stop', async (t) => {
  const reasonFor = (change: object): unknown => {
    const want = owned(change)
    return reconcile([want], [running(want.assignment_id, 'alive')], may)[0]
  }
  t.match(reasonFor({ epoch: '2' }), { reason: 'epoch_changed' })
  t.match(reasonFor({ generation: '2' }), { reason: 'generation_changed' })
  t.match(reasonFor({ wanted: 'stop' }), { reason: 'stop_wanted' })
})

t.test('what is prepared, timed or refused under an old generation starts again', async (t) => {
  for (const phase of ['preparing', 'prepared', 'waiting', 'refused'] as const) {
    const want = owned({ generation: '2' })
    t.match(
      reconcile([want], [running(want.assignment_id, phase)], may),
      [{ kind: 'start' }],
      phase,
    )
  }
})

t.test(
  'what shall stop and is not alive is settled, and again each time it is listed',
  async (t) => {
    const want = owned({ wanted: 'stop' })
    t.match(reconcile([want], [], may), [{ kind: 'settle' }])
    for (const phase of PHASES.filter((phase) => phase !== 'alive' && phase !== 'ending'))
      t.match(
        reconcile([want], [running(want.assignment_id, phase)], may),
        [{ kind: 'settle' }],
        phase,
      )
  },
)

t.test('in a hold only what this session ran under the same epoch may start', async (t) => {
  const want = owned()
  const id = want.assignment_id
  t.strictSame(reconcile([want], [], mayNot), [])
  t.strictSame(reconcile([want], [running(id, 'prepared')], mayNot), [])
  t.match(reconcile([want], [running(id, 'none', { ran_epoch: '1' })], mayNot), [{ kind: 'start' }])
  t.strictSame(
    reconcile([{ ...want, epoch: '2' }], [running(id, 'none', { ran_epoch: '1' })], mayNot),
    [],
  )
  t.match(
    reconcile([{ ...want, generation: '2' }], [running(id, 'alive', { ran_epoch: '1' })], mayNot),
    [{ kind: 'stop' }],
    'stops are never held',
  )
})

t.test('a fenced assignment is neither kept nor started', async (t) => {
  const want = owned()
  t.match(reconcile([want], [running(want.assignment_id, 'alive', { fenced: true })], may), [
    { kind: 'stop', reason: 'fenced' },
  ])
  t.match(
    reconcile([want], [running(want.assignment_id, 'none', { fenced: true, ran_epoch: '1' })], may),
    [{ kind: 'settle' }],
  )
})

t.test('ends come before beginnings', async (t) => {
  const [first, second] = [owned(), owned({ wanted: 'stop' })]
  t.match(reconcile([first, second], [running(second.assignment_id, 'alive')], may), [
    { kind: 'stop' },
    { kind: 'start' },
  ])
})

t.test('for every phase, any order of the same set gives the same actions', async (t) => {
  const wants = PHASES.map(() => owned())
  const have = wants.map((want, index) => running(want.assignment_id, PHASES[index]!))
  const sorted = (actions: unknown[]): string[] =>
    actions.map((action) => JSON.stringify(action)).sort()
  t.strictSame(
    sorted(reconcile(wants, have, may)),
    sorted(reconcile([...wants].reverse(), [...have].reverse(), may)),
  )
})
