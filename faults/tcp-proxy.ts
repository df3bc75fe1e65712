/**
 * A TCP proxy before a server: the network between one host and Postgres where there are no
 * namespaces. Everywhere it is the only way to be slow.
 */
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'

export interface TcpProxy {
  port: number
  /**
   * Nothing passes any more in either direction, and neither end is notified: a cut cable. New
   * connections are accepted and hear nothing.
   */
  cut(): void
  /** What is sent arrives, answers do not: one direction of the cable. */
  cutAnswers(): void
  /** What is sent does not arrive, answers under way do. */
  cutRequests(): void
  /** Connections are reset, new ones refused: a server that is down. */
  reset(): void
  /** So long each way, or for answers alone. Order is kept. */
  delay(ms: { there: number; back: number }): void
  /** As at first; connections that were cut are reset, for what they lost is gone. */
  restore(): void
  connections(): number
  close(): Promise<void>
}

/**
 * A reset where one can be sent. While a connection opens, or an end is on its way, libuv refuses
 * it. Node 20 then regards the handle as closed all the same, and waits for it at its exit for
 * ever.
 */
function reset(socket: Socket): void {
  if (socket.connecting || socket.writableEnded || socket.readableEnded) socket.destroy()
  else socket.resetAndDestroy()
}

export async function openTcpProxy(
  target: { host: string; port: number },
  listenOn = '127.0.0.1',
): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  let passing: 'all' | 'requests' | 'answers' | 'nothing' | 'refused' = 'all'
  let lost = false
  const delayMs = { there: 0, back: 0 }

  function pass(from: Socket, to: Socket, direction: 'there' | 'back'): void {
    const late: Buffer[] = []
    from.on('data', (data: Buffer) => {
      if (passing !== 'all' && passing !== (direction === 'there' ? 'requests' : 'answers')) return
      if (delayMs[direction] === 0 && late.length === 0) return void to.write(data)
      // whichever timer comes first sends what was said first: order is kept when the delay changes
      late.push(data)
      setTimeout(() => {
        const next = late.shift()
        if (next && !to.destroyed) to.write(next)
      }, delayMs[direction])
    })
  }

  const server = createServer((near) => {
    sockets.add(near)
    near.on('error', () => {}).on('close', () => sockets.delete(near))
    if (passing === 'refused') reset(near)
    if (passing === 'refused' || passing === 'nothing' || passing === 'answers') return
    const far = connect(target.port, target.host)
    sockets.add(far)
    const open = (): boolean => passing === 'all' || passing === 'refused'
    far
      .on('error', () => {})
      .on('close', () => {
        sockets.delete(far)
        if (open()) near.destroy()
      })
    near.on('close', () => {
      if (open()) far.destroy()
    })
    pass(near, far, 'there')
    pass(far, near, 'back')
    near.setNoDelay(true)
    far.setNoDelay(true)
  })
  await new Promise<void>((resolve, reject) =>
    server.once('error', reject).listen(0, listenOn, resolve),
  )
  const resetAll = (): void => {
    for (const socket of sockets) reset(socket)
  }
  const lose = (what: typeof passing): void => {
    passing = what
    lost = true
  }
  return {
    port: (server.address() as AddressInfo).port,
    cut: () => lose('nothing'),
    cutAnswers: () => lose('requests'),
    cutRequests: () => lose('answers'),
    reset() {
      lose('refused')
      resetAll()
    },
    delay: (ms) => void Object.assign(delayMs, ms),
    restore() {
      Object.assign(delayMs, { there: 0, back: 0 })
      if (lost) resetAll()
      lost = false
      passing = 'all'
    },
    connections: () => sockets.size,
    async close() {
      passing = 'refused'
      resetAll()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
