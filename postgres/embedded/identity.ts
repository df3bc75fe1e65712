import { closedTo, findUser } from '../../host/users.js'

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
  const account = findUser('postgres') ?? findUser('nobody')
  if (account !== null) return { uid: account.uid, gid: account.gid }
  throw new Error(
    'Postgres refuses to run as root, and this machine has no user postgres or nobody. ' +
      'Start as an ordinary user, or set DATABASE_URL to a server that runs elsewhere.',
  )
}

/** Whether that user can walk down to `path` and enter or execute it. */
export function reachable(path: string, { uid, gid }: Identity): boolean {
  return uid === undefined || gid === undefined || closedTo({ uid, gid }, path) === null
}
