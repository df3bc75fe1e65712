/**
 * Which server of the cluster may be believed. A promotion raises the timeline. So when a server of
 * a newer timeline has answered, one of an older timeline is deposed, even if it does not know:
 * what it says of ownership is no longer true.
 * The newest one is kept in a file, because a restarted agent must not return to the older one.
 */
import { readNewestServer, writeNewestServer } from '../../state-folder/newest-server-file.js'
import { ConnectionError } from '../../postgres/connection.js'

/** As server_identity() answers. Null where the server does not tell. */
export interface ServerIdentity {
  system_identifier: string | null
  database_oid: string
  port: number
  timeline: number | null
  standby: boolean
}

export interface NewestServer {
  /**
   * Throws ConnectionError DEPOSED_SERVER when the answer must not be believed. Returns true when
   * this server is newer than all before: answers of before must not be combined with its own.
   */
  check(identity: ServerIdentity): boolean
}

/** folder: the agent's folder, `<state>/agents/<node>`. */
export function createNewestServer(folder: string | null): NewestServer {
  let newest = folder === null ? null : readNewestServer(folder)

  return {
    check({ system_identifier, timeline, standby }) {
      if (standby)
        throw new ConnectionError('DEPOSED_SERVER', 'the server is a standby, not the primary')
      if (system_identifier === null || timeline === null) return false
      const same = newest?.system_identifier === system_identifier
      if (same && newest!.timeline > timeline)
        throw new ConnectionError(
          'DEPOSED_SERVER',
          `the server is on timeline ${timeline}, but timeline ${newest!.timeline} of its ` +
            'cluster has answered before: a standby was promoted and this server deposed. ' +
            'Was it restored from a copy instead? Then remove newest-server.json in the folder ' +
            'of the agent and restart the agent',
        )
      if (same && newest!.timeline === timeline) return false
      const first = newest === null
      newest = { system_identifier, timeline }
      if (folder !== null) writeNewestServer(folder, newest)
      return !first
    },
  }
}
