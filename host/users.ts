/** The users of this machine, and what they may reach. */
import { spawnSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

export interface User {
  name: string
  uid: number
  gid: number
  home: string
}

/** Null when the machine knows no such user. A directory service is asked after /etc/passwd. */
export function findUser(name: string): User | null {
  const isThis = (line: string): boolean => line.startsWith(`${name}:`)
  const line =
    readFileSync('/etc/passwd', 'utf8').split('\n').find(isThis) ??
    spawnSync('getent', ['passwd', '--', name], { encoding: 'utf8' }).stdout?.trim()
  if (!line || !isThis(line)) return null
  const [, , uid, gid, , home] = line.split(':')
  return { name, uid: Number(uid), gid: Number(gid), home: home || '/' }
}

/**
 * Throws where a folder that says what to trust belongs to another user, root aside: it may have
 * been put there for this process to find.
 */
export function requireOwnFolder(folder: string): void {
  const { uid } = statSync(folder)
  const own = process.getuid?.() ?? uid
  if (uid !== own && uid !== 0)
    throw new Error(
      `${folder} belongs to another user (uid ${uid}), and this is uid ${own}: ` +
        'run it as that user, or choose another --state-dir',
    )
}

/**
 * The last step on the way up from `path` that this user, without further groups, may not enter or
 * execute. Null when it can reach `path`. A home folder of mode 0700 is the usual obstacle.
 */
export function closedTo({ uid, gid }: Pick<User, 'uid' | 'gid'>, path: string): string | null {
  let closed: string | null = null
  for (let step = resolve(path); ; step = dirname(step)) {
    const stat = statSync(step)
    const bit = stat.uid === uid ? 0o100 : stat.gid === gid ? 0o010 : 0o001
    if (!(stat.mode & bit)) closed = step
    if (step === dirname(step)) return closed
  }
}
