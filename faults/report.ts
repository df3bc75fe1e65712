/** What is said about runs: a line each, a summary, and the table of docs/faults.md. */
import type { Report } from './main.js'
import type { RunResult } from './run.js'

export function sentenceOf({
  seed,
  level,
  plan,
  verdict,
  settledMs,
  missing,
  ok,
  void: nothing,
  kept,
}: RunResult): string {
  const steps = plan.steps
    .map(({ fault, host, atMs, lastsMs }) => `${fault}@${'abc'[host]} +${atMs}/${lastsMs} ms`)
    .join(' & ')
  const wrong = [
    verdict.overlapMs > 0 && `overlap ${verdict.overlapMs.toFixed(1)} ms`,
    verdict.lost.length > 0 && `${verdict.lost.length} lost`,
    verdict.epochsBack.length > 0 && `${verdict.epochsBack.length} epochs back`,
    verdict.robbed.length > 0 && `robbed: ${verdict.robbed.join(', ')}`,
    verdict.killed.length > 0 && `${verdict.killed.length} ended without a right`,
    verdict.lateWrites.length > 0 && `${verdict.lateWrites.length} late writes`,
    settledMs === null && `not settled${missing === null ? '' : ` ${missing}`}`,
  ].filter(Boolean)
  return (
    `${ok ? 'ok' : nothing === null ? 'NOT OK' : 'void'} seed ${seed} ${level}: ` +
    `${steps}: ` +
    (nothing ??
      (ok ? `settled ${settledMs} ms after the last heal` : `${wrong.join(', ')}; ${kept}`))
  )
}

export function commandFor(
  { seed, level, plan }: RunResult,
  { faults, table, short }: { faults?: string[]; table?: unknown; short?: unknown },
): string {
  const where = level === 'none' ? '' : ` --level ${level}`
  if (table)
    return (
      `npm run faults -- --table --runs 1 --seed ${seed}${where} --faults ` +
      `${plan.steps.map(({ fault }) => fault).join(',')}`
    )
  if (short)
    return (
      `npm run faults -- --runs 5 --seed ${seed}${where} --faults ` +
      `${plan.steps.map(({ fault }) => fault).join(',')}`
    )
  return (
    'npm run faults -- --runs 1 --seed ' +
    `${seed}${where}${faults ? ` --faults ${faults.join(',')}` : ''}`
  )
}

export function summary({ runs, controls, skipped }: Report): string {
  const lines: string[] = []
  const valid = runs.filter(({ void: nothing }) => nothing === null)
  if (runs.length > 0) {
    const sum = (of: (run: RunResult) => number): number =>
      valid.reduce((all, run) => all + of(run), 0)
    const settled = valid.flatMap(({ settledMs }) => settledMs ?? [])
    lines.push(
      `${valid.length} runs: ${sum(({ verdict }) => verdict.overlaps.length)} ` +
        `overlaps, ${sum(({ verdict }) => verdict.lost.length)} lost, ` +
        `${sum(({ verdict }) => verdict.epochsBack.length)} epochs back, ` +
        `${sum(({ verdict }) => verdict.robbed.length)} robbed, ` +
        `${sum(({ verdict }) => verdict.killed.length)} ended without a right, ` +
        `${sum(({ verdict }) => verdict.lateWrites.length)} late writes, ` +
        `${valid.filter(({ settledMs }) => settledMs === null).length} not settled; ` +
        `settled after ${ms(median(settled))} (most ${ms(Math.max(0, ...settled))})`,
    )
    if (valid.length < runs.length)
      lines.push(
        `${runs.length - valid.length} runs are void: ` +
          `${runs.find(({ void: nothing }) => nothing !== null)!.void}`,
      )
  }
  if (controls.length > 0)
    lines.push(
      `${controls.filter(({ ok }) => ok).length} of ${controls.length} negative ` +
        'controls are seen by the judge',
    )
  if (Object.keys(skipped).length > 0)
    lines.push(
      `left out: ${Object.entries(skipped)
        .map(([name, why]) => `${name} (${why})`)
        .join(', ')}`,
    )
  return lines.join('\n')
}

/** Each fault alone, a row; each level, three columns. */
export function renderTable({ runs, skipped }: Report): string {
  const levels = [...new Set(runs.map(({ level }) => level))]
  const faults = [...new Set(runs.map(({ plan }) => plan.steps[0]!.fault))]
  const head = [
    'fault',
    ...levels.flatMap((level) => [`${level}: overlap`, 'gap median / most', 'verdict']),
  ]
  const rows = faults.map((fault) => [
    `\`${fault}\``,
    ...levels.flatMap((level) => {
      const cell = runs.filter(
        (run) => run.level === level && run.plan.steps[0]!.fault === fault && run.void === null,
      )
      if (cell.length === 0) return ['', '', 'not run']
      const gaps = cell.flatMap((run) => run.gaps)
      const wrong = cell.filter(({ ok }) => !ok)
      return [
        ms(Math.max(...cell.map(({ verdict }) => verdict.overlapMs))),
        `${ms(median(gaps))} / ${ms(Math.max(0, ...gaps))}`,
        wrong.length === 0 ? 'in order' : `**${why(wrong)}**`,
      ]
    }),
  ])
  const lines = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`)
  return [
    ...lines,
    ...Object.entries(skipped).map(([name, reason]) => `\n\`${name}\` was left out: ${reason}.`),
  ].join('\n')
}

function why(wrong: readonly RunResult[]): string {
  const found = new Set(
    wrong.flatMap(({ verdict, settledMs }) =>
      [
        verdict.overlapMs > 0
          ? 'two copies ' +
            `(${[...new Set(verdict.overlaps.flatMap(({ by }) => by[0].role))].join(', ')})`
          : [],
        verdict.lost.length > 0 ? 'lost' : [],
        verdict.epochsBack.length > 0 ? 'epoch back' : [],
        verdict.robbed.length > 0 ? 'robbed' : [],
        verdict.killed.length > 0 ? 'ended without a right' : [],
        verdict.lateWrites.length > 0 ? 'late write' : [],
        settledMs === null ? 'not settled' : [],
      ].flat(),
    ),
  )
  return `${[...found].join(', ')} in ${wrong.length}`
}

const ms = (value: number): string => `${Math.round(value)} ms`

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length === 0
    ? 0
    : sorted.length % 2 === 1
      ? sorted[middle]!
      : (sorted[middle - 1]! + sorted[middle]!) / 2
}
