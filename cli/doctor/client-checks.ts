/**
 * The checks that only a client can make: does the database answer at this address, do
 * notifications arrive, how far apart are the clocks, do the versions fit, is the connection
 * encrypted. A check that fails becomes a finding, and the others go on.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import type { Sql } from 'postgres'
import { raceDeadline } from '../../host/deadline.js'
import { packageVersion } from '../../host/package-version.js'
import { parseDatabaseUrl, pgConfig, type DatabaseUrl } from '../../postgres/database-url.js'
import {
  agentVersions,
  clockMs,
  connectionRow,
  doctorRows,
  listenTo,
  notify,
  schemaVersion,
} from '../queries/doctor.js'
import { type ConnectionRow, type Finding, type Level } from '../queries/rows.js'
import { problemOf } from '../errors.js'
import { findPrimary } from '../../postgres/find-primary.js'
import { age } from '../terminal/text.js'

export const NOTIFICATION_PATIENCE_MS = 3_000
const CLOCK_SAMPLES = 7
/** Above it, times in logs and in events are hard to compare. Nothing else depends on it. */
const CLOCK_TOLERANCE_MS = 1_000

export interface Examined {
  sql: Sql
  url: string
  knownSchema: number
}

export async function examine({ sql, url, knownSchema }: Examined): Promise<Finding[]> {
  const address = parseDatabaseUrl(url)
  let connection: ConnectionRow
  try {
    connection = await connectionRow(sql)
  } catch (error) {
    const { message, hint } = problemOf(error)
    return [finding('connection', 'problem', message, hint ?? 'check DATABASE_URL')]
  }
  const findings = [
    finding('connection', 'ok', `${connection.user} at ${address.redacted}`),
    transport(address, connection),
    ...(await findingsOf('clock', () => clockFinding(sql))),
    ...(await findingsOf('notifications', () => notificationFinding(sql, address, connection))),
    ...(await findingsOf('program', () => programFinding(sql, connection, knownSchema))),
  ]
  if (connection.can_ask === true)
    findings.push(...(await doctorRows(sql).catch((error: unknown) => [failed('database', error)])))
  else if (connection.can_ask === false)
    findings.push(
      finding(
        'your role',
        'problem',
        `${connection.user} may not call mooring.doctor(), so its checks were not made`,
        `grant mooring_viewer to ${pg.escapeIdentifier(connection.user)};`,
      ),
    )
  return findings
}

const finding = (
  check_name: string,
  level: Level,
  found: string,
  way_out: string | null = null,
): Finding => ({ check_name, level, found, way_out })

async function findingsOf(check: string, run: () => Promise<Finding>): Promise<Finding[]> {
  return [await run().catch((error: unknown) => failed(check, error))]
}

function failed(check: string, error: unknown): Finding {
  const { message, hint } = problemOf(error)
  return finding(check, 'warning', `could not be looked at: ${message}`, hint ?? null)
}

/** True for addresses of this machine, which need no TLS. */
function isLocal(host: string): boolean {
  return host.startsWith('/') || host === 'localhost' || host === '::1' || /^127\./.test(host)
}

export function transport(
  { hosts, sslmode }: Pick<DatabaseUrl, 'hosts' | 'sslmode'>,
  { tls }: Pick<ConnectionRow, 'tls'>,
): Finding {
  const remote = hosts.filter(({ host }) => !isLocal(host)).map(({ host }) => host)
  const wayOut = 'sslmode=verify-full&sslrootcert=FILE in DATABASE_URL; docs/security.md'
  if (remote.length === 0)
    return finding('TLS', 'ok', `${tls ? 'on' : 'off'}: the server is on this machine`)
  // behind a pooler `tls` is about its connection to the server; sslmode is about ours
  if (sslmode === 'disable')
    return finding(
      'TLS',
      'warning',
      `off, and ${remote.join(', ')} is another machine: traffic can be read and changed`,
      wayOut,
    )
  if (sslmode === 'require')
    return finding(
      'TLS',
      'warning',
      `on, but the identity of ${remote.join(', ')} is not checked (sslmode=require)`,
      wayOut,
    )
  return finding('TLS', 'ok', `on, the server is checked (sslmode=${sslmode})`)
}

