import type { Test } from 'tap'
import { openTcpProxy, type TcpProxy } from '../../faults/tcp-proxy.js'

/**
 * The proxy of the fault rig before the server of `url`, closed with the test.
 * Its `url` reaches the same database through the proxy.
 */
export async function tcpProxy(t: Test, url: string): Promise<TcpProxy & { url: string }> {
  const target = new URL(url)
  const proxy = await openTcpProxy({ host: target.hostname, port: Number(target.port) })
  t.teardown(proxy.close)
  return Object.assign(proxy, {
    url: Object.assign(new URL(url), { hostname: '127.0.0.1', port: String(proxy.port) }).href,
  })
}
