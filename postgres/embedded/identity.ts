import { readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

/** The operating system user of the local server. Empty: the user of this process. */
export interface Identity {
  uid?: number
  gid?: number
}

/**
 * The user of this process, unless that is root: Postgres refuses to run as root. Then it is
 * `postgres` where it exists, else `nobody`. No user is created.
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
    'Postgres refuses to run as root, and this machine has no user postgres or nobody. ' +
      'Start as an ordinary user, or set DATABASE_URL to a server that runs elsewhere.',
  )
}

/**
 * True when that user can walk down to `path` and enter or execute it. A 0700 home directory or a
 * checkout under mkdtemp is the usual obstacle.
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
