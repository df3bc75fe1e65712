import { closeSync, existsSync, fstatSync, openSync, readSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { findBinaries } from './binaries.js'
import {
  DATABASE,
  SUPERUSER,
  dataFolder,
  lastPort,
  makeDataFolder,
  makeServerRoot,
  otherMajors,
  passwordOf,
  run,
  serverRoot,
  writeSettings,
} from './data-folder.js'
import { freePort } from '../../host/free-port.js'
import { requireOwnFolder } from '../../host/users.js'
import { serverIdentity } from './identity.js'
import { serverState, stopServer } from './postmaster.js'

export interface ClusterOptions {
  /** All files are below this folder, or in /var/tmp where the server's user cannot reach it. */
  stateDir: string
  /** False is for tests: no fsync, and initdb without sync. Default true. */
  durable?: boolean
  /** Server settings for this start, by name. They override the defaults below. */
  settings?: Readonly<Record<string, string>>
  /** PGBINDIR is read from it. Default: the environment of this process. */
  env?: NodeJS.ProcessEnv
  log?: (message: string) => void
}

export interface Cluster {
  /** postgres://postgres:<password>@127.0.0.1:<port>/mooring. Holds the password: not for logs. */
  url: string
  dataDir: string
  /** True when this call started the server. Its caller decides when the server stops. */
  started: boolean
  /** Fast shutdown, also of a server that ran before this call. Idempotent. */
  stop(): Promise<void>
}

/**
 * A running local server with the database `mooring`, created and started where needed. The server
 * is detached and outlives this process. Several processes may call this at once.
 */
export async function ensureCluster(options: ClusterOptions): Promise<Cluster> {
  const { stateDir, durable = true, settings = {}, env = process.env, log = () => {} } = options
  const identity = serverIdentity()
  const binaries = findBinaries(identity, env, log)
  const root = makeServerRoot(stateDir, identity)
  for (const other of otherMajors(root, binaries.major))
    log(`${other} holds data of another major version of Postgres; it is not used and not changed`)
  const dataDir = await makeDataFolder(root, binaries, identity, durable)
  const logFile = join(root, `server-${binaries.major}.log`)
  let failures = 0
  let wish = lastPort(dataDir)
  const deadline = performance.now() + START_TIMEOUT_MS
  for (let started = false; ;) {
    const state = await serverState(dataDir)
    if (state.is === 'ready') {
      return {
        url: urlOf(dataDir, state.port),
        dataDir,
        started,
        stop: async () => void (await stopServer(dataDir)),
      }
    }
    if (performance.now() > deadline)
      throw new Error(`the local Postgres did not become ready; see ${logFile}\n${tail(logFile)}`)
    if (state.is === 'changing') {
      await pause(50)
      continue
    }
    keepSmall(logFile)
    const port = wish ?? (await freePort())
    writeSettings(dataDir, identity, {
      ...DEFAULTS,
      ...(durable ? {} : VOLATILE),
      ...settings,
      port: String(port),
    })
    try {
      await run(binaries, 'pg_ctl', identity, root, [
        'start',
        '-w',
        '-t',
        '60',
        '-D',
        dataDir,
        '-l',
        logFile,
      ])
      started = true
    } catch (error) {
      // another starter was faster and the next look finds its server, or the port is in use
      wish = undefined
      if (++failures === MAX_FAILED_STARTS) {
        throw new Error(`${(error as Error).message}\n${tail(logFile)}`)
      }
      await pause(100 + Math.random() * 100)
    }
  }
}

/** The address of the running server of that state folder, or undefined. Starts nothing. */
export async function clusterUrl(
  options: Pick<ClusterOptions, 'stateDir' | 'env'>,
): Promise<string | undefined> {
  const dataDir = existingDataDir(options)
  const state = dataDir && (await serverState(dataDir))
  return state && state.is === 'ready' ? urlOf(dataDir, state.port) : undefined
}

/** Stops the server of that state folder. False when none ran. The data stays. */
export async function stopCluster(
  options: Pick<ClusterOptions, 'stateDir' | 'env'>,
): Promise<boolean> {
  const dataDir = existingDataDir(options)
  return dataDir ? stopServer(dataDir) : false
}

const START_TIMEOUT_MS = 60_000
const MAX_FAILED_STARTS = 6
const DEFAULTS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '300',
  // one machine, a small database: the log is read to find an error
  log_min_messages: 'warning',
  log_checkpoints: 'off',
  // a failed statement, and the row it names, would write deployment.env into the log
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
}
const VOLATILE = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  autovacuum_naptime: '5s',
}
const LOG_LIMIT_BYTES = 10 * 1024 * 1024

function existingDataDir({
  stateDir,
  env = process.env,
}: Pick<ClusterOptions, 'stateDir' | 'env'>): string | undefined {
  if (!existsSync(stateDir)) return undefined
  requireOwnFolder(stateDir)
  const identity = serverIdentity()
  const dataDir = dataFolder(
    serverRoot(stateDir, identity),
    findBinaries(identity, env, () => {}).major,
  )
  return existsSync(join(dataDir, 'PG_VERSION')) ? dataDir : undefined
}

const urlOf = (dataDir: string, port: number): string =>
  `postgres://${SUPERUSER}:${encodeURIComponent(passwordOf(dataDir))}@127.0.0.1:${port}/${DATABASE}`

function keepSmall(logFile: string): void {
  if (existsSync(logFile) && statSync(logFile).size > LOG_LIMIT_BYTES)
    renameSync(logFile, `${logFile}.1`)
}

function tail(logFile: string): string {
  if (!existsSync(logFile)) return ''
  const file = openSync(logFile, 'r')
  try {
    const buffer = Buffer.alloc(Math.min(2_000, fstatSync(file).size))
    readSync(file, buffer, 0, buffer.length, fstatSync(file).size - buffer.length)
    return buffer.toString('utf8')
  } finally {
    closeSync(file)
  }
}
