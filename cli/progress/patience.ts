/** How long a watching command waits for an absent database, counted from the last answer. */
import { isConnectionProblem } from '../errors.js'

export interface Patience {
  answered(): void
  /**
   * Throws the error when waiting does not help: `passes` is false, or the last answer is too old.
   * By default connection problems pass.
   */
  bear(error: unknown, passes?: boolean): void
}

const PATIENCE_MS = 60_000

export function createPatience(ms: number = PATIENCE_MS): Patience {
  let answeredAt = performance.now()
  return {
    answered() {
      answeredAt = performance.now()
    },
    bear(error, passes = isConnectionProblem(error)) {
      if (!passes || performance.now() - answeredAt > ms) throw error
    },
  }
}
