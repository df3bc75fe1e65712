// What a test run must not leave behind. Each function returns sentences; processes are also ended,
// by pid.
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import postgres from 'postgres'

const PATIENCE_MS = 5_000
const ADMIN = 'test run'

export const connectAdmin = (url) =>
  postgres(url, { max: 1, onnotice() {}, connection: { application_name: ADMIN } })

/**
 * A process belongs to the run when its TMPDIR or its working directory is the run's: workloads
 * inherit the former.
 */
export async function leftProcesses(temporary) {
  const left = await settled(() =>
    pids().filter((pid) => pid !== process.pid && belongs(pid, temporary)),
  )
  const sentences = left.map(
    (pid) => `process ${pid}: ${read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').slice(0, 200)}`,
  )
  for (const pid of left) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // ended in between
    }
  }
  return sentences
}

export async function leftSessions(admin) {
  const left = await settled(
    () => admin`
      select a.pid, a.datname, a.application_name
        from pg_stat_activity a
       where a.backend_type = 'client backend'
         and a.application_name not in (${ADMIN}, 'test server keeper')`,
  )
  return left.map((row) => `session ${row.pid} (${row.application_name}) in ${row.datname}`)
}

export async function leftDatabases(admin) {
  const left = await admin`
      select d.datname
        from pg_database d
       where d.datname like 'test\\_%' or d.datname like 'unfinished\\_%'`
  return left.map((row) => `database ${row.datname}`)
}

/** Only what tests make: npm and Node keep files of their own in a temporary folder. */
export const leftFiles = (temporary) =>
  readdirSync(temporary)
    .filter((name) => name.startsWith('mooring-'))
    .map((name) => `file ${name} in the temporary folder`)

/** What ends by itself a moment later is not left behind. */
async function settled(look) {
  for (const deadline = performance.now() + PATIENCE_MS; ;) {
    const found = await look()
    if (found.length === 0 || performance.now() > deadline) return found
    await pause(100)
  }
}

function belongs(pid, temporary) {
  if (read(`/proc/${pid}/environ`).split('\0').includes(`TMPDIR=${temporary}`)) return true
  try {
    return `${readlinkSync(`/proc/${pid}/cwd`)}/`.startsWith(`${temporary}/`)
  } catch {
    return false
  }
}

const pids = () =>
  process.platform === 'linux'
    ? readdirSync('/proc')
        .map(Number)
        .filter((pid) => pid > 1)
    : []

function read(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
