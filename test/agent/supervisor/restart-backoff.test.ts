import t from 'tap'
import {
  createRestartBackoff,
  DEFAULT_RESTART_BACKOFF,
  type RestartBackoffOptions,
} from '../../../agent/supervisor/restart-backoff.js'
import { NO_SPREAD } from '../../../host/backoff.js'

const plain: RestartBackoffOptions = { ...DEFAULT_RESTART_BACKOFF, spread: NO_SPREAD }

/** The delays after a row of processes, each of which ran this long. */
const delaysAfter = (ranForMs: readonly (number | null)[], options = plain): number[] => {
  const backoff = createRestartBackoff(options)
  return ranForMs.map((ms) => backoff.nextMs(ms))
}

t.test('delays double from one second and stay at a minute', async (t) => {
  t.strictSame(
    delaysAfter([100, null, 100, null, 0, 0, 0, 0]),
    [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000],
  )
  t.equal(delaysAfter(Array(1_000).fill(null)).at(-1), 60_000)
})

t.test('jitter spreads a delay by a fifth to both sides and never past the maximum', async (t) => {
  const low = { ...DEFAULT_RESTART_BACKOFF, random: () => 0 }
  const high = { ...DEFAULT_RESTART_BACKOFF, random: () => 0.999999 }
  t.strictSame(delaysAfter([null], low), [800])
  t.strictSame(delaysAfter([null], high), [1_200])
  t.equal(delaysAfter(Array(50).fill(null), high).at(-1), 60_000)
})

t.test('a stable run ends the row of failures, a short one does not', async (t) => {
  t.strictSame(delaysAfter([100]), [1_000])
  t.equal(delaysAfter([0, 0, 0, 0, 0, 59_999]).at(-1), 32_000)
  t.equal(delaysAfter([0, 0, 0, 0, 0, 60_000]).at(-1), 1_000)
  t.strictSame(delaysAfter([0, 0, 60_000, 0]), [1_000, 2_000, 1_000, 2_000])
})
