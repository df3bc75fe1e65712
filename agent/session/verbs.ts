/**
 * The agent's calls to the database. This file holds the only SQL of the agent, and only verbs.
 *
 * Row fields keep the names that psql shows. bigint columns are strings, as the driver delivers
 * them, because ids are compared and never computed with.
 * Every call has its own deadline on the monotonic clock, because a cut network and a hung standby
 * answer nothing. A call that misses it rejects with code CALL_DEADLINE. Its connection is closed,
 * and the next call opens a new one.
 */
import type { ISql, Sql } from 'postgres'
import { createConnection } from '../../postgres/connection.js'
import { createServerClock } from '../../postgres/server-clock.js'
import { createNewestServer, type NewestServer, type ServerIdentity } from './newest-server.js'
import type {
  BeatAnswer,
  LogAnswer,
  LogRequest,
  NodeDescription,
  OwnedAssignment,
  Registration,
  ReportOutcome,
  AssignmentReport,
  UsageSample,
} from '../rows.js'

export interface AgentDb {
  /** The version of the database; committedMigrations() has that of the program. */
  schemaVersion(): Promise<number>
  /** `replaces` is the session whose processes this one took over, or knows to be dead. */
  registerNode(
    description: NodeDescription,
    session: string,
    replaces: string | null,
  ): Promise<Registration>
  /** registerNode(), rolled back: rejects as that would, and changes nothing. */
  rehearseRegistration: AgentDb['registerNode']
  heartbeat(
    node: string,
    session: string,
    sample: UsageSample,
    running: number,
    deadlineMs: number,
  ): Promise<BeatAnswer>
  assignmentsOf(node: string, session: string): Promise<OwnedAssignment[]>
  report(
    node: string,
    session: string,
    reports: readonly AssignmentReport[],
  ): Promise<ReportOutcome[]>
  /** This node gets no new work; its lease goes on. */
  beginLeave(node: string, session: string): Promise<void>
  leave(node: string, session: string): Promise<number>
  logRequestsOf(node: string, session: string): Promise<LogRequest[]>
  /** False when no reader waits for the answer any more. */
  answerLog(node: string, session: string, request: string, answer: LogAnswer): Promise<boolean>
  /** Runs the due rounds inside this call. So agents keep the rounds going when no worker lives. */
  tick(name: string): Promise<void>
  /**
   * Changes whenever a connection is lost, and when a newer server answers. Answers from before and
   * after a change may come from two servers, one of them a promoted standby, and must not be
   * combined.
   */
  connectionEpoch(): number
  /** Closes every connection at once, whatever is in flight. Legal at any time, idempotent. */
  close(): void
}

/** Deadline of every call but heartbeat and tick. */
export const CALL_DEADLINE_MS = 5_000
/** A tick may place a hundred thousand rows. */
export const TICK_DEADLINE_MS = 60_000
const UNTRANSLATABLE_CHARACTER = '22P05'
const SELDOM_IDLE_SECONDS = 10

export interface AgentDbOptions {
  databaseUrl: string
  node: string
  /** Left out: remembers only what it has seen itself. */
  newestServer?: NewestServer
}

/**
 * Four connections:
 *   beat    heartbeats alone, so that nothing else delays one
 *   calls   everything else, kept open because the way from a claim to a process goes over it
 *   rounds  ticks, opened when needed
 *   logs    answers to readers of logs, opened when needed
 */
