/**
 * Between a host and the server: a namespace of its own where there is a lab, else a TCP proxy;
 * delay is always the proxy's.
 */
import type { Lab } from './lab.js'
import type { Server } from './server.js'
import { openTcpProxy, type TcpProxy } from './tcp-proxy.js'

export interface HostNetwork {
  /** Runs a command as on that host. */
  prefix: readonly string[]
  /** DATABASE_URL as this host has to write it. */
  url: string
  cut(): Promise<void>
  /** Hears nothing: answers are lost, requests arrive. */
  deaf(): Promise<void>
  /** Says nothing: requests are lost, answers under way arrive. */
  mute(): Promise<void>
  lose(percent: number): Promise<void>
  reset(): Promise<void>
  delay(ms: { there: number; back: number }): void
  heal(): Promise<void>
  /** Of everything on this host, dead-man timers too; empty where there is no lab. */
  pids(): Promise<number[]>
  /**
   * SIGKILL to all that runs on this host. False where its processes do not differ from others by
   * their network.
   */
  killAll(): Promise<boolean>
  close(): Promise<void>
}

/** The servers in the order in which a client asks them. */
export async function hostNetwork(
  lab: Lab | null,
  servers: readonly [Server, ...Server[]],
  proxied: boolean,
): Promise<HostNetwork> {
  const host = lab ? await lab.addHost() : null
  const address = lab?.address ?? '127.0.0.1'
  const proxies: TcpProxy[] = []
  const places: string[] = []
  for (const { port } of servers) {
    if (!proxied && lab) places.push(`${address}:${port}`)
    else {
      const proxy = await openTcpProxy({ host: '127.0.0.1', port }, address)
      proxies.push(proxy)
      places.push(`${address}:${proxy.port}`)
    }
  }
  const each = (act: (proxy: TcpProxy) => void) => async (): Promise<void> => proxies.forEach(act)
  const cut = host?.cut ?? each((proxy) => proxy.cut())
  return {
    prefix: host?.prefix ?? [],
    url: servers[0].url('at').replace(`at:${servers[0].port}`, places.join(',')),
    cut,
    deaf: host?.deaf ?? each((proxy) => proxy.cutAnswers()),
    mute: host?.mute ?? each((proxy) => proxy.cutRequests()),
    lose: host?.lose ?? cut,
    reset: host?.reset ?? each((proxy) => proxy.reset()),
    delay: (ms) => proxies.forEach((proxy) => proxy.delay(ms)),
    async heal() {
      proxies.forEach((proxy) => proxy.restore())
      await host?.heal()
    },
    pids: async () => (await host?.pids()) ?? [],
    async killAll() {
      await host?.killAll()
      return host !== null
    },
    close: async () => void (await Promise.all(proxies.map((proxy) => proxy.close()))),
  }
}