/** The quickest query bounds the offset best: the server reads its clock during the round trip. */
async function clockFinding(sql: Sql): Promise<Finding> {
  let best = { offsetMs: 0, tripMs: Infinity }
  for (let i = 0; i < CLOCK_SAMPLES; i++) {
    const [asked, start] = [Date.now(), performance.now()]
    const server = await clockMs(sql)
    const tripMs = performance.now() - start
    if (tripMs < best.tripMs) best = { offsetMs: asked + tripMs / 2 - server, tripMs }
  }
  return clockVerdict(best)
}

export function clockVerdict({ offsetMs, tripMs }: { offsetMs: number; tripMs: number }): Finding {
  // Date.now() counts whole milliseconds
  const boundMs = tripMs / 2 + 1
  const side = offsetMs > 0 ? 'ahead of' : 'behind'
  const offset =
    Math.abs(offsetMs) <= boundMs
      ? 'no offset measured'
      : `this machine is ${age(Math.abs(offsetMs))} ${side} the database`
  const trip = `a round trip takes ${tripMs.toFixed(1)} ms`
  const found = `${offset} (± ${boundMs.toFixed(1)} ms, ${trip})`
  return Math.abs(offsetMs) - boundMs > CLOCK_TOLERANCE_MS
    ? finding(
        'clock',
        'warning',
        found,
        'synchronize both clocks (chronyc tracking, timedatectl); leases use the database clock ' +
          'alone, but times in logs and events differ',
      )
    : finding('clock', 'ok', found)
}

/**
 * A pooler in transaction mode accepts LISTEN and delivers nothing. One connection listens here,
 * another notifies.
 */
async function notificationFinding(
  sql: Sql,
  address: DatabaseUrl,
  { standby }: ConnectionRow,
): Promise<Finding> {
  if (standby) return finding('notifications', 'ok', 'not tried: a standby has none')
  const channel = `mooring_doctor_${randomUUID().replaceAll('-', '')}`
  const listener = new pg.Client({
    ...pgConfig(await findPrimary(address), { application_name: 'mooring doctor' }),
    query_timeout: NOTIFICATION_PATIENCE_MS,
  })
  listener.on('error', () => {}) // the query rejects with it
  try {
    await listener.connect()
    const heard = new Promise<number>((resolve) =>
      listener.once('notification', () => resolve(performance.now())),
    )
    await listenTo(listener, channel)
    const sent = performance.now()
    await notify(sql, channel)
    const at = await raceDeadline(NOTIFICATION_PATIENCE_MS, heard, () => null)
    return at === null
      ? finding(
          'notifications',
          'problem',
          `lost: LISTEN was accepted, nothing came within ${NOTIFICATION_PATIENCE_MS / 1000} s. ` +
            'A pooler in transaction mode does that: hints and jobs wait for the next poll',
          'point DATABASE_URL of agents and workers at the server, or at a pool in session mode',
        )
      : finding(
          'notifications',
          'ok',
          `LISTEN and NOTIFY arrive on this address (${(at - sent).toFixed(1)} ms)`,
        )
  } finally {
    await listener.end().catch(() => {})
  }
}

async function programFinding(
  sql: Sql,
  { database, can_ask }: ConnectionRow,
  known: number,
): Promise<Finding> {
  const mine = packageVersion()
  const version = await schemaVersion(sql)
  if (version === null)
    return finding(
      'program',
      'problem',
      `the schema mooring is not installed in ${database}`,
      'mooring migrate',
    )
  if (version < known || can_ask === null)
    return finding(
      'program',
      'problem',
      `the schema is at ${version}, this program (${mine}) needs ${known}`,
      'mooring migrate',
    )
  if (version > known)
    return finding(
      'program',
      'problem',
      `the schema is at ${version}, this program (${mine}) knows ${known}`,
      'install the newest mooring on this machine',
    )
  const others = can_ask ? (await agentVersions(sql)).filter((agent) => agent.version !== mine) : []
  return others.length === 0
    ? finding('program', 'ok', `version ${mine}, as schema ${version} and every agent`)
    : finding(
        'program',
        'warning',
        `this program is ${mine}; agents: ${others.map(versionText).join(', ')}`,
        'bring all hosts to one version: mooring agent --handover ... beside each older agent',
      )
}

const versionText = ({ version, nodes }: { version: string; nodes: number }): string =>
  `${version} on ${nodes}`
