import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'

/**
 * A port that is free at this moment on that address: the one that is preferred, else one that the
 * kernel chooses.
 */
export async function freePort(address = '127.0.0.1', preferred = 0): Promise<number> {
  const server = createServer().listen(preferred, address)
  try {
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  } catch (error) {
    if (preferred === 0 || (error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    return await freePort(address)
  } finally {
    server.close()
  }
}
