import { setTimeout as pause } from 'node:timers/promises'
import type { Command } from 'commander'
import { withDb } from '../database.js'
import type { CliDb, EventRow } from '../db.js'
import { databaseCommand, jsonOption, parseCount } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json, jsonLine, print } from '../render.js'
import { eventText, newEvents } from '../up-snapshot.js'

interface EventsOptions extends DatabaseOptions, JsonOptions { limit: number; follow?: boolean }

const POLL_INTERVAL_MS = 500
/** How many events a follower remembers, and looks at each time. */
export const FOLLOW_WINDOW = 200
const LARGEST_WINDOW = 100_000

export function addEvents(program: Command): void {
  databaseCommand(program.command('events'))
    .description('show what happened last: who moved what, when, why')
    .option('-n, --limit <n>', 'so many of the last', parseCount, 50)
    .option('-f, --follow', 'go on with what comes')
    .addOption(jsonOption('print a JSON array; with -f one JSON object per line'))
    .action(showEvents)
}

async function showEvents(options: EventsOptions): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await db.lastEvents(options.follow ? Math.max(FOLLOW_WINDOW, options.limit) : options.limit)
    if (!options.follow) return print(options.json ? json(rows) : rows.map(eventText).join('\n') || 'nothing has happened yet')
    const write = (events: readonly EventRow[]) => {
      if (events.length > 0) print(events.map((event) => (options.json ? jsonLine(event).trimEnd() : eventText(event))).join('\n'))
    }
    write(options.limit === 0 ? [] : rows.slice(-options.limit))
    for (let seen = rows.slice(-FOLLOW_WINDOW); ; ) {
      await pause(POLL_INTERVAL_MS)
      const now = await eventsSince(db, seen)
      write(newEvents(seen, now))
      seen = now.slice(-FOLLOW_WINDOW)
    }
  })
}

/**
 * Everything that came after `seen`, which is the last FOLLOW_WINDOW events of then (fewer: all there were), with what reaches
 * back into it. The window is doubled until both overlap, and cut where `seen` begins, so that nothing old can pass for new.
 */
export async function eventsSince(db: Pick<CliDb, 'lastEvents'>, seen: readonly EventRow[]): Promise<EventRow[]> {
  const known = new Set(seen.map((event) => event.id))
  for (let window = FOLLOW_WINDOW; ; window *= 2) {
    const rows = await db.lastEvents(window)
    const overlap = rows.findIndex((event) => known.has(event.id))
    if (overlap >= 0 && seen.length >= FOLLOW_WINDOW) return rows.slice(overlap)
    if (overlap >= 0 || rows.length < window || window >= LARGEST_WINDOW) return rows
  }
}
