/**
 * `session.json`: the session that the agent registered last. The next session names it as the one
 * it replaces, so it need not wait for that lease to end. It is valid only in the same folder and
 * boot: a copy of the folder on another host would let two sessions run the same work.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runIdPrefix, readBootId } from './process-files.js'

interface LastSession {
  session: string
  boot_id: string | null
  folder: string
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/**
 * The caller first takes over or ends what that session ran.
 * Null where the file is missing, damaged, or of another folder or boot.
 */
export function readLastSession(folder: string): string | null {
  try {
    const last = JSON.parse(readFileSync(fileOf(folder), 'utf8')) as Partial<LastSession>
    const here =
      last.boot_id !== null && last.boot_id === readBootId() && last.folder === runIdPrefix(folder)
    return here && typeof last.session === 'string' && UUID.test(last.session) ? last.session : null
  } catch {
    return null
  }
}

/** When it cannot be written, the next session waits for the lease to end. */
export function writeLastSession(folder: string, session: string): void {
  try {
    writeFileSync(
      fileOf(folder),
      JSON.stringify({
        session,
        boot_id: readBootId(),
        folder: runIdPrefix(folder),
      } satisfies LastSession),
      { mode: 0o600 },
    )
  } catch {
    // the disk is full
  }
}

function fileOf(folder: string): string {
  return join(folder, 'session.json')
}
