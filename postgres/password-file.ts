import { readFileSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

export interface PasswordFor {
  host: string
  port: number
  database: string
  user: string
}

/**
 * The password that libpq would find: PGPASSWORD, else the first line that fits of PGPASSFILE or
 * ~/.pgpass. As libpq, it ignores a file that others than its owner may read.
 * https://www.postgresql.org/docs/17/libpq-pgpass.html
 */
export function storedPassword(
  wanted: PasswordFor,
  env: NodeJS.ProcessEnv = process.env,
): string | undefined {
  if (env['PGPASSWORD']) return env['PGPASSWORD']
  const text = contentOf(env['PGPASSFILE'] || join(env['HOME'] || homedir(), '.pgpass'))
  // a socket in a folder of its own is named by it, the usual ones by localhost
  const host = USUAL_SOCKETS.has(wanted.host) ? 'localhost' : wanted.host
  const fields = [host, String(wanted.port), wanted.database, wanted.user]
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith('#')) continue
    const parts = fieldsOf(line)
    if (parts.length < 5) continue
    const fits = fields.every(
      (field, index) => parts[index]?.raw === '*' || parts[index]?.text === field,
    )
    if (fits) return parts[4]?.text
  }
  return undefined
}

const USUAL_SOCKETS = new Set(['/tmp', '/var/run/postgresql', '/run/postgresql'])
const OTHERS_MAY_READ = 0o077

function contentOf(path: string): string {
  try {
    const stats = statSync(path)
    if (!stats.isFile() || stats.mode & OTHERS_MAY_READ) return ''
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Parts between colons; a backslash takes the next character as it is. */
const fieldsOf = (line: string): { raw: string; text: string }[] =>
  [...line.matchAll(/(?:^|:)((?:\\.|[^:\\])*)/g)].map(([, raw = '']) => ({
    raw,
    text: raw.replace(/\\(.)/g, '$1'),
  }))
