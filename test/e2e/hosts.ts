/**
 * Hosts as users run them: `mooring agent` and `mooring worker` as processes of their own. And a
 * workload that bears witness.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Sql } from 'postgres'
import type { Test } from 'tap'
import { deployment, type DeploymentSpec } from '../helpers/factories.js'
import { AS_OWN_USER, mooring, tempDir, type Program } from '../helpers/processes.js'
import { PATIENCE_MS, waitFor } from '../helpers/wait-for.js'
import { childrenOf } from '../../host/process-table.js'
import type { PlacedRow } from '../agent/fleet.js'

export { PATIENCE_MS }

/**
 * Leases that can be waited for, and that a busy machine still keeps: what runs is asked to end 6 s
 * after the last beat.
 */
export async function shortLeases(sql: Sql, lease = '10 s'): Promise<void> {
  await sql`
    update mooring.setting
       set beat_interval = '300 ms',
           lease_ttl = ${lease},
           reap_margin = '600 ms',
           round_interval = '300 ms'`
}

export interface Host extends Program {
  name: string
  /** What the agent keeps on disk. */
  folder: string
  /** What it logged under that event, in order. */
  events(event: string): Record<string, unknown>[]
  /** Where the output of an assignment goes. */
  logOf(assignmentId: string): string
}

export interface Hosts {
  agent(
    name: string,
    options?: {
      databaseUrl?: string
      trust?: string
      exec?: boolean
      args?: string[]
      /** --workload-user; null leaves it out. Default: the user of the test. */
      user?: string | null
      /** Left out: the folder of all hosts. */
      state?: string
    },
  ): Host
  worker(): Program
}

/**
 * Agents get a state folder in common, as on one machine; all of it ends with the test. Ask for the
 * database first.
 */
export function hosts(t: Test, databaseUrl: string): Hosts {
  const common = tempDir(t)
  return {
    agent(
      name,
      { databaseUrl: url = databaseUrl, trust, exec = true, args = [], user, state = common } = {},
    ) {
      const flags = [
        '--name',
        name,
        ...(trust === undefined ? [] : ['--trust', trust]),
        ...(exec ? ['--allow-exec'] : []),
        ...(user === undefined ? AS_OWN_USER : user === null ? [] : ['--workload-user', user]),
        ...args,
      ]
      const program = mooring(t, ['agent', ...flags], {
        databaseUrl: url,
        env: { MOORING_STATE_DIR: state },
      })
      return {
        ...program,
        name,
        folder: join(state, 'agents', name),
        events: (event) =>
          `${program.stdout()}${program.stderr()}`
            .split('\n')
            .filter((line) => line.startsWith('{'))
            .map((line) => JSON.parse(line) as Record<string, unknown>)
            .filter((line) => line['event'] === event),
        logOf(assignmentId) {
          const file = join(state, 'agents', name, 'logs', `${assignmentId}.log`)
          return existsSync(file) ? readFileSync(file, 'utf8') : ''
        },
      }
    },
    worker: () => mooring(t, ['worker'], { databaseUrl }),
  }
}

/** The pid of the warden of a host's agent, null when there is none. */
export function wardenOf(host: Host): number | null {
  try {
    const { pid } = JSON.parse(readFileSync(join(host.folder, 'warden.json'), 'utf8')) as {
      pid: number
    }
    return alive(pid) ? pid : null
  } catch {
    return null
  }
}

/** Waits until nodes of these names are live. */
export async function live(sql: Sql, ...names: string[]): Promise<void> {
  await waitFor(
    async () =>
      (
        await sql`
          select from mooring.node_status s where s.health = 'HEALTHY' and s.node = any (${names})`
      ).length === names.length,
    {
      label: `${names.join(', ')} are healthy`,
      timeoutMs: PATIENCE_MS,
      show: () => sql`select s.node, s.health, s.beat_age::text from mooring.node_status s`,
    },
  )
}

/** A process that has ended and waits to be collected by init is not alive. */
export function alive(pid: number | null): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2))
  } catch {
    return false
  }
}

export async function gone(pids: readonly (number | null)[], label: string): Promise<void> {
  await waitFor(() => pids.every((pid) => !alive(pid)), {
    label,
    timeoutMs: PATIENCE_MS,
    show: () => pids.filter(alive),
  })
}

/**
 * The pid of a workload's only child, as its host numbers it. The workload itself gets a number of
 * its own namespace.
 */
export function childOf(pid: number | null): Promise<number> {
  return waitFor(() => childrenOf(pid ?? -1)[0], {
    label: `process ${pid} has a child`,
    timeoutMs: PATIENCE_MS,
  })
}

/** What may not change where nothing happened: owner, epoch and process of each assignment. */
export const processes = (rows: readonly PlacedRow[]): unknown[] =>
  rows.map((row) => [row.assignment_id, row.node, row.epoch, row.pid])

/** Each time an assignment was given to a node, and by which transaction, in order. */
export async function claims(
  sql: Sql,
  after = '0',
): Promise<{ id: string; assignment_id: string; node: string; tx: string }[]> {
  return await sql<{ id: string; assignment_id: string; node: string; tx: string }[]>`
    select e.id, e.assignment_id, e.node, e.xmin::text as tx
      from mooring.event e
     where e.kind = 'claimed' and e.id > ${after}
     order by e.id`
}

