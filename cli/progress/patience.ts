/** How long a command that looks on waits for a database that is away: from its last answer. */
import { isConnectionProblem } from '../errors.js'

export interface Patience {
  answered(): void
  /** Throws what more patience does not help with: no matter of the connection, unless `passes` says that it passes all the same, or away for too long. */
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
