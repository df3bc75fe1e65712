/**
 * Restarts instances a few at a time. Each is stopped, started by the scheduler, and observed
 * running for a moment before the next takes its turn. The roll ends at the first one that does not
 * come up. What is on a silent node is passed by, because nothing can be told to it.
 *
 * Every order is its own transaction, and the rows hold all state. So the roll may end between any
 * two orders: ordered restarts are completed, the rest runs on, and a second roll adopts what is
 * under way.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Queries } from '../queries/queries.js'
import type { InstanceRow } from '../queries/rows.js'
import { CommandError, isConnectionProblem } from '../errors.js'
import { calledBy } from '../targets/names.js'
import { createPatience } from './patience.js'

export interface RollOptions {
  deployments: readonly string[]
  /** Only these of their assignments. */
  assignments?: readonly string[] | undefined
  atOnce: number
  /** An interval of Postgres. */
  steadyFor: string
  timeoutMs: number
  reason?: string | undefined
  /** Once it aborts, nothing more is ordered. */
  signal: AbortSignal
  say(news: RollNews): void
}

export interface RollNews {
  state: 'stopping' | 'running' | 'skipped'
  assignment_id: string
  deployment_id: string
  name: string | null
  node: string | null
  note: string | null
}

export interface RollResult {
  restarted: number
  skipped: number
  left: number
  /** Nodes whose instances were passed by because they are silent. */
  silent: string[]
}

type RollQueries = Pick<Queries, 'instances' | 'restart' | 'unplacedOf'>

interface UnderWay {
  row: InstanceRow
  since: number
}

const POLL_INTERVAL_MS = 250
/** Another session holds a lock: the next read tries again. */
const BUSY = new Set<unknown>(['MR004', '55P03'])
const REFUSED = 'MR006'

export async function rollingRestart(db: RollQueries, options: RollOptions): Promise<RollResult> {
  const { atOnce, timeoutMs, signal, say } = options
  const readInstances = async (): Promise<Map<string, InstanceRow>> =>
    new Map(
      (await db.instances(options.deployments, options.steadyFor)).map((row) => [
        placeOf(row),
        row,
      ]),
    )
  const tell = (
    state: RollNews['state'],
    { assignment_id, deployment_id, name, node }: InstanceRow,
    note: string | null = null,
  ) => say({ state, assignment_id, deployment_id, name, node, note })

  /**
   * Null: the restart is ordered. A text: why the instance is skipped. Throws where the refusal has
   * another reason than a change of the instance since the last read.
   */
  const order = async (row: InstanceRow): Promise<string | null> => {
    try {
      await db.restart(row.assignment_id, options.reason)
      return null
    } catch (error) {
      if ((error as { code?: unknown }).code !== REFUSED) throw error
      // a daemon has no other node, so a silent one leaves nothing to wait for
      const obstacle =
        row.type === 'daemon'
          ? (error as Error).message
          : obstacleOf((await readInstances()).get(placeOf(row)), row)
      if (obstacle === null) throw error
      return obstacle
    }
  }

  const before = [...(await readInstances()).values()].filter(
    ({ assignment_id }) => options.assignments?.includes(assignment_id) ?? true,
  )
  const waiting: InstanceRow[] = []
  const underWay = new Map<string, UnderWay>()
  let [restarted, skipped] = [0, 0]
  /** Since when too few of a deployment run to restart another one of it. */
  let blockedSince: number | null = null
  // an earlier roll was interrupted at these
  for (const row of before) {
    if (isRestarting(row) && !row.steady)
      underWay.set(placeOf(row), { row, since: performance.now() })
    else waiting.push(row)
  }
  // what does not run goes first and costs nothing
  waiting.sort((one, other) => Number(serves(one)) - Number(serves(other)))
  const silent = new Set<string>()
  const skip = (row: InstanceRow, note: string) => {
    skipped++
    if (row.silent) silent.add(row.node!)
    tell('skipped', row, note)
  }
  const unfinished = () => ({
    restarted,
    skipped,
    left: waiting.length + underWay.size,
    silent: [...silent],
  })

  for (
    const patience = createPatience();
    ;
    await pause(POLL_INTERVAL_MS, undefined, { signal }).catch(() => {})
  ) {
    if (signal.aborted) return unfinished()
    try {
      const rows = await readInstances()
      patience.answered()
      for (const [place, { row: ordered, since }] of underWay) {
        const row = rows.get(place)
        const end = endOf(ordered, row)
        if (end === null && performance.now() - since <= timeoutMs) continue
        if (end === null || end === 'failing')
          throw new CommandError(
            `${await troubleOf(db, ordered, row)}${leftText(waiting.length)}`,
            hintOf(ordered, row),
          )
        underWay.delete(place)
        if (end === 'up') {
          restarted++
          tell('running', row!)
        } else skip(row ?? ordered, end)
      }
      for (; waiting.length > 0 && underWay.size < atOnce && !signal.aborted; waiting.shift()) {
        const row = rows.get(placeOf(waiting[0]!))
        if (row !== undefined && !isSpare(row, [...rows.values()], atOnce)) {
          blockedSince ??= performance.now()
          if (underWay.size > 0 || performance.now() - blockedSince <= timeoutMs) break
          if (![...rows.values()].some((peer) => isPeer(peer, row) && peer.silent))
            throw tooFewRun(row, waiting.length)
          skip(row, 'too few others run, because some are on a silent node')
          continue
        }
        blockedSince = null
        const obstacle =
          obstacleOf(row, waiting[0]!) ?? (row!.wanted === 'run' ? await order(row!) : null)
        if (obstacle !== null) skip(row ?? waiting[0]!, obstacle)
        else {
          underWay.set(placeOf(row!), { row: row!, since: performance.now() })
          tell('stopping', row!)
        }
      }
    } catch (error) {
      // the next read finds an order whose answer was lost in the rows
      patience.bear(
        error,
        isConnectionProblem(error) || BUSY.has((error as { code?: unknown }).code),
      )
    }
    if (waiting.length === 0 && underWay.size === 0) return unfinished()
  }
}

