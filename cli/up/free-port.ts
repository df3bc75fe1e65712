import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'

/** That port of 127.0.0.1 when nothing listens there, else one that the kernel chooses. */
export async function freePort(wanted: number): Promise<number> {
  for (const port of [wanted, 0]) {
    const server = createServer().listen(port, '127.0.0.1')
    try {
      await once(server, 'listening')
      return (server.address() as AddressInfo).port
    } catch (error) {
      if (port === 0 || (error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    } finally {
      server.close()
    }
  }
  throw new Error('unreachable')
}
