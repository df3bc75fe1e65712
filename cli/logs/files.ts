/**
 * Finds what agents of this host wrote: <state>/agents/<node>/logs/<assignment>.log, read as state-folder/log-reader.ts says.
 * Needs no database, so it works in an outage too.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { logFileOf } from '../../state-folder/log-reader.js'

export interface LogFile {
  node: string
  assignment_id: string
  path: string
  modifiedAt: number
}

/** Of every local agent that ever ran the assignment, the last written first. */
export function logFilesOf(stateDir: string, assignmentId: string): LogFile[] {
  const agents = join(stateDir, 'agents')
  if (!existsSync(agents)) return []
  return readdirSync(agents)
    .map((node) => ({
      node,
      assignment_id: assignmentId,
      path: logFileOf(join(agents, node), assignmentId),
    }))
    .flatMap((file) => {
      const stat = statSync(file.path, { throwIfNoEntry: false })
      return stat ? [{ ...file, modifiedAt: stat.mtimeMs }] : []
    })
    .sort((a, b) => b.modifiedAt - a.modifiedAt)
}

/** The session that an agent of this name in this state directory registered last; null: there is no such agent here. */
export function localSession(stateDir: string, node: string): string | null {
  try {
    const { session } = JSON.parse(
      readFileSync(join(stateDir, 'agents', node, 'session.json'), 'utf8'),
    ) as { session?: unknown }
    return typeof session === 'string' ? session : null
  } catch {
    return null
  }
}
