import { setTimeout as pause } from 'node:timers/promises'
import { InvalidArgumentError } from 'commander'
import type { Command } from 'commander'
import { withDb } from '../database.js'
import type { CliDb, EventRow } from '../db.js'
import type { EventFilter } from '../db-events.js'
import { isConnectionProblem } from '../errors.js'
import { createEventFollower } from '../event-follow.js'
import { deploymentId, nodesNamed } from '../names.js'
import { databaseCommand, jsonOption, parseCount, parseDuration } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json, jsonLine, print } from '../render.js'
import { eventText } from '../up-snapshot.js'

interface EventsOptions extends DatabaseOptions, JsonOptions { limit?: number; follow?: boolean; kind?: string[]; node?: string; deployment?: string; assignment?: string; since?: string }

const POLL_INTERVAL_MS = 500
const DATABASE_PATIENCE_MS = 60_000
const DEFAULT_LIMIT = 50

export function addEvents(program: Command): void {
  databaseCommand(program.command('events'))
    .description('show what happened last: who moved what, when, why')
    .option('-n, --limit <n>', `so many of the last (default: ${DEFAULT_LIMIT}; with --since all)`, parseCount)
    .option('-f, --follow', 'go on with what comes')
    .option('--kind <kinds>', 'of these kinds: claimed,released,reaped ...; repeatable', collectKinds)
    .option('--node <node>', 'about a node').option('--deployment <deployment>', 'about a deployment, by id or name; one that was deleted by its id')
    .option('--assignment <assignment>', 'about an assignment', parseId).option('--since <duration>', 'of the last 10m, 90s, 1h30m', parseDuration)
    .addOption(jsonOption('print a JSON array; with -f one JSON object per line'))
    .addHelpText('after', `
In psql: select * from mooring.last_events(50);  select * from mooring.event where deployment_id = 7 order by id;
Example: mooring events -f --kind reaped,move_dropped --since 1h`)
    .action(showEvents)
}

async function showEvents(options: EventsOptions): Promise<void> {
  await withDb(options, async (db) => {
    const filter = await filterOf(db, options)
    const limit = options.limit ?? (options.since === undefined ? DEFAULT_LIMIT : null)
    if (options.follow) return follow(db, filter, limit, options)
    const rows = await db.events(filter, limit)
    // history outlives nodes, so a name that is not there is only wrong when nothing is known of it
    if (rows.length === 0 && options.node !== undefined) await nodesNamed(db, [options.node])
    print(options.json ? json(rows) : rows.map(eventText).join('\n') || (Object.values(filter).every((part) => part === undefined) ? 'nothing has happened yet' : 'nothing of the kind has happened'))
  })
}

async function follow(db: CliDb, filter: EventFilter, limit: number | null, { json: asJson }: EventsOptions): Promise<void> {
  const write = (events: readonly EventRow[]) => {
    if (events.length > 0) print(events.map((event) => (asJson ? jsonLine(event).trimEnd() : eventText(event))).join('\n'))
  }
  // how old an event may be is asked of those that are there; what comes is new, and what comes late is too
  const follower = createEventFollower({ ...filter, since: undefined })
  await follower.next(db)
  const last = await db.events(filter, limit)
  follower.told(last)
  write(last)
  for (let answeredAt = performance.now(); ; await pause(POLL_INTERVAL_MS)) {
    try {
      write(await follower.next(db))
      answeredAt = performance.now()
    } catch (error) {
      if (!isConnectionProblem(error) || performance.now() - answeredAt > DATABASE_PATIENCE_MS) throw error
    }
  }
}

async function filterOf(db: CliDb, { kind, node, deployment, assignment, since }: EventsOptions): Promise<EventFilter> {
  const known = deployment === undefined ? undefined : await deploymentId(db, deployment).catch((error: unknown) => {
    if (/^\d{1,18}$/.test(deployment)) return deployment
    throw error
  })
  return { kinds: kind, node, deployment: known, assignment, since }
}

function collectKinds(value: string, before: string[] = []): string[] {
  const kinds = value.split(',').map((kind) => kind.trim())
  if (!kinds.every((kind) => /^[a-z_]{1,40}$/.test(kind))) throw new InvalidArgumentError('Kinds are words such as claimed or move_dropped, joined by commas.')
  return [...before, ...kinds]
}

function parseId(value: string): string {
  if (!/^\d{1,18}$/.test(value)) throw new InvalidArgumentError('It must be the id of an assignment.')
  return value
}
