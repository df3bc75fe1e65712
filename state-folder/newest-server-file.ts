/**
 * `newest-server.json`: the newest timeline of the database cluster that has answered this agent.
 * A server of an older timeline is not believed, see agent/session/newest-server.ts.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface KnownServer {
  system_identifier: string
  timeline: number
}

/** Null where the file is missing or damaged. */
export function readNewestServer(folder: string): KnownServer | null {
  try {
    const { system_identifier, timeline } = JSON.parse(
      readFileSync(fileOf(folder), 'utf8'),
    ) as Partial<KnownServer>
    return typeof system_identifier === 'string' && Number.isInteger(timeline)
      ? { system_identifier, timeline: timeline! }
      : null
  } catch {
    return null
  }
}

/** When it cannot be written, only this life of the agent knows. */
export function writeNewestServer(folder: string, server: KnownServer): void {
  try {
    writeFileSync(fileOf(folder), JSON.stringify(server), { mode: 0o600 })
  } catch {
    // the disk is full
  }
}

function fileOf(folder: string): string {
  return join(folder, 'newest-server.json')
}
