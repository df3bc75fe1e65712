/** Tables for people, JSON for programs. Nothing here reads or decides anything. */
import Table from 'cli-table3'
import pc from 'picocolors'

export type Row = Record<string, unknown>

export interface Column {
  key: string
  title?: string
  align?: 'left' | 'right'
  /** The text of a cell; without it `cell` decides. */
  text?: (value: unknown, row: Row) => string
  paint?: (text: string, value: unknown) => string
}

type Colors = ReturnType<typeof pc.createColors>

/** Colours on a terminal only: a pipe gets no escape code, whatever CI or FORCE_COLOR say. */
export function colorsFor(
  stream: { isTTY?: boolean },
  env: NodeJS.ProcessEnv = process.env,
): Colors {
  return pc.createColors(stream.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb')
}

export const colors = colorsFor(process.stdout)

/** What stands in a cell. A name or an error text comes from outside: control characters would steer the terminal. */
export function cell(value: unknown): string {
  if (value === null || value === undefined) return '-'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (value instanceof Date) return value.toISOString()
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : value.toFixed(1)
  return printable(typeof value === 'object' ? JSON.stringify(value) : String(value))
}

export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]+/g, ' ')
}

export function table(rows: readonly Row[], columns: readonly Column[]): string {
  const grid = new Table({
    head: columns.map((column) => colors.dim(column.title ?? column.key)),
    colAligns: columns.map((column) => column.align ?? 'left'),
    // cli-table3 colours heads and borders of itself, on pipes too: all styles off, the cells bring their own
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2, compact: true },
    chars: NO_BORDERS,
  })
  for (const row of rows) {
    grid.push(
      columns.map((column) => {
        const text = textOf(column, row)
        return column.paint ? column.paint(text, row[column.key]) : text
      }),
    )
  }
  return grid
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
}

export function textOf({ key, text }: Column, row: Row): string {
  return text ? printable(text(row[key], row)) : cell(row[key])
}

/** One column per key of the rows, in their order: for functions whose columns the schema may add to. */
export function columnsOf(rows: readonly Row[]): Column[] {
  return Object.keys(rows[0] ?? {}).map((key) => ({
    key,
    align: rows.some((row) => typeof row[key] === 'number') ? 'right' : 'left',
  }))
}

/** '00:00:01.2345' or '3 days 04:05:06' -> '1.2 s', '3 d 4 h'. The two largest units are enough for a reader. */
export function interval(value: unknown): string {
  if (value === null || value === undefined) return '-'
  const match = /^(?:(-?\d+) days? ?)?(?:(-?)(\d+):(\d+):(\d+(?:\.\d+)?))?$/.exec(String(value))
  if (!match) return cell(value)
  const [, days = '0', sign = '', hours = '0', minutes = '0', seconds = '0'] = match
  const total =
    Number(days) * 86_400 +
    (sign ? -1 : 1) * (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds))
  return age(total * 1000)
}

export function age(ms: number): string {
  if (ms < 0) return `-${age(-ms)}`
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${seconds % 60} s`
  if (seconds < 86_400)
    return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} m`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`
}

export function clock(value: unknown): string {
  const date = value instanceof Date ? value : new Date(String(value))
  return Number.isNaN(date.getTime()) ? cell(value) : date.toTimeString().slice(0, 8)
}

export function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

/** One line per value: what is still being written can be read while it grows. */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}

export function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`)
}

const NO_BORDERS = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '',
}
