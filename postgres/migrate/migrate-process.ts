/**
 * The process that migrates. It takes one order from its parent, answers, and ends. See migrate.ts.
 */
import type { MigrateFailure, MigrateMessage, MigrateOrder } from './migrate.js'
import { runMigrations } from './steps.js'

const report = (message: MigrateMessage, then = () => {}): void =>
  void process.send?.(message, then)

process.once('disconnect', () => process.exit(1)) // the parent has gone
process.once('message', (order: MigrateOrder) => {
  runMigrations(order, (message) => report({ kind: 'log', message }))
    .then(
      (result): MigrateMessage => ({ kind: 'done', result }),
      (thrown: Error): MigrateMessage => {
        // of several addresses of one host the first error counts, as in the CLI
        const { message, code, detail, hint, address, hostname, port } = (
          thrown instanceof AggregateError ? thrown.errors[0] : thrown
        ) as MigrateFailure
        return { kind: 'failed', message, code, detail, hint, address, hostname, port }
      },
    )
    // at once: graphile-migrate would keep an idle pool for 200 ms
    .then((answer) => report(answer, () => process.exit(0)))
})
