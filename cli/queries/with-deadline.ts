/**
 * The queries of a command, each with a deadline. Without one the driver waits for ever for a
 * server that is stopped or cut off.
 *
 * A late query fails as one over a lost connection does, so commands that wait for an absent
 * database go on. Its connection is not used again: the next query opens a new one, to the server
 * that is the primary then.
 */
import type { Sql } from 'postgres'
import { answerWithin } from '../../postgres/deadline.js'
import { createQueries } from './queries.js'
import type { Queries } from './queries.js'
import { isConnectionProblem } from '../errors.js'

export interface QueriesWithDeadline {
  readonly db: Queries
  ask<T>(deadlineMs: number, question: (sql: Sql) => PromiseLike<T>): Promise<T>
  /** Idempotent. A question after it opens a new connection. */
  close(): Promise<void>
}

export interface Deadlines {
  /** For a look, or an order about one row. Such an order waits 5 s for a lock at most. */
  fewMs: number
  /** For what may touch a hundred thousand rows. */
  manyMs: number
}

export const DEADLINES: Deadlines = { fewMs: 15_000, manyMs: 300_000 }

const MANY: ReadonlySet<string> = new Set<keyof Queries>([
  'apply',
  'insertDemo',
  'enableDeployments',
  'scaleDeployments',
  'renewDeployments',
  'deleteDeployments',
  'drainNode',
  'forgetNode',
  'rebalance',
  'explain',
  'simulateNodeLoss',
  'simulateDrain',
  'simulateInsert',
])

export function createQueriesWithDeadline(
  open: () => Promise<Sql>,
  { fewMs, manyMs }: Deadlines = DEADLINES,
): QueriesWithDeadline {
  let connected: Promise<Sql> | null = null
  /** Why a connection was given up. Other queries in flight on it fail with the same reason. */
  const reasons = new WeakMap<Promise<Sql>, unknown>()

  async function hangUp(timeout: number): Promise<void> {
    const last = connected
    connected = null
    await (await last?.catch(() => null))?.end({ timeout })
  }

  async function ask<T>(deadlineMs: number, question: (sql: Sql) => PromiseLike<T>): Promise<T> {
    const mine = (connected ??= open())
    try {
      return await answerWithin(deadlineMs, mine.then(question))
    } catch (error) {
      if (connected === mine && (isConnectionProblem(error) || (await failedToOpen(mine)))) {
        reasons.set(mine, error)
        void hangUp(0).catch(() => {})
      }
      throw isConnectionProblem(error) ? (reasons.get(mine) ?? error) : error
    }
  }

  const db = new Proxy({} as Queries, {
    get(_, name) {
      // `await db` reads a property `then`
      if (typeof name !== 'string' || name === 'then') return undefined
      const deadlineMs = MANY.has(name) ? manyMs : fewMs
      return (...args: unknown[]) =>
        ask(deadlineMs, (sql) =>
          (
            createQueries(sql)[name as keyof Queries] as (
              ...given: unknown[]
            ) => PromiseLike<unknown>
          )(...args),
        )
    },
  })
  return { db, ask, close: () => hangUp(1) }
}

const failedToOpen = (connecting: Promise<Sql>): Promise<boolean> =>
  connecting.then(
    () => false,
    () => true,
  )
