/**
 * The user of workloads on the embedded database, where nothing says one. It is there to be tried:
 * root's workloads are nobody's, unless they could not reach what they need then.
 */
import { dirname, resolve } from 'node:path'
import { closedTo, findUser } from '../host/users.js'

export interface LocalUser {
  /** For --workload-user; null: the user of this process, which is not root. */
  user: string | null
  /** Why root's workloads stay root, as a sentence with the way out. */
  warning: string | null
}

export function localUser(stateDir: string): LocalUser {
  if (process.getuid?.() !== 0) return { user: null, warning: null }
  const nobody = findUser('nobody')
  const obstacle =
    nobody === null
      ? 'there is no user nobody'
      : [dirname(resolve(stateDir)), process.execPath]
          .map((path) => closedTo(nobody, path))
          .filter((path) => path !== null)
          .map((path) => `nobody cannot enter ${path}`)[0]
  if (obstacle === undefined) return { user: 'nobody', warning: null }
  return {
    user: 'root',
    warning: `workloads run as root: ${obstacle}; start it as an ordinary user, or elsewhere`,
  }
}
