/**
 * Takes the node's name for a new session: tried for ever, since the database may be down, unmigrated or locked for longer than anybody
 * expects, and an agent that gave up would need a person to come back.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { NodeDescription, Registration } from '../rows.js'
import { pause } from '../../host/waiting.js'
import { createBackoff } from '../../host/backoff.js'
import { describeError, freeInMs, errorKind } from '../../postgres/errors.js'

export interface Registered {
  session: string
  registration: Registration
}

export interface RegisterOptions {
  db: Pick<AgentDb, 'registerNode' | 'schemaVersion'>
  description: NodeDescription
  /** The last session of this agent: what it ran is taken over or dead. */
  replaces: string | null
  /** The schema this program knows. */
  schemaVersion: number
  log: Logger
}

/** Something away that comes back by itself. */
const RETRY_MS = { first: 100, max: 2_000 }
/** Something a person has to do first. */
const UNFIT_RETRY_MS = { first: 1_000, max: 10_000 }
/** The other agent may leave before its lease is over. */
const LONGEST_WAIT_FOR_NAME_MS = 2_000
const NAME_FREE_SLACK_MS = 20

/** Null when the signal aborted. Rejects only with what will never be accepted: a name or a trust pattern the database refuses. */
export async function register(
  options: RegisterOptions,
  signal: AbortSignal,
): Promise<Registered | null> {
  const { db, description, log } = options
  // one uuid for all attempts: an answer that was lost had registered it already
  const session = randomUUID()
  const backoff = createBackoff(RETRY_MS.first, RETRY_MS.max)
  const unfitBackoff = createBackoff(UNFIT_RETRY_MS.first, UNFIT_RETRY_MS.max)
  const told = new Set<string>()
  const once = (key: string, say: () => void): void => {
    if (!told.has(key)) say()
    told.add(key)
  }

  while (!signal.aborted) {
    try {
      // asked before anything is changed: what an earlier agent left running is still owned, and neither given back nor taken over by one that cannot go on
      const theirs = await db.schemaVersion()
      if (theirs === options.schemaVersion)
        return {
          session,
          registration: await db.registerNode(description, session, options.replaces),
        }
      once('schema', () =>
        log.error(
          { event: 'schema_differs', database: theirs, program: options.schemaVersion },
          theirs > options.schemaVersion
            ? 'the database is newer than this program: update mooring on this host'
            : 'the database is older than this program: run `mooring migrate`',
        ),
      )
      await pause(unfitBackoff.nextMs(), signal)
    } catch (error) {
      await pause(waitAfter(error), signal)
    }
  }
  return null

  function waitAfter(error: unknown): number {
    const kind = errorKind(error)
    const said = describeError(error)
    switch (kind) {
      case 'name_taken': {
        const free = freeInMs(error) ?? LONGEST_WAIT_FOR_NAME_MS
        once(kind, () =>
          log.warn(
            { event: 'name_taken', node: description.node, free_in_ms: free },
            `another live agent is called ${description.node}; free in ${(free / 1000).toFixed(1)} s unless it beats again`,
          ),
        )
        return Math.min(free + NAME_FREE_SLACK_MS, LONGEST_WAIT_FOR_NAME_MS)
      }
      case 'refused':
      case 'bad_value':
        throw error
      case 'unfit':
        once(said.code ?? kind, () =>
          log.error(
            { event: 'database_unfit', ...said, hint: said.hint ?? HINTS[said.code ?? ''] },
            'the database cannot be used as it is; trying again until it can',
          ),
        )
        return unfitBackoff.nextMs()
      case 'retry':
      case 'session_over':
        once(kind, () =>
          log.warn(
            { event: 'database_away', ...said },
            'the database cannot be reached; trying again until it can',
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
  '28P01': 'check user and password in DATABASE_URL',
  '28000': 'check user and host in DATABASE_URL, and pg_hba.conf',
  '3D000': 'check the database name in DATABASE_URL',
}
