import t from 'tap'
import { backoffDelayMs, bothSides, createBackoff, NO_SPREAD } from '../../host/backoff.js'

t.test(
  'delays double up to a limit, their upper half is random, and a success starts the row again',
  (t) => {
    const [least, most] = [createBackoff(100, 2_000, () => 0), createBackoff(100, 2_000, () => 1)]
    t.same(
      [1, 2, 3, 4, 5, 6, 7].map(() => least.nextMs()),
      [50, 100, 200, 400, 800, 1_000, 1_000],
    )
    t.same(
      [1, 2, 3, 4, 5, 6, 7].map(() => most.nextMs()),
      [100, 200, 400, 800, 1_600, 2_000, 2_000],
    )
    most.reset()
    t.equal(most.nextMs(), 100)
    for (let failures = 0; failures < 2_000; failures += 1) least.nextMs()
    t.equal(least.nextMs(), 1_000, 'also after a year of failures')
    t.end()
  },
)

t.test('one parameter expresses every spread, and no delay exceeds the maximum', async (t) => {
  const delays = (options: object): number[] =>
    [1, 2, 3, 4].map((n) => backoffDelayMs(n, { firstMs: 100, maxMs: 400, ...options }))
  t.same(delays({ spread: NO_SPREAD }), [100, 200, 400, 400])
  t.same(delays({ spread: bothSides(0.2), random: () => 0 }), [80, 160, 320, 320])
  t.same(delays({ spread: bothSides(0.2), random: () => 1 }), [120, 240, 400, 400])
  t.equal(backoffDelayMs(0, { firstMs: 100, maxMs: 400, spread: NO_SPREAD }), 100)
})
