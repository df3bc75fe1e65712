/**
 * Hears hints. A notification says "read again", nothing more: anyone can send one, and any may be lost.
 *
 * pg-listen would reconnect by itself, but its reconnecting cannot be stopped (a close() in the middle of it leaves a connection behind) and keeps
 * one host for ever. So its first failure is made its last (retryLimit 1): it says `error`, and a new subscriber takes its place, with a
 * new socket, after a jittered wait, for ever.
 */
import { Socket } from 'node:net'
import pgListen from 'pg-listen'
import type { Logger } from 'pino'
import { parseDatabaseUrl, pgConfig, type DatabaseUrl } from '../../postgres/database-url.js'
import { findPrimary } from '../../postgres/find-primary.js'
import { firstAbort, pause } from '../../host/waiting.js'
import { createBackoff } from '../../host/backoff.js'
import { describeError } from '../../postgres/errors.js'

// the package's types say "default export", its file says "module.exports.default"
const createSubscriber = pgListen as unknown as typeof pgListen.default

export interface Listener {
  start(): void
  /** Resolves when no connection is left. Idempotent, legal before start. */
  stop(): Promise<void>
}

export interface ListenerOptions {
  databaseUrl: string
  applicationName: string
  channel: string
  /** Something may have changed: a notification came, or it could have been missed (after each time of listening anew). */
  onHint(): void
  /** Somebody wants to read a log. Who asks says so again each second: what was missed is not looked for. */
  onLogHint(): void
  log: Logger
}

/** What request_log() says on the channel. */
const LOG_HINT = 'log'
const FIRST_RETRY_MS = 100
const MAX_RETRY_MS = 1_000
/** How long a dead peer goes unnoticed; the probe itself has no timeout but the query's. */
const PROBE_INTERVAL_MS = 7_500
const QUERY_TIMEOUT_MS = 5_000

export function createListener({
  databaseUrl,
  applicationName,
  channel,
  onHint,
  onLogHint,
  log,
}: ListenerOptions): Listener {
  const stopping = new AbortController()
  const backoff = createBackoff(FIRST_RETRY_MS, MAX_RETRY_MS)
  let loop: Promise<void> | null = null
  let deaf = false

  async function listenForEver(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await listenOnce()
      } catch (error) {
        if (stopping.signal.aborted) return
        if (!deaf)
          log.warn(
            { event: 'listen_failed', ...describeError(error) },
            'not listening; hints cost up to one beat until this is back',
          )
        deaf = true
      }
      await pause(backoff.nextMs(), stopping.signal)
    }
  }

  /** Listens until the connection is lost (rejects) or stop is called (resolves). */
  async function listenOnce(): Promise<void> {
    const ended = new AbortController()
    const stopped = firstAbort(stopping.signal, ended.signal)
    try {
      const url = await Promise.race([stopped, findPrimary(parseDatabaseUrl(databaseUrl))])
      if (url) await listenAt(url, stopped)
    } finally {
      ended.abort()
    }
  }

  async function listenAt(url: DatabaseUrl, stopped: Promise<void>): Promise<void> {
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
      if (stopping.signal.aborted) return
      if (deaf) log.info({ event: 'listening' }, 'listening again')
      deaf = false
      backoff.reset()
      // whatever was said before this moment was not heard
      onHint()
      await Promise.race([lost, stopped])
    } finally {
      subscriber.notifications.removeAllListeners(channel)
      subscriber.close().catch(() => {})
      for (const socket of sockets) socket.destroy()
    }
  }

  return {
    start() {
      loop ??= listenForEver()
    },
    async stop() {
      stopping.abort()
      await loop
    },
  }
}
