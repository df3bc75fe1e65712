import pino from 'pino'
import t, { type Test } from 'tap'
import { CLOCK_GRAIN_MS } from '../../../host/boot-clock.js'
import {
  createLeases,
  isLeased,
  deadlinesOf,
  type LeasedRow,
} from '../../../agent/session/lease.js'
import type { LeaseTerm } from '../../../agent/warden/protocol.js'
import { waitFor } from '../../helpers/wait-for.js'

const log = pino({ level: 'silent' })

function row(changes: Partial<LeasedRow> = {}): LeasedRow {
  return {
    assignment_id: '1',
    epoch: '1',
    type: 'deployment',
    on_lost: 'stop',
    lease_ttl_ms: 12_000,
    stop_grace_ms: 10_000,
    ...changes,
  }
}

/** Leases on a clock that the test moves, and everything they fenced. */
function leases(t: Test, reapMarginMs = 3_000) {
  const clock = { nowMs: 1_000_000 }
  const fenced: { ids: readonly string[]; graceMs: number }[] = []
  const over: string[] = []
  const renewed: LeaseTerm[] = []
  const kept = createLeases({
    reapMarginMs,
    fence: (ids, graceMs) => fenced.push({ ids, graceMs }),
    onOver: (id) => over.push(id),
    renew: (terms) => renewed.push(...terms),
    log,
    clock: () => clock.nowMs,
  })
  t.teardown(() => kept.stop())
  return { clock, fenced, over, renewed, ...kept }
}

t.test(
  'a lease ends before the reaper may free the row, by the margin or a tenth of the lease',
  (t) => {
    t.same(deadlinesOf(row(), 0, 3_000), {
      termAtMs: 10_800 - CLOCK_GRAIN_MS - 4_000,
      endAtMs: 10_800 - CLOCK_GRAIN_MS,
    }) // grace: a third of the lease
    t.same(deadlinesOf(row({ stop_grace_ms: 500 }), 0, 3_000), {
      termAtMs: 10_300 - CLOCK_GRAIN_MS,
      endAtMs: 10_800 - CLOCK_GRAIN_MS,
    })
    t.same(deadlinesOf(row(), 0, 600), {
      termAtMs: 7_400 - CLOCK_GRAIN_MS,
      endAtMs: 11_400 - CLOCK_GRAIN_MS,
    }) // a margin below a tenth
    t.same(deadlinesOf(row({ lease_ttl_ms: 300 }), 50, 3_000), {
      termAtMs: 50 + 170 - CLOCK_GRAIN_MS,
      endAtMs: 50 + 270 - CLOCK_GRAIN_MS,
    })
    t.end()
  },
)

t.test(
  'the whole grace fits before the end, and the end before the lease of the beat, in any case',
  (t) => {
    for (const ttl of [300, 301, 999, 12_000, 3_600_000]) {
      for (const grace of [0, 1, ttl / 4, ttl, 10 * ttl]) {
        for (const margin of [50, ttl / 10, ttl]) {
          const { termAtMs, endAtMs } = deadlinesOf(
            row({ lease_ttl_ms: ttl, stop_grace_ms: grace }),
            0,
            margin,
          )
          t.ok(
            termAtMs > 0 && termAtMs <= endAtMs && endAtMs < ttl,
            `ttl ${ttl} grace ${grace} margin ${margin}`,
          )
        }
      }
    }
    t.end()
  },
)

t.test('daemons and what is to be kept are never fenced', async (t) => {
  t.notOk(isLeased(row({ type: 'daemon' })))
  t.notOk(isLeased(row({ on_lost: 'keep' })))
  t.ok(isLeased(row()))
  const { clock, fenced, confirm, isLive } = leases(t)
  confirm(
    [
      row({ assignment_id: '1', type: 'daemon' }),
      row({ assignment_id: '2', on_lost: 'keep' }),
      row({ assignment_id: '3' }),
    ],
    clock.nowMs - 20_000,
  )
  await waitFor(() => fenced.length > 0, { label: 'the one is fenced' })
  t.same(fenced, [{ ids: ['3'], graceMs: 0 }])
  t.ok(isLive(row({ assignment_id: '1', type: 'daemon' })))
})

t.test(
  'what no beat confirms is stopped with its grace, and the kill comes at the end of the lease',
  async (t) => {
    const { clock, fenced, confirm, isLive } = leases(t)
    confirm([row()], clock.nowMs - 6_800) // SIGTERM is due at 6,790 after the beat
    await waitFor(() => fenced.length > 0, { label: 'fenced' })
    t.same(fenced, [{ ids: ['1'], graceMs: 3_990 }])
    t.notOk(isLive(row()), 'nothing of it may be started any more')
  },
)

t.test('a beat that confirms extends; a late answer of an older beat takes nothing back', (t) => {
  const { clock, confirm, isLive } = leases(t)
  confirm([row()], clock.nowMs)
  confirm([row()], clock.nowMs - 30_000)
  clock.nowMs += 6_000
  t.ok(isLive(row()))
  clock.nowMs += 1_000
  t.notOk(isLive(row()))
  t.end()
})

