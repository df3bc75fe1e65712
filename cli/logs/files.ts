/**
 * Finds the logs of this host's agents: <state>/agents/<node>/logs/<assignment>.log. It needs no
 * database, so it works in an outage too.
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

/** The logs of all local agents that ran the assignment, the last written first. */
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

/** The session that the local agent of this name registered last; null: there is no such agent. */
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
