import { createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** Takes every connection and does this with it, as a server that stops, hangs or crashes does. */
export async function rudeServer(
  t: Test,
  treat: (socket: Socket) => void,
): Promise<{ port: number; connections(): number }> {
  const open = new Set<Socket>()
  let connections = 0
  const server = createServer((socket) => {
    connections++
    open.add(socket.on('error', () => {}))
    treat(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of open) socket.destroy()
    server.close()
  })
  return { port: (server.address() as { port: number }).port, connections: () => connections }
}
