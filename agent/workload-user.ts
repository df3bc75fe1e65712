/**
 * The user that workloads run as, and how a process becomes that user for good. A workload of root
 * would read the agent's password and undo its own containment.
 */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fchownSync,
  openSync,
  statSync,
} from 'node:fs'
import { closedTo, findUser, type User } from '../host/users.js'
import { findProgram } from './warden/start-errors.js'

export interface WorkloadUser extends User {
  /** Put before a workload's argv. */
  become: readonly string[]
  /** It may enter its home folder. System users often have none. */
  enters: boolean
}

/** The message names the way out. */
export class WorkloadUserError extends Error {
  override name = 'WorkloadUserError'
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * Null: workloads run as the user of this process. That is so for an agent of an ordinary user, and
 * for root that was asked for by name. Throws WorkloadUserError, which says what to add.
 */
export function workloadUser(name: string | null): WorkloadUser | null {
  const own = process.getuid?.()
  if (own !== 0) {
    if (name === null || findUser(name)?.uid === own) return null
    throw new WorkloadUserError(
      `only root can run workloads as another user, and this agent is not root: ` +
        `leave --workload-user out, or start it as root`,
    )
  }
  if (name === null)
    throw new WorkloadUserError(
      'this agent is root, so its workloads would be root too and could read its DATABASE_URL: ' +
        'add --workload-user NAME, a user with no rights such as nobody; ' +
        '--workload-user root runs them as root all the same',
    )
  const user = findUser(name)
  if (user === null)
    throw new WorkloadUserError(
      `this host has no user ${JSON.stringify(name)}: ` +
        `make it with \`useradd --system ${name}\`, or name another one`,
    )
  if (user.uid === 0) return null
  const become = becoming(user)
  const tried = spawnSync(become[0]!, [...become.slice(1), process.execPath, '--version'], {
    cwd: '/',
    encoding: 'utf8',
  })
  if (tried.status !== 0)
    throw new WorkloadUserError(
      `no process of ${name} can run ${process.execPath}: ` +
        `${tried.stderr?.trim() || tried.error?.message || `code ${tried.status}`}; ` +
        'install Node where every user may run it, such as /usr/local',
    )
  return { ...user, become, enters: existsSync(user.home) && closedTo(user, user.home) === null }
}

function becoming({ uid, gid }: User): string[] {
  const setpriv = findProgram('setpriv', [process.env['PATH'], PATH].join(':'))
  if (setpriv === null)
    throw new WorkloadUserError(
      'setpriv is missing, by which a workload becomes another user: install util-linux',
    )
  return [
    setpriv,
    `--reuid=${uid}`,
    `--regid=${gid}`,
    '--clear-groups',
    '--no-new-privs',
    '--bounding-set=-all',
    '--inh-caps=-all',
    // becoming another user takes away what containment.ts has set
    '--pdeathsig=KILL',
    '--',
  ]
}

/** Workloads pass through these folders and cannot list them. Throws where one above is closed. */
export function openFoldersTo(user: WorkloadUser, folders: readonly string[]): void {
  for (const folder of folders) chmodSync(folder, (statSync(folder).mode & 0o7777) | 0o011)
  const closed = closedTo(user, folders.at(-1)!)
  if (closed !== null)
    throw new WorkloadUserError(
      `${user.name} cannot enter ${closed}, and workloads need what lies below: ` +
        `choose another --state-dir, such as /var/lib/mooring, or \`chmod o+x ${closed}\``,
    )
}

/** The folder becomes its; what is inside stays as it is. */
export function giveFolder(user: WorkloadUser, folder: string): void {
  if (statSync(folder).uid !== user.uid) chownSync(folder, user.uid, user.gid)
}

/**
 * The log becomes its, so that it can open /dev/stderr again. The folder is not its, so it cannot
 * put anything in place of the log. What cannot have a log runs without one.
 */
export function giveLog(user: WorkloadUser, logFile: string): void {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants
  let fd: number | null = null
  try {
    fd = openSync(logFile, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600)
    fchownSync(fd, user.uid, user.gid)
  } catch {
    // the warden says so when it opens the log
  } finally {
    if (fd !== null) closeSync(fd)
  }
}
