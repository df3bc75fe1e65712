import { connect, type Socket } from 'node:net'
import type { HostAndPort } from './database-url.js'

/** The number of a server process and its key, from the start of a connection. */
export interface Backend {
  pid: number | null
  secret: number | null
}

const GIVE_UP_MS = 5_000
/** https://www.postgresql.org/docs/17/protocol-message-formats.html, CancelRequest */
const CANCEL_REQUEST = 80_877_102

/**
 * Asks the server to give up what a connection was doing, when its client no longer waits.
 * Without it a commit that waits for a lost standby keeps its server process, and each new try
 * adds one, up to `max_connections`. The answer of that commit has no reader, so a commit that is
 * released early confirms nothing.
 * Needs no login and no TLS. Resolves always; a server that is gone has nothing to cancel.
 */
export async function cancelRequest(at: HostAndPort, { pid, secret }: Backend): Promise<void> {
  if (pid === null || secret === null) return
  const message = Buffer.alloc(16)
  message.writeInt32BE(16, 0)
  message.writeInt32BE(CANCEL_REQUEST, 4)
  message.writeInt32BE(pid, 8)
  message.writeInt32BE(secret | 0, 12) // the drivers read it with or without a sign
  const socket = dial(at)
  socket.setTimeout(GIVE_UP_MS, () => socket.destroy())
  socket.unref()
  await new Promise<void>((resolve) => {
    socket.on('error', () => {})
    socket.once('close', () => resolve())
    socket.once('connect', () => socket.end(message))
    socket.resume()
  })
}

/** A socket to the server at this host, or in this folder. */
export function dial({ host, port }: HostAndPort): Socket {
  return host.startsWith('/')
    ? connect(`${host}/.s.PGSQL.${port}`)
    : connect({ host, port, noDelay: true })
}
