/** The process that migrates: takes one order from its parent, answers, and ends with it. See migrate.ts. */
import type { MigrateFailure, MigrateMessage, MigrateOrder } from './migrate.js'
import { runMigrations } from './steps.js'

const tell = (message: MigrateMessage, then = () => {}): void => void process.send?.(message, then)

process.once('disconnect', () => process.exit(1)) // the parent is gone, and with it whoever wanted this
process.once('message', (order: MigrateOrder) => {
  runMigrations(order, (message) => tell({ kind: 'log', message }))
    .then(
      (result): MigrateMessage => ({ kind: 'done', result }),
      (thrown: Error): MigrateMessage => {
        // of several addresses of one host the first speaks, as in problemOf
        const { message, code, detail, hint, address, hostname, port } = (
          thrown instanceof AggregateError ? thrown.errors[0] : thrown
        ) as MigrateFailure
        return { kind: 'failed', message, code, detail, hint, address, hostname, port }
      },
    )
    // at once: graphile-migrate keeps an idle pool for 200 ms, and nothing is left to do
    .then((answer) => tell(answer, () => process.exit(0)))
})
