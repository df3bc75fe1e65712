/**
 * The questions of a command, each with a deadline: a server that is stopped or cut off answers nothing, and the driver would wait for it for ever.
 *
 * One that is late fails as one over a lost connection does, so whoever can wait for a database that is away goes on. Its connection is not used again: the next question
 * is asked over a new one, of whoever is the primary then.
 */
import type { Sql } from 'postgres'
import { answered } from '../../postgres/deadline.js'
import { createCliDb } from './queries.js'
import type { CliDb } from './queries.js'
import { isConnectionProblem } from '../errors.js'

export interface AskedDb {
  readonly db: CliDb
  ask<T>(deadlineMs: number, question: (sql: Sql) => PromiseLike<T>): Promise<T>
  /** Idempotent; a question after it opens a new connection. */
  close(): Promise<void>
}

/** A look, or an order for one row, which waits 5 s for a lock at most; and what may be a hundred thousand rows. */
export interface Deadlines {
  fewMs: number
  manyMs: number
}

export const DEADLINES: Deadlines = { fewMs: 15_000, manyMs: 300_000 }

const MANY: ReadonlySet<string> = new Set<keyof CliDb>([
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

export function createAskedDb(
  open: () => Promise<Sql>,
  { fewMs, manyMs }: Deadlines = DEADLINES,
): AskedDb {
  let connected: Promise<Sql> | null = null
  /** Why a connection was given up: what was in flight on it besides is told the same. */
  const reasons = new WeakMap<Promise<Sql>, unknown>()

  async function hangUp(timeout: number): Promise<void> {
    const last = connected
    connected = null
    await (await last?.catch(() => null))?.end({ timeout })
  }

  async function ask<T>(deadlineMs: number, question: (sql: Sql) => PromiseLike<T>): Promise<T> {
    const mine = (connected ??= open())
    try {
      return await answered(deadlineMs, mine.then(question))
    } catch (error) {
      if (connected === mine && (isConnectionProblem(error) || (await isLost(mine)))) {
        reasons.set(mine, error)
        void hangUp(0).catch(() => {})
      }
      throw isConnectionProblem(error) ? (reasons.get(mine) ?? error) : error
    }
  }

  const db = new Proxy({} as CliDb, {
    get(_, verb) {
      // a promise is asked for its then
      if (typeof verb !== 'string' || verb === 'then') return undefined
      const deadlineMs = MANY.has(verb) ? manyMs : fewMs
      return (...args: unknown[]) =>
        ask(deadlineMs, (sql) =>
          (createCliDb(sql)[verb as keyof CliDb] as (...given: unknown[]) => PromiseLike<unknown>)(
            ...args,
          ),
        )
    },
  })
  return { db, ask, close: () => hangUp(1) }
}

/** It was never opened: next time anew. */
const isLost = (connecting: Promise<Sql>): Promise<boolean> =>
  connecting.then(
    () => false,
    () => true,
  )