export const lastEvent = async (sql: Sql): Promise<string> =>
  (await sql<{ id: string }[]>`select coalesce(max(e.id), 0)::text as id from mooring.event e`)[0]!
    .id

export const eventsOf = async (sql: Sql, kind: string): Promise<number> =>
  (await sql`select from mooring.event e where e.kind = ${kind}`).length

/** The environment a process was started with. */
export function environmentOf(pid: number | null): Record<string, string> {
  const entries = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean)
  return Object.fromEntries(
    entries.map((entry) => [
      entry.slice(0, entry.indexOf('=')),
      entry.slice(entry.indexOf('=') + 1),
    ]),
  )
}

/** The TCP port of 127.0.0.1 on which a process listens, as its host sees it. */
export function listeningPort(pid: number): number | null {
  const sockets = new Set(
    readdirSync(`/proc/${pid}/fd`).map(
      (fd) => /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1],
    ),
  )
  for (const line of readFileSync(`/proc/${pid}/net/tcp`, 'utf8').trim().split('\n').slice(1)) {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/)
    if (state === '0A' && sockets.has(inode)) return parseInt(local!.split(':')[1]!, 16)
  }
  return null
}

/**
 * A workload that stamps every 10 ms, by the clock that all processes of the machine share. Asked
 * to end it delays its end. Its life begins with the first act of its process, which a shell notes
 * down, not with the first line of Node. The recorded birth is up to 20 ms later than the truth,
 * never earlier.
 */
const WITNESS = `
const { appendFileSync, readFileSync } = require('node:fs')
const {
  MOORING_ASSIGNMENT_ID: id,
  MOORING_NODE: node,
  WITNESS_FILE: file,
  WITNESS_WORD: word = '',
  WITNESS_GOODBYE_MS: goodbyeMs = '150',
  WITNESS_BORN: bornAt,
} = process.env
const now = () => Number(process.hrtime.bigint() / 1000n)
const uptimeS = parseFloat(readFileSync('/proc/uptime', 'latin1'))
const ageUs = Math.round((uptimeS - Number(bornAt)) * 1e6)
const born = now() - Math.max(0, ageUs - 10_000)
const stamp = () => appendFileSync(file, [id, node, born, now(), word].join(' ') + '\\n')
stamp()
setInterval(stamp, 10)
process.on('SIGTERM', () => setTimeout(() => { stamp(); process.exit(0) }, Number(goodbyeMs)))
`

const NOTE_BIRTH = 'read -r born rest < /proc/uptime; WITNESS_BORN=$born exec "$0" "$1"'

/**
 * Times in microseconds. A process is identified by its birth, because pids differ only inside a
 * namespace.
 */
export interface Life {
  assignment_id: string
  node: string
  word: string
  first: number
  last: number
}

export interface Witness {
  insert(sql: Sql, more?: DeploymentSpec): Promise<string>
  /**
   * Each process that ever spoke, from its birth to its last word, in microseconds, in order of
   * their births.
   */
  lives(): Life[]
  /**
   * For how many microseconds two processes of one assignment lived at once, over all assignments
   * given.
   */
  overlap(assignmentIds: readonly string[]): number
}

/**
 * How many processes lived at the worst moment since `from`. The number can only fall where a life
 * ended. A process that lives at the end lives on from its last stamp, which may be old on a busy
 * machine.
 */
export function fewestAlive(
  lives: readonly Life[],
  from: number,
  living: (life: Life) => boolean,
): number {
  const ended = lives.filter((life) => !living(life))
  return Math.min(
    ...ended
      .map((life) => life.last + 1)
      .filter((at) => at > from)
      .map(
        (at) =>
          lives.filter((life) => life.first <= at && (at <= life.last || living(life))).length,
      ),
  )
}

/**
 * Deployments whose processes leave stamps in a file, and the judge, which reads that file and
 * knows nothing else.
 */
export function witness(t: Test): Witness {
  const folder = tempDir(t, 'witness')
  const script = join(folder, 'witness.cjs')
  const file = join(folder, 'stamps')
  writeFileSync(script, WITNESS)
  writeFileSync(file, '')
  const lives = (): Life[] => {
    const found = new Map<string, Life>()
    for (const line of readFileSync(file, 'utf8').split('\n').slice(0, -1)) {
      const [assignment_id, node, born, at, word] = line.split(' ') as [
        string,
        string,
        string,
        string,
        string,
      ]
      const key = `${assignment_id} ${node} ${born}`
      const life = found.get(key) ?? { assignment_id, node, word, first: Number(born), last: 0 }
      life.last = Math.max(life.last, Number(at))
      found.set(key, life)
    }
    return [...found.values()].sort((a, b) => a.first - b.first)
  }
  return {
    insert: (sql, { env = {}, ...more } = {}) =>
      deployment(sql, {
        command: 'sh',
        args: ['-c', NOTE_BIRTH, process.execPath, script],
        env: { WITNESS_FILE: file, ...(env as object) },
        stop_grace: '5 s',
        ...more,
      }),
    lives,
    overlap(assignmentIds) {
      let together = 0
      for (const id of assignmentIds) {
        const mine = lives().filter((life) => life.assignment_id === id)
        for (const [nr, a] of mine.entries())
          for (const b of mine.slice(nr + 1))
            together += Math.max(0, Math.min(a.last, b.last) - Math.max(a.first, b.first))
      }
      return together
    },
  }
}
