import t from 'tap'
import {
  backoffDelayMs,
  DEFAULT_BACKOFF,
  failuresAfter,
} from '../../../agent/supervisor/restart-backoff.js'

const plain = { ...DEFAULT_BACKOFF, jitter: 0 }

t.test('delays double from one second and stay at a minute', async (t) => {
  t.strictSame(
    [1, 2, 3, 4, 5, 6, 7, 8, 1000].map((n) => backoffDelayMs(n, plain)),
    [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000],
  )
})

t.test('jitter spreads a delay by a fifth to both sides and never past the maximum', async (t) => {
  t.equal(backoffDelayMs(1, { ...DEFAULT_BACKOFF, random: () => 0 }), 800)
  t.equal(backoffDelayMs(1, { ...DEFAULT_BACKOFF, random: () => 0.999999 }), 1_200)
  t.equal(backoffDelayMs(50, { ...DEFAULT_BACKOFF, random: () => 0.999999 }), 60_000)
})

t.test('a stable run ends the row of failures, a short one does not', async (t) => {
  t.equal(failuresAfter(0, 100, plain), 1)
  t.equal(failuresAfter(5, 59_999, plain), 6)
  t.equal(failuresAfter(5, 60_000, plain), 1)
})
