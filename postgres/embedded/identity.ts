import { readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

/** The operating system user the local server runs as. Empty: the user we already are. */
export interface Identity {
  uid?: number
  gid?: number
}

/**
 * Postgres refuses to run as root, so root lends the server another user: `postgres` where it
 * exists, else `nobody`. No user is ever created.
 */
export function serverIdentity(): Identity {
  if (process.getuid?.() !== 0) return {}
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
  for (const name of ['postgres', 'nobody']) {
    const account = accounts.find((fields) => fields[0] === name)
    if (account?.[2] && account[3]) return { uid: Number(account[2]), gid: Number(account[3]) }
  }
  throw new Error(
    'Postgres refuses to run as root, and this machine has neither a postgres nor a nobody user to run it as. ' +
      'Start as an ordinary user, or set DATABASE_URL to a server that runs elsewhere.',
  )
}

/**
 * Can that user walk down to `path` and enter or execute it? A 0700 home directory or a checkout
 * under mkdtemp is the usual reason why not.
 */
export function reachable(path: string, identity: Identity): boolean {
  if (identity.uid === undefined) return true
  for (let step = resolve(path); ; step = dirname(step)) {
    const stat = statSync(step)
    const executable =
      stat.uid === identity.uid
        ? stat.mode & 0o100
        : stat.gid === identity.gid
          ? stat.mode & 0o010
          : stat.mode & 0o001
    if (!executable) return false
    if (step === dirname(step)) return true
  }
}
