/** Tables of rows, for people. */
import Table from 'cli-table3'
import { cell, colors, printable } from './text.js'

export type Row = Record<string, unknown>

export interface Column {
  key: string
  title?: string
  align?: 'left' | 'right'
  /** The text of a cell. The default is cell(). */
  text?: (value: unknown, row: Row) => string
  paint?: (text: string, value: unknown) => string
  /** Continues on the next line instead of being cut: reasons and ways out. */
  prose?: boolean
  /** Where the terminal is too narrow the column with the lowest number leaves first. */
  leaves?: number
}

export interface TableOptions {
  /** Columns of the terminal. Infinite: nothing is cut. */
  width?: number
}

const GAP = 2
/** What is left of a text that is cut, at least. */
const FEWEST = 8
const FEWEST_OF_PROSE = 24

let wide = false
/** From here on no table is cut: --wide. */
export function showWholeTables(): void {
  wide = true
}

const widthOfOutput = (): number =>
  wide ? Number.POSITIVE_INFINITY : (process.stdout.columns ?? Number.POSITIVE_INFINITY)

export function table(
  rows: readonly Row[],
  all: readonly Column[],
  { width = widthOfOutput() }: TableOptions = {},
): string {
  const { columns, widths } = fitted(rows, all, width)
  const grid = new Table({
    head: columns.map((column) => colors.dim(titleOf(column))),
    colAligns: columns.map((column) => column.align ?? 'left'),
    // cli-table3 colours heads and borders, on pipes too: its styles are off, cells are coloured
    // here
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': GAP, compact: true },
    chars: NO_BORDERS,
  })
  for (const row of rows) {
    grid.push(
      columns.map((column, i) => {
        const whole = textOf(column, row)
        const text = column.prose ? wrapped(whole, widths[i]!) : cut(whole, widths[i]!)
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

/**
 * The columns that have room, and how wide they are. The widest texts are cut first, down to a few
 * letters. Then columns leave in the order of `leaves`. Numbers are never cut.
 */
function fitted(
  rows: readonly Row[],
  all: readonly Column[],
  width: number,
): { columns: readonly Column[]; widths: number[] } {
  const needed = new Map(
    all.map((column) => [
      column,
      rows.reduce(
        (most, row) => Math.max(most, lengthOf(textOf(column, row))),
        lengthOf(titleOf(column)),
      ),
    ]),
  )
  const least = (column: Column): number =>
    column.align === 'right'
      ? needed.get(column)!
      : Math.min(
          needed.get(column)!,
          Math.max(lengthOf(titleOf(column)), column.prose ? FEWEST_OF_PROSE : FEWEST),
        )
  const over = (widths: readonly number[]): number =>
    widths.reduce((sum, each) => sum + each + GAP, -GAP) - width
  let columns = all
  while (over(columns.map(least)) > 0) {
    const next = columns.reduce((first, column) =>
      (column.leaves ?? Infinity) < (first.leaves ?? Infinity) ? column : first,
    )
    if (next.leaves === undefined) break
    columns = columns.filter((column) => column !== next)
  }
  const widths = columns.map((column) => needed.get(column)!)
  for (let excess = over(widths); excess > 0; excess--) {
    const room = columns.map((column, i) => (widths[i]! > least(column) ? widths[i]! : 0))
    const widest = Math.max(...room)
    if (widest === 0) break
    widths[room.indexOf(widest)]! -= 1
  }
  return { columns, widths }
}

const titleOf = (column: Column): string => column.title ?? column.key
const lengthOf = (text: string): number => [...text].length

export function cut(text: string, width: number): string {
  return lengthOf(text) <= width ? text : `${[...text].slice(0, width - 1).join('')}…`
}

function wrapped(text: string, width: number): string {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && lengthOf(last) + 1 + lengthOf(word) <= width)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(cut(word, width))
  }
  return lines.join('\n')
}

export function textOf({ key, text }: Column, row: Row): string {
  return text ? printable(text(row[key], row)) : cell(row[key])
}

/** One column for each key of the rows. For functions to which the schema may add columns. */
export function columnsOf(rows: readonly Row[]): Column[] {
  return Object.keys(rows[0] ?? {}).map((key) => ({
    key,
    align: rows.some((row) => typeof row[key] === 'number') ? 'right' : 'left',
  }))
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
