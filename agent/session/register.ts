/**
 * Registers the node's name for a new session. It retries for ever, because the database may be
 * down, unmigrated or locked for a long time, and an agent that gave up would need a person.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { NodeDescription, Registration } from '../rows.js'
import { sleep } from '../../host/waiting.js'
import { createBackoff } from '../../host/backoff.js'
import { describeError, freeInMs, errorKind } from '../../postgres/errors.js'
import { schemaMismatch } from '../../postgres/schema-match.js'

export interface Registered {
  session: string
  registration: Registration
}

export interface RegisterOptions {
  db: Pick<AgentDb, 'registerNode' | 'schemaVersion'>
  description: NodeDescription
  /** The last session of this agent: its processes are taken over or dead. */
  replaces: string | null
  /** The schema version of this program. */
  schemaVersion: number
  log: Logger
}

/** For a failure that ends by itself. */
const RETRY_MS = { first: 100, max: 2_000 }
/** For a failure that a person has to repair. */
const UNFIT_RETRY_MS = { first: 1_000, max: 10_000 }
/** The other agent may leave before its lease ends. */
const LONGEST_WAIT_FOR_NAME_MS = 2_000
const NAME_FREE_SLACK_MS = 20

/** Null when the signal aborted. Rejects only when the database refuses name or trust pattern. */
export async function register(
  options: RegisterOptions,
  signal: AbortSignal,
): Promise<Registered | null> {
  const { db, description, log } = options
  // one uuid for all attempts, because an attempt whose answer was lost has registered it
  const session = randomUUID()
  const backoff = createBackoff(RETRY_MS.first, RETRY_MS.max)
  const unfitBackoff = createBackoff(UNFIT_RETRY_MS.first, UNFIT_RETRY_MS.max)
  const logged = new Set<string>()
  const logOnce = (key: string, write: () => void): void => {
    if (!logged.has(key)) write()
    logged.add(key)
  }

  while (!signal.aborted) {
    try {
      // Read before anything changes. An agent of another schema must neither release nor take over
      // what an earlier agent left running, because the node still owns it.
      const databaseVersion = await db.schemaVersion()
      const mismatch = schemaMismatch(databaseVersion, options.schemaVersion)
      if (mismatch === null)
        return {
          session,
          registration: await db.registerNode(description, session, options.replaces),
        }
      logOnce('schema', () =>
        log.error(
          { event: 'schema_differs', database: databaseVersion, program: options.schemaVersion },
          `the database ${mismatch.problem}: ${mismatch.remedy}`,
        ),
      )
      await sleep(unfitBackoff.nextMs(), signal)
    } catch (error) {
      await sleep(waitAfter(error), signal)
    }
  }
  return null

  function waitAfter(error: unknown): number {
    const kind = errorKind(error)
    const fields = describeError(error)
    switch (kind) {
      case 'name_taken': {
        const free = freeInMs(error) ?? LONGEST_WAIT_FOR_NAME_MS
        logOnce(kind, () =>
          log.warn(
            { event: 'name_taken', node: description.node, free_in_ms: free },
            `another live agent is called ${description.node}; ` +
              `free in ${(free / 1000).toFixed(1)} s unless it beats again`,
          ),
        )
        return Math.min(free + NAME_FREE_SLACK_MS, LONGEST_WAIT_FOR_NAME_MS)
      }
      case 'refused':
      case 'bad_value':
        throw error
      case 'unfit':
        logOnce(fields.code ?? kind, () =>
          log.error(
            { event: 'database_unfit', ...fields, hint: fields.hint ?? HINTS[fields.code ?? ''] },
            'the database cannot be used as it is; retrying until it can',
          ),
        )
        return unfitBackoff.nextMs()
      case 'retry':
      case 'session_over':
        logOnce(kind, () =>
          log.warn(
            { event: 'database_away', ...fields },
            'the database cannot be reached; retrying until it can',
          ),
        )
        return backoff.nextMs()
    }
  }
}

const HINTS: Readonly<Record<string, string>> = {
  '3F000': 'install the schema: run `mooring migrate`',
  '42883': 'install the schema: run `mooring migrate`',
  '42P01': 'install the schema: run `mooring migrate`',
  '42501': "connect as a role that may run the agent's verbs",
  '08P01': 'DATABASE_URL leads to a connection pooler: give the address of the server itself',
  '28P01': 'check user and password in DATABASE_URL',
  '28000': 'check user and host in DATABASE_URL, and pg_hba.conf',
  '3D000': 'check the database name in DATABASE_URL',
}
