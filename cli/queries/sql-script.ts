/**
 * Runs the user's SQL where no psql is installed, and prints the results as psql does. It uses the
 * driver `pg`, because that separates the results of several statements. Values stay as text.
 */
import pg from 'pg'
import { parseDatabaseUrl, pgConfig } from '../../postgres/database-url.js'
import { findPrimary } from '../../postgres/find-primary.js'
import { printable } from '../terminal/text.js'

type Result = pg.QueryArrayResult<(string | null)[]>

/** Each text is one implicit transaction, as with psql -c. The first error ends the script. */
export async function runScript(
  url: string,
  texts: readonly string[],
  write: (text: string) => void,
): Promise<void> {
  const config = pgConfig(await findPrimary(parseDatabaseUrl(url)), {
    application_name: 'mooring psql',
  })
  const client = new pg.Client({
    ...config,
    types: { getTypeParser: () => (value: string) => value },
  })
  client.on('error', () => {}) // the query rejects with it
  client.on('notice', (notice) => {
    process.stderr.write(`${notice.severity ?? 'NOTICE'}: ${printable(notice.message ?? '')}\n`)
  })
  await client.connect()
  try {
    for (const text of texts) {
      const answer: Result | Result[] = await client.query<(string | null)[]>({
        text,
        rowMode: 'array',
      })
      for (const result of Array.isArray(answer) ? answer : [answer]) write(resultText(result))
    }
  } finally {
    await client.end()
  }
}

function resultText({ fields, rows, command, rowCount }: Result): string {
  if (fields.length === 0) return command ? `${command}${countText(command, rowCount)}\n` : ''
  const names = fields.map((field) => printable(field.name))
  const lines = rows.map((row) => row.map((value) => printable(value ?? '')))
  const widths = names.map((name, i) =>
    lines.reduce((width, line) => Math.max(width, line[i]!.length), name.length),
  )
  const line = (parts: string[]) =>
    parts
      .map((text, i) => ` ${text.padEnd(widths[i]!)} `)
      .join('|')
      .trimEnd()
  return [
    line(names),
    widths.map((width) => '-'.repeat(width + 2)).join('+'),
    ...lines.map(line),
    `(${rows.length} row${rows.length === 1 ? '' : 's'})`,
    '',
    '',
  ].join('\n')
}

/** As psql: INSERT has an oid, always 0, before its count. */
const countText = (command: string, rows: number | null): string =>
  rows === null ? '' : ` ${command === 'INSERT' ? '0 ' : ''}${rows}`
