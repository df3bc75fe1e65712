/**
 * The session an agent registered last, kept in its folder: the next one names it as the one it replaces, and need not wait for its lease to end.
 *
 * Only where what that session ran is taken over or dead, which the agent sees to before it registers, and only on the machine and in the boot it was
 * written in: in a copy of the folder on another host it would let two sessions of one name run the same work.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { markPrefix, readBootId } from './process-files.js'

interface LastSession {
  session: string
  boot_id: string | null
  folder: string
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export function lastSession(folder: string): string | null {
  try {
    const last = JSON.parse(readFileSync(fileOf(folder), 'utf8')) as Partial<LastSession>
    const here =
      last.boot_id !== null && last.boot_id === readBootId() && last.folder === markPrefix(folder)
    return here && typeof last.session === 'string' && UUID.test(last.session) ? last.session : null
  } catch {
    return null
  }
}

/** Where it cannot be written, the next session waits for the lease. */
export function noteSession(folder: string, session: string): void {
  try {
    writeFileSync(
      fileOf(folder),
      JSON.stringify({
        session,
        boot_id: readBootId(),
        folder: markPrefix(folder),
      } satisfies LastSession),
      { mode: 0o600 },
    )
  } catch {
    // a full disk
  }
}

function fileOf(folder: string): string {
  return join(folder, 'session.json')
}
