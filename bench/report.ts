/** The table for people, and the same as JSON. */
import { cpus, loadavg, release, totalmem } from 'node:os'
import { table } from '../cli/terminal/table.js'
import { isMet, median, type Figure } from './benchmark.js'

export interface Measured extends Figure {
  benchmark: string
}

export interface Circumstances {
  postgres: string
  quick: boolean
  runs: number
  load: { before: number; after: number }
}

export const loadNow = (): number => loadavg()[0]!

export function renderTable(figures: readonly Measured[]): string {
  return table(figures.map(lineOf), [
    { key: 'benchmark' },
    { key: 'what' },
    { key: 'asked', align: 'right' },
    { key: 'floor', align: 'right' },
    { key: 'median', align: 'right' },
    { key: 'spread', align: 'right' },
    { key: 'n', align: 'right' },
    { key: 'met' },
  ])
}

export function machineLine({ postgres, load }: Circumstances): string {
  const { cores, model, memoryGib, kernel, node } = machine()
  return (
    `${cores} x ${model}, ${memoryGib} GiB, Linux ${kernel}, Node ${node}, ` +
    `PostgreSQL ${postgres}, fsync on; load ${load.before.toFixed(1)} before, ` +
    `${load.after.toFixed(1)} after`
  )
}

export function renderJson(figures: readonly Measured[], circumstances: Circumstances): string {
  const rows = figures.map((figure) => ({
    benchmark: figure.benchmark,
    what: figure.what,
    unit: figure.unit,
    asked: figure.asked ?? null,
    floor: figure.floor ?? null,
    median: median(figure.values),
    min: Math.min(...figure.values),
    max: Math.max(...figure.values),
    n: figure.values.length,
    met: isMet(figure),
    note: figure.note ?? null,
  }))
  return JSON.stringify({ machine: machine(), ...circumstances, figures: rows }, null, 2)
}

function lineOf(figure: Measured): Record<string, unknown> {
  const { asked, values, unit } = figure
  const met = isMet(figure)
  return {
    benchmark: figure.benchmark,
    what: figure.what,
    asked:
      asked === undefined
        ? ''
        : 'atMost' in asked
          ? `<= ${withUnit(asked.atMost, unit)}`
          : `>= ${withUnit(asked.atLeast, unit)}`,
    floor: figure.floor ?? '',
    median: withUnit(median(values), unit),
    spread: `${short(Math.min(...values))}..${short(Math.max(...values))}`,
    n: String(values.length),
    met: met === null ? '' : met ? 'yes' : 'NO',
  }
}

const withUnit = (value: number, unit: string): string =>
  unit === '/s' || unit === '' ? `${short(value)}${unit}` : `${short(value)} ${unit}`

function short(value: number): string {
  if (Number.isInteger(value) || Math.abs(value) >= 100)
    return Math.round(value).toLocaleString('en')
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2)
}

function machine(): {
  cores: number
  model: string
  memoryGib: number
  kernel: string
  node: string
} {
  return {
    cores: cpus().length,
    model: cpus()[0]?.model ?? 'unknown',
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.versions.node,
  }
}