/** A restart replaces the row of a daemon, so a daemon is known by its node. */
const placeOf = ({ type, assignment_id, deployment_id, node }: InstanceRow): string =>
  type === 'daemon' ? `daemon ${deployment_id} on ${node}` : assignment_id

const serves = ({ run_state, wanted, node }: InstanceRow): boolean =>
  run_state === 'running' && wanted === 'run' && node !== null

const isPeer = (one: InstanceRow, other: InstanceRow): boolean =>
  one.deployment_id === other.deployment_id && one.node !== null

/**
 * Of the replicas that have a node all but `atOnce` go on running, see within_budget(). Silent ones
 * may be away for long, so they do not count; but the last one that is known to run is kept.
 */
function isSpare(row: InstanceRow, all: readonly InstanceRow[], atOnce: number): boolean {
  if (row.type === 'daemon' || !serves(row)) return true
  const peers = all.filter((peer) => isPeer(peer, row))
  const heard = peers.filter((peer) => !peer.silent)
  const kept = Math.max(heard.length - atOnce, heard.length < peers.length ? 1 : 0)
  return heard.filter(serves).length > kept
}

function tooFewRun(row: InstanceRow, left: number): CommandError {
  const name = calledBy({ id: row.deployment_id, name: row.name })
  return new CommandError(
    `assignment ${row.assignment_id} of ${name} is not restarted, because too few others run` +
      leftText(left - 1),
    `\`mooring describe deployment ${name}\``,
  )
}

const reasonOf = (row: InstanceRow): string => row.move_reason ?? row.stop_reason ?? ''
const isRestarting = (row: InstanceRow): boolean =>
  /^restarted(:|$)/.test(reasonOf(row)) && (row.move_reason !== null || row.wanted === 'stop')

function obstacleOf(row: InstanceRow | undefined, before: InstanceRow): string | null {
  if (!row) return 'it is gone'
  if (row.assignment_id !== before.assignment_id || row.epoch !== before.epoch)
    return 'it was started again meanwhile'
  if (row.wanted === 'stop')
    return isRestarting(row)
      ? null
      : `it is to stop${row.stop_reason === null ? '' : `: ${row.stop_reason}`}`
  if (row.silent) return `its node ${row.node} is silent`
  return row.node === null ? 'it waits for a node' : null
}

/** Null: not yet. Another text: why the instance left the roll. */
function endOf(
  ordered: InstanceRow,
  row: InstanceRow | undefined,
): 'up' | 'failing' | string | null {
  // a daemon's row is absent for a moment
  if (!row) return ordered.type === 'daemon' ? null : 'it is gone'
  const isNew =
    row.epoch !== ordered.epoch ||
    row.assignment_id !== ordered.assignment_id ||
    (ordered.wanted === 'run' && isRestarting(ordered))
  if (row.silent) return `its node ${row.node} is silent`
  if (row.wanted === 'stop')
    return isRestarting(row)
      ? null
      : `it is to stop${row.stop_reason === null ? '' : `: ${row.stop_reason}`}`
  if (!isNew) return null
  if (row.steady) return 'up'
  return row.node !== null &&
    (row.run_state === 'backoff' || row.run_state === 'failed' || row.restarts > 0)
    ? 'failing'
    : null
}

async function troubleOf(
  db: RollQueries,
  ordered: InstanceRow,
  row: InstanceRow | undefined,
): Promise<string> {
  const deployment = calledBy({ id: ordered.deployment_id, name: ordered.name })
  const what = `assignment ${row?.assignment_id ?? ordered.assignment_id} of ${deployment}`
  if (!row || row.wanted === 'stop') return `${what} has not stopped on ${ordered.node} in time`
  if (row.node === null) {
    const reason = (await db.unplacedOf(row.deployment_id)).find(
      ({ assignment_id }) => assignment_id === row.assignment_id,
    )?.reason
    return `${what} waits for a node since its restart${reason === undefined ? '' : `: ${reason}`}`
  }
  const state = row.run_state ?? 'not yet reported'
  const restarts = row.restarts > 0 ? `, started again ${row.restarts} times` : ''
  const error = row.last_error === null ? '' : ` (${row.last_error})`
  return `${what} does not come up on ${row.node}: ${state}${restarts}${error}`
}

const leftText = (left: number): string =>
  left === 0 ? '' : `; ${left === 1 ? '1 more was' : `${left} more were`} not touched`

function hintOf(ordered: InstanceRow, row: InstanceRow | undefined): string {
  const name = calledBy({ id: ordered.deployment_id, name: ordered.name })
  if (row?.node === null) return `\`mooring explain ${name}\``
  const id = row?.assignment_id ?? ordered.assignment_id
  return `see \`mooring logs ${id}\`; then continue with \`mooring restart deployment ${name}\``
}
