/**
 * Receives hints. A notification only means "read again": any login can send one, and any may be
 * lost.
 *
 * The reconnecting of pg-listen is not used, because it cannot be stopped: a close() in the middle
 * leaves a connection behind. It also keeps one host for ever. So retryLimit 1 makes its first
 * failure its last. Then a new subscriber with a new socket follows, after a jittered delay.
 */
import { Socket } from 'node:net'
import pgListen from 'pg-listen'
import type { Logger } from 'pino'
import { parseDatabaseUrl, pgConfig, type DatabaseUrl } from '../../postgres/database-url.js'
import { findPrimary } from '../../postgres/find-primary.js'
import { firstAbort, sleep } from '../../host/waiting.js'
import { createBackoff } from '../../host/backoff.js'
import { createLifecycle, type Lifecycle } from '../../host/lifecycle.js'
import { describeError } from '../../postgres/errors.js'

// the package's types say "default export", its file says "module.exports.default"
const createSubscriber = pgListen as unknown as typeof pgListen.default

export interface NotificationListenerOptions {
  databaseUrl: string
  applicationName: string
  channel: string
  /** A notification came, or may have been missed: after each time that listening begins. */
  onHint(): void
  /** A reader requests a log. It repeats that each second, so a lost hint costs little. */
  onLogHint(): void
  log: Logger
}

/** What request_log() sends on the channel. */
const LOG_HINT = 'log'
const FIRST_RETRY_MS = 100
const MAX_RETRY_MS = 1_000
/** How long a dead peer stays unnoticed. The probe has no timeout but that of its query. */
const PROBE_INTERVAL_MS = 7_500
const QUERY_TIMEOUT_MS = 5_000

export function createNotificationListener({
  databaseUrl,
  applicationName,
  channel,
  onHint,
  onLogHint,
  log,
}: NotificationListenerOptions): Lifecycle {
  const backoff = createBackoff(FIRST_RETRY_MS, MAX_RETRY_MS)
  let failing = false

  async function listenUntilStopped(stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      try {
        await listenOnce(stop)
      } catch (error) {
        if (stop.aborted) return
        if (!failing)
          log.warn(
            { event: 'listen_failed', ...describeError(error) },
            'not listening; until this is back a change may wait for the next beat',
          )
        failing = true
      }
      await sleep(backoff.nextMs(), stop)
    }
  }

  /** Rejects when the connection is lost, resolves when the signal aborts. */
  async function listenOnce(stop: AbortSignal): Promise<void> {
    const ended = new AbortController()
    const stopped = firstAbort(stop, ended.signal)
    try {
      const url = await Promise.race([stopped, findPrimary(parseDatabaseUrl(databaseUrl))])
      if (url) await listenAt(url, stop, stopped)
    } finally {
      ended.abort()
    }
  }

  async function listenAt(
    url: DatabaseUrl,
    stop: AbortSignal,
    stopped: Promise<void>,
  ): Promise<void> {
    const sockets: Socket[] = []
    const stream = (): Socket => {
      const socket = new Socket().setNoDelay(true)
      sockets.push(socket)
      return socket
    }
    const config = pgConfig(url, { application_name: applicationName.slice(0, 63) })
    const subscriber = createSubscriber(
      {
        ...config,
        connectionTimeoutMillis: QUERY_TIMEOUT_MS,
        query_timeout: QUERY_TIMEOUT_MS,
        stream,
      },
      { retryLimit: 1, paranoidChecking: PROBE_INTERVAL_MS, parse: (payload) => payload },
    )
    const lost = new Promise<never>((_, reject) => {
      subscriber.events.on('error', (cause) =>
        reject(new Error('the listening connection was lost', { cause })),
      )
    })
    subscriber.notifications.on(channel, (payload: unknown) =>
      payload === LOG_HINT ? onLogHint() : onHint(),
    )
    try {
      await Promise.race([
        lost,
        stopped,
        subscriber.connect().then(() => subscriber.listenTo(channel)),
      ])
      if (stop.aborted) return
      if (failing) log.info({ event: 'listening' }, 'listening again')
      failing = false
      backoff.reset()
      // earlier notifications were not received
      onHint()
      await Promise.race([lost, stopped])
    } finally {
      subscriber.notifications.removeAllListeners(channel)
      subscriber.close().catch(() => {})
      for (const socket of sockets) socket.destroy()
    }
  }

  return createLifecycle(listenUntilStopped)
}
