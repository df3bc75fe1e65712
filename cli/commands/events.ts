import { setTimeout as pause } from 'node:timers/promises'
import { InvalidArgumentError } from 'commander'
import type { Command } from 'commander'
import { withDb } from '../database.js'
import type { Queries } from '../queries/queries.js'
import type { EventRow } from '../queries/rows.js'
import { EVENTS_LOOKED_AT } from '../queries/events.js'
import type { EventFilter } from '../queries/events.js'
import { UnknownNameError, UsageError } from '../errors.js'
import { EVENT_KINDS } from '../events/kinds.js'
import { createEventFollower } from '../events/follow.js'
import { bare, deploymentId, nearest, nodesNamed, noSuch } from '../targets/names.js'
import { databaseCommand, jsonOption, parseCount, parseDuration } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { createPatience } from '../progress/patience.js'
import { json, jsonLine } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { eventText } from '../terminal/event-text.js'

interface EventsOptions extends DatabaseOptions, JsonOptions {
  limit?: number
  follow?: boolean
  kind?: string[]
  node?: string
  deployment?: string
  assignment?: string
  since?: string
}

const POLL_INTERVAL_MS = 500
const DEFAULT_LIMIT = 50

export function addEvents(program: Command): void {
  databaseCommand(program.command('events'))
    .description('show the last events: what changed, when, by which actor, and why')
    .option(
      '-n, --limit <n>',
      `the last n (default: ${DEFAULT_LIMIT}; with --since all)`,
      parseCount,
    )
    .option('-f, --follow', 'continue with new events')
    .option(
      '--kind <kinds>',
      'these kinds only: claimed,released,reaped ...; repeatable',
      collectKinds,
    )
    .option('--node <node>', 'about a node')
    .option('--deployment <deployment>', 'about a deployment, by id or name, also a deleted one')
    .option('--assignment <assignment>', 'about an assignment', parseId)
    .option('--since <duration>', 'of the last 10m, 90s, 1h30m', parseDuration)
    .addOption(jsonOption('print a JSON array; with -f one JSON object per line'))
    .addHelpText(
      'after',
      `
In psql: select * from mooring.last_events(50);
         select * from mooring.event where deployment_id = 7 order by id;
Example: mooring events -f --kind reaped,move_dropped --since 1h`,
    )
    .action(showEvents)
}

async function showEvents(options: EventsOptions): Promise<void> {
  await withDb(options, async (db) => {
    const filter = await filterOf(db, options)
    const limit = options.limit ?? (options.since === undefined ? DEFAULT_LIMIT : null)
    if (options.follow) return follow(db, filter, limit, options)
    const rows = await db.events(filter, limit)
    if (rows.length === 0) await checkKnown(db, filter)
    if (limit === 0 && !options.json) return
    await sayHowFar(db, filter, rows.length, limit)
    print(
      options.json
        ? json(rows)
        : rows.map(eventText).join('\n') ||
            (Object.values(filter).every((part) => part === undefined)
              ? 'nothing has happened yet'
              : 'nothing of the kind has happened'),
    )
  })
}

async function follow(
  db: Queries,
  filter: EventFilter,
  limit: number | null,
  options: EventsOptions,
): Promise<void> {
  const { json: asJson } = options
  const write = (events: readonly EventRow[]) => {
    if (events.length > 0)
      print(
        events.map((event) => (asJson ? jsonLine(event).trimEnd() : eventText(event))).join('\n'),
      )
  }
  // the age applies to existing events only: later ones are new, late commits included
  const follower = createEventFollower({ ...filter, since: undefined })
  await follower.next(db)
  const last = await db.events(filter, limit)
  follower.markShown(last)
  if (last.length === 0) await checkKnown(db, filter)
  write(last)
  for (const patience = createPatience(); ; await pause(POLL_INTERVAL_MS)) {
    try {
      write(await follower.next(db))
      patience.answered()
    } catch (error) {
      patience.bear(error)
    }
  }
}

/** A filter without an age looks at the newest events only. */
async function sayHowFar(
  db: Queries,
  filter: EventFilter,
  found: number,
  limit: number | null,
): Promise<void> {
  const isFiltered = Object.values(filter).some((part) => part !== undefined)
  if (!isFiltered || filter.since !== undefined || found === limit) return
  const to = await db.eventsLookedBackTo()
  if (to !== null)
    process.stderr.write(
      `looked through the newest ${EVENTS_LOOKED_AT} events, back to ${to.toISOString()}; ` +
        '--since 7d looks further back\n',
    )
}

/** Events outlive nodes and assignments. A name is unknown only where it has no event either. */
async function checkKnown(
  db: Queries,
  { node, deployment, assignment }: EventFilter,
): Promise<void> {
  if (node !== undefined && (await db.events({ node }, 1)).length === 0)
    await nodesNamed(db, [node])
  if (
    assignment !== undefined &&
    (await db.placementOfAssignment(assignment)) === null &&
    (await db.events({ assignment }, 1)).length === 0
  )
    throw noSuch('assignment', assignment, [], '`mooring get assignments`')
  if (
    deployment !== undefined &&
    (await db.deployments({ ids: [deployment] })).length === 0 &&
    (await db.events({ deployment }, 1)).length === 0
  ) {
    throw new UnknownNameError(
      `neither a deployment nor any event of the id ${deployment} is known`,
      'see `mooring get deployments`; events are kept for setting.event_retention',
    )
  }
}

/** The id of a deleted deployment, where the text may be its id or was its name. */
const deletedId = async (db: Queries, typed: string): Promise<string | null> =>
  /^(?:id:)?(\d{1,18})$/.exec(typed)?.[1] ?? (await db.deletedDeployment(bare(typed)))

async function filterOf(
  db: Queries,
  { kind, node, deployment, assignment, since }: EventsOptions,
): Promise<EventFilter> {
  const known =
    deployment === undefined
      ? undefined
      : await deploymentId(db, deployment).catch(async (error: unknown) => {
          const id = await deletedId(db, deployment)
          if (error instanceof UnknownNameError && id !== null) return id
          throw error
        })
  return { kinds: kind, node, deployment: known, assignment, since }
}

function collectKinds(value: string, before: string[] = []): string[] {
  const kinds = value.split(',').map((kind) => kind.trim())
  if (!kinds.every((kind) => /^[a-z_]{1,40}$/.test(kind)))
    throw new InvalidArgumentError(
      'Kinds are words such as claimed or move_dropped, joined by commas.',
    )
  // an unknown kind would never match
  const wrong = kinds.find((kind) => !EVENT_KINDS.includes(kind))
  if (wrong !== undefined) {
    const near = nearest(wrong, EVENT_KINDS)
    throw new UsageError(
      `there is no kind of event '${wrong}'`,
      near.length > 0 ? `did you mean ${near.join(', ')}?` : `there are ${EVENT_KINDS.join(', ')}`,
    )
  }
  return [...before, ...kinds]
}

function parseId(value: string): string {
  if (!/^\d{1,18}$/.test(value))
    throw new InvalidArgumentError('It must be the id of an assignment.')
  return value
}