t.test(
  'each (assignment, epoch) is confirmed by itself: what a beat does not list is not extended',
  async (t) => {
    const { clock, fenced, confirm, isLive } = leases(t)
    const [kept, taken] = [row({ assignment_id: '1' }), row({ assignment_id: '2' })]
    confirm([kept, taken], clock.nowMs)
    clock.nowMs += 5_000
    confirm([kept], clock.nowMs)
    t.notOk(isLive(taken), 'no longer listed: nothing of it may be started')
    clock.nowMs += 3_000
    confirm([kept], clock.nowMs)
    await waitFor(() => fenced.length > 0, {
      label: 'what was taken is stopped at its own end at the latest',
    })
    t.same(
      fenced.map((each) => each.ids),
      [['2']],
    )
    t.ok(isLive(kept))
  },
)

t.test(
  'an epoch that was never confirmed may not run, though an older one of the same assignment may',
  (t) => {
    const { clock, confirm, isLive } = leases(t)
    confirm([row({ epoch: '4' })], clock.nowMs)
    t.ok(isLive(row({ epoch: '4' })))
    t.notOk(isLive(row({ epoch: '6' })))
    confirm([row({ epoch: '6' })], clock.nowMs)
    t.ok(isLive(row({ epoch: '6' })))
    t.notOk(isLive(row({ epoch: '4' })))
    t.end()
  },
)

t.test('a beat after the fence says that something came back to life', async (t) => {
  const { clock, fenced, confirm, isLive } = leases(t)
  t.notOk(confirm([row()], clock.nowMs - 7_000))
  await waitFor(() => fenced.length > 0, { label: 'fenced' })
  t.ok(confirm([row()], clock.nowMs))
  t.ok(isLive(row()))
  t.notOk(confirm([row()], clock.nowMs), 'once')
})

t.test('a right is over when it lapsed, when the row is not listed, and under a new epoch', (t) => {
  const { clock, over, confirm } = leases(t)
  confirm([row()], clock.nowMs)
  clock.nowMs += 10_800 - CLOCK_GRAIN_MS - 1
  confirm([row()], clock.nowMs)
  t.same(over, [], 'fenced, but confirmed before its end')
  clock.nowMs += 10_800 - CLOCK_GRAIN_MS
  confirm([row()], clock.nowMs)
  t.same(over.splice(0), ['1'], 'confirmed after its end')
  confirm([row()], clock.nowMs)
  t.same(over, [], 'once')
  confirm([], clock.nowMs)
  confirm([row()], clock.nowMs)
  t.same(over.splice(0), ['1'], 'released in between')
  confirm([row({ epoch: '9' })], clock.nowMs)
  t.same(over.splice(0), ['1'], 'another epoch')
  confirm([row({ assignment_id: '2', on_lost: 'keep' })], clock.nowMs)
  over.splice(0)
  clock.nowMs += 3_600_000
  confirm([row({ assignment_id: '2', on_lost: 'keep' })], clock.nowMs)
  t.notOk(over.includes('2'), 'what needs no lease loses none')
  t.end()
})

t.test('different leases on one node end each at its own time', async (t) => {
  const { clock, fenced, confirm } = leases(t)
  confirm(
    [
      row({ assignment_id: '1', lease_ttl_ms: 300, stop_grace_ms: 50 }),
      row({ assignment_id: '2' }),
      row({ assignment_id: '3', lease_ttl_ms: 300, stop_grace_ms: 50 }),
    ],
    clock.nowMs,
  )
  clock.nowMs += 250
  await waitFor(() => fenced.length > 0, { label: 'the short ones' })
  t.same(fenced, [{ ids: ['1', '3'], graceMs: 10 }])
})

t.test('a clock that jumped over a suspension is noticed at the next look', async (t) => {
  const { clock, fenced, confirm } = leases(t)
  confirm([row()], clock.nowMs)
  clock.nowMs += 3_600_000
  await waitFor(() => fenced.length > 0, { label: 'fenced' })
  t.same(fenced, [{ ids: ['1'], graceMs: 0 }])
})

t.test(
  'the warden gets the term of every confirmed row, and null for a row that is not fenced',
  (t) => {
    const { renewed, confirm } = leases(t)
    const leased = row()
    confirm(
      [
        leased,
        row({ assignment_id: '2', epoch: '7', type: 'daemon' }),
        row({ assignment_id: '3', on_lost: 'keep' }),
      ],
      1_000_000,
    )
    const { termAtMs, endAtMs } = deadlinesOf(leased, 1_000_000, 3_000)
    t.same(renewed, [
      ['1', '1', termAtMs, endAtMs],
      ['2', '7', null, null],
      ['3', '1', null, null],
    ])
    renewed.length = 0
    confirm([leased], 999_000)
    t.same(renewed, [['1', '1', termAtMs, endAtMs]], 'an answer that comes late takes nothing back')
    t.end()
  },
)

t.test(
  'what the warden fenced, though a beat had come through meanwhile, is revived by the next',
  (t) => {
    const { clock, confirm, isLive, noteFenced } = leases(t)
    confirm([row()], clock.nowMs)
    t.equal(confirm([row()], clock.nowMs), false, 'nothing to revive')
    noteFenced('1')
    noteFenced('unknown')
    t.notOk(isLive(row()))
    t.equal(confirm([row()], clock.nowMs), true, 'so the set is applied once more')
    t.ok(isLive(row()))
    t.end()
  },
)
