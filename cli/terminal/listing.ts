/**
 * Shows rows once, or with --watch until Ctrl-C: a table redrawn in place on a terminal, the
 * changes on a pipe, one object a line with --json.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { createPatience } from '../progress/patience.js'
import { clock, printable } from './text.js'
import { json, jsonLine } from './json.js'
import { print } from './stdout.js'
import { table, textOf } from './table.js'
import type { Column, Row } from './table.js'
import { stopSignal } from '../signals.js'
import { createScreen, roomOf } from './screen.js'

export interface Listing {
  read(): Promise<Row[]>
  /** The column that names a row. */
  key: string
  /** The column to show with --quiet, where it has a value; else the key. */
  name?: string
  columns: readonly Column[]
  /** Columns that change by themselves, such as ages. Their changes are not shown. */
  changesByItself?: readonly string[]
  /** Shown instead of an empty table. */
  empty: string
}

export interface ListingOptions {
  json?: boolean
  watch?: boolean
  quiet?: boolean
}

const POLL_INTERVAL_MS = 500

export async function show(listing: Listing, options: ListingOptions): Promise<void> {
  if (options.watch) return watch(listing, options)
  const rows = await listing.read()
  if (options.quiet) {
    const { key, name = key } = listing
    if (rows.length === 0) return
    return print(rows.map((row) => printable(String(row[name] ?? row[key]))).join('\n'))
  }
  print(options.json ? json(rows) : rows.length > 0 ? table(rows, listing.columns) : listing.empty)
}

/** Shows a text again and again until Ctrl-C. On a terminal it is redrawn in place. */
export async function showAgain(
  everyMs: number,
  read: () => Promise<string>,
  { json: lines }: ListingOptions,
): Promise<void> {
  const stopped = stopSignal()
  const screen = !lines && process.stdout.isTTY === true ? createScreen(process.stdout) : null
  const patience = createPatience()
  try {
    while (!stopped.aborted) {
      try {
        const text = await read()
        patience.answered()
        if (screen) screen.draw(fitting(text.split('\n'), process.stdout.rows))
        else print(text)
      } catch (error) {
        patience.bear(error)
      }
      await pause(everyMs, undefined, { signal: stopped }).catch(() => {})
    }
  } finally {
    screen?.close()
  }
}

async function watch(
  { read, key, columns, changesByItself = [], empty }: Listing,
  options: ListingOptions,
): Promise<void> {
  const stopped = stopSignal()
  const screen =
    !options.json && process.stdout.isTTY === true ? createScreen(process.stdout) : null
  const news = columns.filter((column) => !changesByItself.includes(column.key))
  let known: Map<string, string> | null = null
  try {
    for (
      const patience = createPatience();
      !stopped.aborted;
      await pause(POLL_INTERVAL_MS, undefined, { signal: stopped }).catch(() => {})
    ) {
      let rows: Row[]
      try {
        rows = await read()
        patience.answered()
      } catch (error) {
        patience.bear(error)
        continue
      }
      if (screen) {
        screen.draw(
          rows.length > 0
            ? fitting(table(rows, columns).split('\n'), process.stdout.rows)
            : [empty],
        )
        continue
      }
      const now = new Map(
        rows.map((row) => [String(row[key]), news.map((column) => textOf(column, row)).join('\t')]),
      )
      const changed = rows.filter(
        (row) => known?.get(String(row[key])) !== now.get(String(row[key])),
      )
      const gone = [...(known?.keys() ?? [])].filter((name) => !now.has(name))
      if (options.json)
        for (const row of [...changed, ...gone.map((name) => ({ [key]: name, gone: true }))])
          print(jsonLine(row))
      else if (!known) print(rows.length > 0 ? table(rows, columns) : empty)
      else
        for (const line of [
          ...changed.map((row) => news.map((column) => textOf(column, row)).join('  ')),
          ...gone.map((name) => `${name} is gone`),
        ])
          print(`${clock(new Date())} ${line}`)
      known = now
    }
  } finally {
    screen?.close()
  }
}

/** As many lines as fit into the terminal. The last one counts the lines left out. */
export function fitting(lines: readonly string[], rows?: number): readonly string[] {
  const room = roomOf(rows)
  return lines.length <= room
    ? lines
    : [...lines.slice(0, room - 1), `... ${lines.length - room + 1} more`]
}
