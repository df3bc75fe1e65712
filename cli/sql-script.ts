/** Runs the user's own SQL where no psql is installed, and prints what comes back as psql's tables do. */
import { connect } from './database.js'
import { cell } from './render.js'

interface Result extends Array<Record<string, unknown>> {
  command?: string | null
  count?: number | null
  columns?: { name: string }[]
}

/** Each text is one round trip and one implicit transaction, as with psql -c. The first error ends it. */
export async function runScript(url: string, texts: readonly string[], write: (text: string) => void): Promise<void> {
  const sql = connect(url, { onNotice: (notice) => process.stderr.write(`${notice}\n`) })
  try {
    for (const text of texts) {
      const answer = await sql.unsafe(text).simple() as unknown as Result | Result[]
      for (const result of isMany(answer) ? answer : [answer]) write(resultText(result))
    }
  } finally {
    await sql.end({ timeout: 1 })
  }
}

function isMany(answer: Result | Result[]): answer is Result[] {
  return answer.length > 0 && Array.isArray(answer[0])
}

function resultText(result: Result): string {
  const names = (result.columns ?? []).map((column) => column.name)
  if (names.length === 0) return result.command ? `${[result.command, result.count].filter((part) => part !== null && part !== undefined).join(' ')}\n` : ''
  const lines = result.map((row) => names.map((name) => (row[name] === null ? '' : cell(row[name]))))
  const widths = names.map((name, i) => Math.max(name.length, ...lines.map((line) => line[i]!.length)))
  const join = (parts: string[], between: string) => parts.join(between).trimEnd()
  return [
    join(names.map((name, i) => ` ${name.padEnd(widths[i]!)} `), '|'),
    widths.map((width) => '-'.repeat(width + 2)).join('+'),
    ...lines.map((line) => join(line.map((text, i) => ` ${text.padEnd(widths[i]!)} `), '|')),
    `(${result.length} row${result.length === 1 ? '' : 's'})`, '', '',
  ].join('\n')
}