export function createAgentDb({
  databaseUrl,
  node,
  newestServer = createNewestServer(null),
}: AgentDbOptions): AgentDb {
  let epoch = 0
  const onDisconnect = (): void => {
    epoch += 1
  }
  /** Every answer that gives a right says which server it comes from. */
  const believe = ([answer]: readonly ServerIdentity[]): void => {
    if (newestServer.check(answer!)) epoch += 1
  }
  const named = (purpose: string) => ({
    databaseUrl,
    applicationName: `mooring agent ${node}: ${purpose}`,
  })
  const beats = createConnection({ ...named('beat'), onDisconnect })
  const calls = createConnection({ ...named('calls'), onDisconnect })
  const rounds = createConnection({ ...named('rounds'), idleTimeoutSeconds: SELDOM_IDLE_SECONDS })
  const logs = createConnection({ ...named('logs'), idleTimeoutSeconds: SELDOM_IDLE_SECONDS })
  const watch = createServerClock()

  return {
    async schemaVersion() {
      const rows = await calls.run(
        CALL_DEADLINE_MS,
        (sql) => sql<{ version: number }[]>`select mooring.schema_version() as version`,
      )
      return only(rows).version
    },
    async registerNode(...args) {
      const rows = await calls.run(CALL_DEADLINE_MS, (sql) => registration(sql, ...args), believe)
      return withControlPlane(only(rows))
    },
    async rehearseRegistration(...args) {
      const rows = await calls.run(
        CALL_DEADLINE_MS,
        (sql) => rolledBack(sql, registration, args),
        believe,
      )
      return withControlPlane(only(rows))
    },
    async heartbeat(name, session, sample, running, deadlineMs) {
      const rows = await beats.run(
        deadlineMs,
        (sql) => sql<(BeatAnswer & ServerIdentity)[]>`
        select h.*, s.* from mooring.server_identity() s, mooring.heartbeat(
          ${name}, ${session}::uuid,
          ${sample.cpu_pct}::float8, ${sample.memory_mb}::float8, ${sample.disk_free_pct}::float8,
          ${bigintOf(sample.disk_free_bytes)}::bigint, ${running}::int) h`,
        believe,
      )
      return withoutIdentity(only(rows))
    },
    async assignmentsOf(name, session) {
      const rows = await calls.run(
        CALL_DEADLINE_MS,
        // a node that owns nothing is one row too, with the server alone
        (sql) => sql<(OwnedAssignmentRow & ServerIdentity)[]>`
        select a.*, s.* from mooring.server_identity() s
          left join mooring.assignments_of(${name}, ${session}::uuid) a on true`,
        believe,
      )
      return rows
        .filter((row) => row.assignment_id !== null)
        .map((row) => ({ ...withoutIdentity(row), args: row.args ?? [], env: row.env ?? {} }))
    },
    async report(name, session, reports) {
      const text = JSON.stringify(reports)
      const send = (json: string) =>
        calls.run(
          CALL_DEADLINE_MS,
          (sql) => sql<ReportOutcome[]>`
        select r.* from mooring.report(${name}, ${session}::uuid, ${json}::text::jsonb) r`,
        )
      return send(text).catch((error: unknown) => {
        // a database that is not UTF8 lacks a character; the state must arrive all the same
        if ((error as { code?: string }).code !== UNTRANSLATABLE_CHARACTER) throw error
        return send(text.replaceAll(/[^\0-\x7f]/gu, '?'))
      })
    },
    async beginLeave(name, session) {
      await calls.run(
        CALL_DEADLINE_MS,
        (sql) => sql`select mooring.begin_leave(${name}, ${session}::uuid)`,
      )
    },
    async leave(name, session) {
      const rows = await calls.run(
        CALL_DEADLINE_MS,
        (sql) => sql<{ freed: number }[]>`select mooring.leave(${name}, ${session}::uuid) as freed`,
      )
      return only(rows).freed
    },
    logRequestsOf: (name, session) =>
      logs.run(
        CALL_DEADLINE_MS,
        (sql) => sql<LogRequest[]>`
      select r.* from mooring.log_requests_of(${name}, ${session}::uuid) r`,
      ),
    async answerLog(name, session, request, { start_byte, data, next, more, size, error }) {
      const rows = await logs.run(
        CALL_DEADLINE_MS,
        (sql) => sql<{ accepted: boolean }[]>`
        select mooring.answer_log(
          ${name}, ${session}::uuid, ${request}::uuid, ${start_byte}::bigint, ${data}::bytea,
          ${next}, ${more}::boolean, ${size}::bigint, ${error}) as accepted`,
      )
      return only(rows).accepted
    },
    async tick(name) {
      // Opening the connection may take a while, but the clock reading has to arrive at once. So an
      // empty statement opens it first.
      await rounds.run(TICK_DEADLINE_MS, (sql) => sql`select`)
      const rows = await rounds.run(TICK_DEADLINE_MS, (sql) => {
        const { clockMs, sinceMs } = watch.beforeTick()
        return sql<{ clock_ms: number }[]>`
          select t.clock_ms from mooring.tick(
            ${name}, inline => true,
            last_clock_ms => ${clockMs}::float8, since_ms => ${sinceMs}::float8) t`
      })
      watch.afterTick(only(rows).clock_ms)
    },
    connectionEpoch: () => epoch,
    close() {
      for (const each of [beats, calls, logs, rounds]) each.close()
    },
  }
}

type RegistrationRow = Omit<Registration, 'control_plane'> & ServerIdentity

function registration(
  sql: ISql,
  d: NodeDescription,
  session: string,
  replaces: string | null,
): Promise<RegistrationRow[]> {
  return sql<RegistrationRow[]>`
    select r.*, s.* from mooring.server_identity() s, mooring.register_node(
      node => ${d.node}, session => ${session}::uuid, trusts => ${d.trusts},
      drivers => ${`{${d.drivers.join(',')}}`}::text[],
      labels => ${d.labels === null ? null : JSON.stringify(d.labels)}::text::jsonb,
      max_assignments => ${d.max_assignments}::int,
      agent_base_url => ${d.agent_base_url}, gateway_base_url => ${d.gateway_base_url},
      replaces => ${replaces}::uuid, version => ${d.version},
      containment => ${d.containment}) r`
}

/** The result of a query whose transaction is rolled back. */
async function rolledBack<T, Args extends unknown[]>(
  sql: Sql,
  query: (sql: ISql, ...args: Args) => PromiseLike<T>,
  args: Args,
): Promise<T> {
  let result: { value: T } | null = null
  try {
    await sql.begin(async (transaction) => {
      result = { value: await query(transaction, ...args) }
      throw ROLL_BACK
    })
  } catch (error) {
    if (error !== ROLL_BACK) throw error
  }
  return result!.value
}
const ROLL_BACK = new Error('rolled back as intended')

/** args and env of a deleted deployment are null, like the rest of its spec. */
type OwnedAssignmentRow = Omit<OwnedAssignment, 'args' | 'env'> & {
  args: string[] | null
  env: Record<string, string> | null
}

function withControlPlane(row: RegistrationRow): Registration {
  const { system_identifier, database_oid, port } = row
  return {
    ...withoutIdentity(row),
    control_plane: `${system_identifier ?? 'unknown'}.${database_oid}.${port}`,
  }
}

function withoutIdentity<T extends ServerIdentity>(row: T): Omit<T, keyof ServerIdentity> {
  const { system_identifier, database_oid, port, timeline, standby, ...rest } = row
  return rest
}

function bigintOf(bytes: number | null): string | null {
  return bytes === null ? null : String(Math.round(bytes))
}

function only<T>(rows: readonly T[]): T {
  const [row] = rows
  if (row === undefined) throw new Error('the database answered no row where one is due')
  return row
}
