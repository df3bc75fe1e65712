import t from 'tap'
import { judge, type Case, type Life } from '../../faults/judge.js'
import { lifeOf } from '../../faults/stamps.js'

const life = (firstMs: number, lastMs: number, more: Partial<Life> = {}): Life => ({
  assignment: '1',
  node: 'host-a',
  epoch: 1n,
  pid: 100,
  copy: `${more.node ?? 'host-a'} ${more.epoch ?? 1n}`,
  role: 'main',
  firstMs,
  lastMs,
  ...more,
})
const aCase = (lives: Life[], more: Partial<Case> = {}): Case => ({
  lives,
  written: [],
  assignments: ['1'],
  fromMs: 0,
  toMs: 1_000,
  robbed: [],
  ...more,
})
const onB = { node: 'host-b', epoch: 3n, pid: 200 }

t.test('one owner after the other is in order', async (t) => {
  t.match(judge(aCase([life(0, 400), life(450, 1_000, onB)])), {
    ok: true,
    overlapMs: 0,
    lost: [],
    gaps: [{ assignment: '1', ms: 0 }],
  })
})

t.test(
  'two owners at once are an overlap, with its length, its moment and both processes',
  async (t) => {
    const { ok, overlapMs, overlaps } = judge(aCase([life(0, 700), life(450, 1_000, onB)]))
    t.notOk(ok)
    t.equal(overlapMs, 250)
    t.match(overlaps, [
      {
        fromMs: 450,
        ms: 250,
        by: [
          { node: 'host-a', epoch: 1n, pid: 100, role: 'main' },
          { node: 'host-b', epoch: 3n, pid: 200, role: 'main' },
        ],
      },
    ])
  },
)

t.test('a grandchild that outlives its instance is an owner too, and is named', async (t) => {
  const grandchild = life(10, 900, { role: 'grandchild', pid: 101 })
  const { overlaps } = judge(aCase([life(0, 400), grandchild, life(450, 1_000, onB)]))
  t.match(overlaps, [{ ms: 450, by: [{ pid: 101, role: 'grandchild' }, { pid: 200 }] }])
  t.equal(
    judge(aCase([life(0, 1_000), { ...grandchild, lastMs: 1_000 }])).ok,
    true,
    'beside its own instance it is none',
  )
})

t.test('two instances on one node are an overlap as well', async (t) => {
  t.equal(
    judge(aCase([life(0, 600, { copy: 'x' }), life(500, 1_000, { copy: 'y' })])).overlapMs,
    100,
  )
})

t.test('instances of different assignments have nothing to do with each other', async (t) => {
  t.equal(
    judge(
      aCase([life(0, 1_000), life(0, 1_000, { ...onB, assignment: '2' })], {
        assignments: ['1', '2'],
      }),
    ).ok,
    true,
  )
})

t.test('an interruption is a gap and no offence', async (t) => {
  t.match(judge(aCase([life(0, 300), life(800, 1_000, onB)])), { ok: true, gaps: [{ ms: 500 }] })
})

t.test('a grandchild alone is no service', async (t) => {
  t.match(
    judge(aCase([life(0, 300), life(10, 700, { role: 'grandchild' }), life(800, 1_000, onB)])),
    { gaps: [{ ms: 500 }] },
  )
})

t.test('an assignment that does not run at the end is lost', async (t) => {
  t.match(judge(aCase([life(0, 600)])), { ok: false, lost: ['1'], gaps: [{ ms: 400 }] })
  t.match(judge(aCase([])), { ok: false, lost: ['1'] }, 'also one that never ran')
  t.match(
    judge(aCase([life(0, 600), life(10, 1_000, { role: 'grandchild' })])),
    { lost: ['1'] },
    'a leftover does not count',
  )
})

t.test('an epoch that goes back, or is given out twice, is an offence', async (t) => {
  t.match(judge(aCase([life(0, 400, { epoch: 5n }), life(450, 1_000, onB)])), {
    ok: false,
    epochsBack: [{ before: '5 on host-a', after: '3 on host-b' }],
  })
  t.match(judge(aCase([life(0, 400), life(450, 1_000, { ...onB, epoch: 1n })])), {
    ok: false,
    epochsBack: [{ before: '1 on host-a', after: '1 on host-b' }],
  })
  t.equal(
    judge(aCase([life(0, 400, { copy: 'x' }), life(450, 1_000, { copy: 'y' })])).ok,
    true,
    'a restart on the same node keeps it',
  )
})

t.test(
  'a row written under an epoch below one that has written already came too late',
  async (t) => {
    const row = (epoch: bigint, assignment = '1') => ({ assignment, epoch, node: 'host-a' })
    const verdict = judge(
      aCase([life(0, 1_000)], { written: [row(1n), row(1n, '2'), row(3n), row(1n), row(3n)] }),
    )
    t.match(verdict, { ok: false, lateWrites: [{ assignment: '1', epoch: 1n }] })
    t.equal(verdict.lateWrites.length, 1)
  },
)

t.test('a node that was robbed is an offence', async (t) => {
  t.match(judge(aCase([life(0, 1_000)], { robbed: ['host-b'] })), { ok: false, robbed: ['host-b'] })
})

t.test('what nothing had a right to end is an offence when it ends', async (t) => {
  const unharmed = { unharmed: ['1'], fromMs: 100 }
  const again = { copy: 'another', pid: 101 }
  t.match(judge(aCase([life(0, 1_000)], unharmed)), { ok: true, killed: [] })
  t.match(judge(aCase([life(0, 400), life(410, 1_000, again)], unharmed)), {
    ok: false,
    killed: ['1'],
  })
  t.match(
    judge(aCase([life(0, 90), life(95, 1_000, again)], unharmed)),
    { ok: true, killed: [] },
    'what had ended before is none',
  )
  t.match(
    judge(aCase([life(0, 400), life(410, 1_000, again)], { fromMs: 100 })),
    { ok: true, killed: [] },
    'where something gave a right, ending is none',
  )
})

t.test('a file of stamps is read up to the last complete line', async (t) => {
  t.match(
    lifeOf('10.5 start 7 3 host-a 99 99-10 main\n25.5 alive 7 3 host-a 99 99-10 main\n40.5 al'),
    {
      assignment: '7',
      epoch: 3n,
      node: 'host-a',
      pid: 99,
      copy: '99-10',
      role: 'main',
      firstMs: 10.5,
      lastMs: 25.5,
    },
  )
  t.equal(lifeOf('10.5 sta'), undefined)
})
