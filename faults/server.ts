/**
 * The Postgres of a run: a duplicate of a data folder that was made and migrated once. So a run may
 * kill it, fill its disk or promote its standby, and the next one starts from the same state. fsync
 * is off, because nothing here cuts the power of the disk. Commits are synchronous, because a crash
 * loses what was not written.
 */
import { execFile } from 'node:child_process'
import { appendFileSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import postgres, { type Sql } from 'postgres'
import { findBinaries, type Binaries } from '../postgres/embedded/binaries.js'
import { freePort } from '../host/free-port.js'
import { ensureCluster } from '../postgres/embedded/cluster.js'
import { passwordOf, writeSettings } from '../postgres/embedded/data-folder.js'
import { serverIdentity, type Identity } from '../postgres/embedded/identity.js'
import { postmasterPid, processesOfServer, serverState } from '../postgres/embedded/postmaster.js'
import { migrate } from '../postgres/migrate/migrate.js'
import { signal } from './processes.js'

export interface Template {
  /** A server of its own below that folder, running. */
  copy(folder: string, options: ServerOptions): Promise<Server>
  /** A streaming standby of it. */
  standbyOf(primary: Server, folder: string, options: ServerOptions): Promise<Server>
}

export interface ServerOptions {
  /** Beside 127.0.0.1. */
  listenOn?: string
  /** libfaketime, so that its wall clock can be set. */
  fakeClock?: boolean
}

export interface Server {
  port: number
  dataDir: string
  /**
   * As the rig reaches it, whatever happens to the network. At most 3 connections, opened again
   * after each loss.
   */
  sql: Sql
  url(host: string, port?: number): string
  /**
   * Waits until it answers; a server that crashed is started as soon as its last backend is gone.
   */
  start(): Promise<void>
  stop(how: 'fast' | 'immediate'): Promise<void>
  promote(): Promise<void>
  postmaster(): number
  /** The postmaster and all its backends. */
  pids(): number[]
  /** Sets its wall clock so far from the true one. Only with fakeClock. */
  setClock(offsetSeconds: number): void
  /** Ended, its connections closed; its files stay. */
  discard(): Promise<void>
}

const SETTINGS = {
  unix_socket_directories: '',
  max_connections: '120',
  fsync: 'off',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  log_min_messages: 'warning',
  shared_buffers: '32MB',
  min_wal_size: '32MB',
  max_wal_size: '128MB',
  autovacuum_naptime: '60s',
  restart_after_crash: 'on',
  wal_level: 'replica',
  hot_standby: 'on',
  wal_keep_size: '64MB',
}
/** It is reached from network namespaces too. */
const ANY_ADDRESS = '0.0.0.0'
const FAKETIME = [
  '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
  '/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1',
]
const run = promisify(execFile)

export const fakeTimeLibrary = (): string | undefined =>
  FAKETIME.find((path) => {
    try {
      return readFileSync(path).length > 0
    } catch {
      return false
    }
  })

export async function makeTemplate(folder: string): Promise<Template> {
  const identity = serverIdentity()
  const binaries = findBinaries(identity, process.env, () => {})
  const cluster = await ensureCluster({
    stateDir: folder,
    durable: false,
    settings: { max_connections: SETTINGS.max_connections },
  })
  await migrate({ databaseUrl: cluster.url })
  const sql = postgres(cluster.url, { max: 1, onnotice: () => {} })
  await sql.unsafe(`
    create schema faults;
    create table faults.written (
      id bigint generated always as identity primary key, assignment_id bigint not null,
      epoch bigint not null, node text not null, pid int not null,
      at timestamptz not null default clock_timestamp()
    );
    update mooring.setting
       set beat_interval = '400 ms',
           lease_ttl = '2 s',
           reap_margin = '500 ms',
           round_interval = '300 ms'`)
  await sql.end()
  await cluster.stop()
  const { dataDir } = cluster
  for (const database of ['all', 'replication'])
    appendFileSync(join(dataDir, 'pg_hba.conf'), `host ${database} all samenet scram-sha-256\n`)
  const password = passwordOf(dataDir)

  const copyFiles = async (to: string): Promise<string> => {
    mkdirSync(to, { recursive: true })
    const copied = join(to, 'data')
    await run('cp', ['-a', dataDir, copied])
    return realpathSync(copied)
  }

  return {
    async copy(folder, options) {
      const copied = await copyFiles(folder)
      const server = createLocalServer({
        dataDir: copied,
        folder,
        identity,
        binaries,
        password,
        port: await freePort(ANY_ADDRESS),
        options,
      })
      await server.start()
      return server
    },
    async standbyOf(primary, folder, options) {
      const copied = await copyFiles(folder)
      // the same template: the same system, so it streams from the beginning
      writeFileSync(join(copied, 'standby.signal'), '', { mode: 0o644 })
      const server = createLocalServer({
        dataDir: copied,
        folder,
        identity,
        binaries,
        password,
        port: await freePort(ANY_ADDRESS),
        options,
        settings: {
          primary_conninfo:
            `host=127.0.0.1 port=${primary.port} user=postgres password=${password} ` +
            'application_name=standby',
          wal_receiver_status_interval: '1s',
        },
      })
      await server.start()
      return server
    },
  }
}

interface LocalServer {
  dataDir: string
  folder: string
  identity: Identity
  binaries: Binaries
  password: string
  port: number
  options: ServerOptions
  settings?: Readonly<Record<string, string>>
}

function createLocalServer({
  dataDir,
  folder,
  identity,
  binaries,
  password,
  port,
  options,
  settings = {},
}: LocalServer): Server {
  const clock = join(folder, 'clock')
  const library = options.fakeClock ? fakeTimeLibrary() : undefined
  const setClock = (offsetSeconds: number): void =>
    writeFileSync(clock, `${offsetSeconds >= 0 ? '+' : ''}${offsetSeconds}\n`, { mode: 0o644 })
  if (library) setClock(0)
  const env = {
    PATH: process.env.PATH,
    LC_ALL: 'C',
    TZ: 'UTC',
    ...(library
      ? {
          LD_PRELOAD: library,
          FAKETIME_TIMESTAMP_FILE: clock,
          FAKETIME_NO_CACHE: '1',
          FAKETIME_DONT_FAKE_MONOTONIC: '1',
          FAKETIME_DONT_RESET: '1',
        }
      : {}),
  }
  const url = (host: string, at = port): string =>
    `postgres://postgres:${encodeURIComponent(password)}@${host}:${at}/mooring`
  const sql = postgres(url('127.0.0.1'), {
    max: 3,
    fetch_types: false,
    connect_timeout: 3,
    max_lifetime: null,
    backoff: () => 0.05,
    onnotice: () => {},
    connection: { application_name: 'faults: rig' },
  })
  const pgCtl = (
    args: string[],
    withEnv: NodeJS.ProcessEnv = { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
  ) =>
    run(join(binaries.bindir, 'pg_ctl'), ['-D', dataDir, ...args], {
      ...identity,
      cwd: dataDir,
      env: withEnv,
    })
  const postmaster = (): number => postmasterPid(dataDir)
  const pids = (): number[] => processesOfServer(dataDir)

  async function start(): Promise<void> {
    writeSettings(dataDir, identity, {
      ...SETTINGS,
      ...settings,
      listen_addresses: ['127.0.0.1', options.listenOn].filter(Boolean).join(','),
      port: String(port),
    })
    for (const deadline = performance.now() + 30_000; ;) {
      const { is } = await serverState(dataDir)
      if (is === 'ready') return
      try {
        if (is === 'absent') {
          await pgCtl(['start', '-w', '-t', '20', '-l', join(dataDir, 'server.log')], env)
          return
        }
      } catch (error) {
        if (performance.now() > deadline) throw error
      }
      if (performance.now() > deadline) throw new Error(`the server in ${dataDir} does not start`)
      await pause(30)
    }
  }

  async function stop(how: 'fast' | 'immediate'): Promise<void> {
    await pgCtl(['stop', '-w', '-t', '10', '-m', how]).catch(() => {})
  }

  return {
    port,
    dataDir,
    sql,
    url,
    start,
    stop,
    postmaster,
    pids,
    setClock,
    promote: async () => void (await pgCtl(['promote', '-w', '-t', '10'])),
    async discard() {
      await Promise.race([sql.end({ timeout: 0 }).catch(() => {}), pause(500)])
      for (const pid of pids()) signal(pid, 'SIGCONT')
      await stop('immediate')
      for (const pid of pids()) signal(pid, 'SIGKILL')
    },
  }
}
