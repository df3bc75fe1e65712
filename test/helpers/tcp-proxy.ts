import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'

export interface TcpProxy {
  /** The same database, reached through the proxy. */
  url: string
  /** Nothing passes any more in either direction, and nobody is told: a cut cable. New connections are accepted and hear nothing. */
  cut(): void
  /** Connections are reset, new ones refused: a server that is down. */
  reset(): void
  /** As at first; connections that were cut are reset, for what they lost is gone. */
  restore(): void
  connections(): number
}

/**
 * A reset where one can be sent. While a connection is being opened or an end is on its way, libuv refuses it, Node 20 takes the handle for
 * closed all the same, and at its exit waits for it for ever.
 */
function reset(socket: Socket): void {
  if (socket.connecting || socket.writableEnded || socket.readableEnded) socket.destroy()
  else socket.resetAndDestroy()
}

/** A TCP proxy before the server of `url`, closed with the test. */
export async function tcpProxy(t: Test, url: string): Promise<TcpProxy> {
  const target = new URL(url)
  const sockets = new Set<Socket>()
  let passing: 'all' | 'nothing' | 'refused' = 'all'

  const server = createServer((near) => {
    sockets.add(near)
    near.on('error', () => {}).on('close', () => sockets.delete(near))
    if (passing === 'refused') reset(near)
    if (passing !== 'all') return
    const far = connect(Number(target.port), target.hostname)
    sockets.add(far)
    far.on('error', () => {}).on('close', () => {
      sockets.delete(far)
      if (passing !== 'nothing') near.destroy()
    })
    near.on('close', () => { if (passing !== 'nothing') far.destroy() })
    near.on('data', (data) => { if (passing === 'all') far.write(data) })
    far.on('data', (data) => { if (passing === 'all') near.write(data) })
    near.setNoDelay(true)
    far.setNoDelay(true)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const resetAll = (): void => { for (const socket of sockets) reset(socket) }
  t.teardown(async () => {
    passing = 'refused'
    resetAll()
    await new Promise((resolve) => server.close(resolve))
  })
  const through = new URL(url)
  through.hostname = '127.0.0.1'
  through.port = String((server.address() as AddressInfo).port)
  return {
    url: through.href,
    cut() { passing = 'nothing' },
    reset() {
      passing = 'refused'
      resetAll()
    },
    restore() {
      resetAll()
      passing = 'all'
    },
    connections: () => sockets.size,
  }
}
