/** The metronome's call to the database. Each task holds its own single statement. */
import { createConnection } from '../postgres/connection.js'
import type { ServerClockReading } from '../postgres/server-clock.js'

export interface TickAnswer {
  rounds: string
  next_ms: number
  hold: boolean
  clock_ms: number
}

export interface WorkerDb {
  /** The sign of life of this worker. Starts the due rounds. */
  tick(
    worker: string,
    poolIds: readonly string[],
    last: ServerClockReading,
    deadlineMs: number,
  ): Promise<TickAnswer>
  /** A graceful end: the database no longer waits for the worker's ticks. */
  end(worker: string, deadlineMs: number): Promise<void>
  close(): void
}

export function createWorkerDb({ databaseUrl }: { databaseUrl: string }): WorkerDb {
  const connection = createConnection({ databaseUrl, applicationName: 'mooring worker: metronome' })
  return {
    async tick(worker, poolIds, last, deadlineMs) {
      // pool ids are pool-<hex>: they need no quoting in an array literal
      const rows = await connection.run(
        deadlineMs,
        (sql) => sql<TickAnswer[]>`
        select t.* from mooring.tick(
          ${worker}, ${`{${poolIds.join(',')}}`}::text[],
          last_clock_ms => ${last.clockMs}::float8, since_ms => ${last.sinceMs}::float8) t`,
      )
      return rows[0]!
    },
    async end(worker, deadlineMs) {
      await connection.run(deadlineMs, (sql) => sql`select mooring_internal.end_worker(${worker})`)
    },
    close: connection.close,
  }
}
