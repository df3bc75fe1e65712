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
}

export function table(rows: readonly Row[], columns: readonly Column[]): string {
  const grid = new Table({
    head: columns.map((column) => colors.dim(column.title ?? column.key)),
    colAligns: columns.map((column) => column.align ?? 'left'),
    // cli-table3 colours heads and borders, on pipes too: its styles are off, cells are coloured
    // here
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
