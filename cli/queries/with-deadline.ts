/**
 * The queries of a command, each with a deadline. Without one the driver waits for ever for a
 * server that is stopped or cut off.
 *
 * A late query fails as one over a lost connection does, so commands that wait for an absent
 * database go on. Its connection is not used again: the next query opens a new one, to the server
 * that is the primary then. The server stops the statement at the same time, because it does not
 * notice that its client has gone. So each of the two deadlines has a connection of its own.
 *
 * Here is also the one place that repeats a question that lost to another session.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Sql } from 'postgres'
import { createBackoff } from '../../host/backoff.js'
import { answerWithin } from '../../postgres/deadline.js'
import { errorCode } from '../../postgres/errors.js'
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

/** Deadlock, serialization failure: the server has undone all of the transaction. */
const LOST_TO_ANOTHER: ReadonlySet<string | undefined> = new Set(['40P01', '40001'])
const TRIES = 5

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
  open: (statementTimeoutMs: number) => Promise<Sql>,
  { fewMs, manyMs }: Deadlines = DEADLINES,
): QueriesWithDeadline {
  /** By the statement timeout. */
  const connected = new Map<number, Promise<Sql>>()
  /** Why a connection was given up. Other queries in flight on it fail with the same reason. */
  const reasons = new WeakMap<Promise<Sql>, unknown>()

  async function hangUp(timeoutMs: number, waitSeconds: number): Promise<void> {
    const last = connected.get(timeoutMs)
    connected.delete(timeoutMs)
    await (await last?.catch(() => null))?.end({ timeout: waitSeconds })
  }

  // every question is one statement or one transaction, so a second try finds nothing half done
  async function ask<T>(deadlineMs: number, question: (sql: Sql) => PromiseLike<T>): Promise<T> {
    const backoff = createBackoff(50, 1_000)
    for (let tries = 1; ; tries++) {
      try {
        return await askOnce(deadlineMs, question)
      } catch (error) {
        if (tries === TRIES || !LOST_TO_ANOTHER.has(errorCode(error))) throw error
      }
      await pause(backoff.nextMs())
    }
  }

  async function askOnce<T>(
    deadlineMs: number,
    question: (sql: Sql) => PromiseLike<T>,
  ): Promise<T> {
    const timeoutMs = deadlineMs > fewMs ? manyMs : fewMs
    const mine = connected.get(timeoutMs) ?? open(timeoutMs)
    connected.set(timeoutMs, mine)
    try {
      return await answerWithin(deadlineMs, mine.then(question))
    } catch (error) {
      if (
        connected.get(timeoutMs) === mine &&
        (isConnectionProblem(error) || (await failedToOpen(mine)))
      ) {
        reasons.set(mine, error)
        void hangUp(timeoutMs, 0).catch(() => {})
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
  return {
    db,
    ask,
    close: async () => void (await Promise.all([fewMs, manyMs].map((ms) => hangUp(ms, 1)))),
  }
}

const failedToOpen = (connecting: Promise<Sql>): Promise<boolean> =>
  connecting.then(
    () => false,
    () => true,
  )
