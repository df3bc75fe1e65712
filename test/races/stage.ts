/**
 * The stage of a race: named sessions, each a connection of its own, take their steps in the order
 * of the story. A step that has to wait is started and not awaited. The server says which session
 * blocks it (pg_blocking_pids); that is never assumed, and never slept for.
 */
import type { Test } from 'tap'
import type { PendingQuery, Row, Sql } from 'postgres'
import { testDatabase, type TestDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'

export interface Stage extends TestDatabase {
  /** Another actor: one connection. A statement of it that takes a minute has failed. */
  session(name: string): Promise<Session>
}

export interface Session {
  name: string
  pid: number
  sql: Sql
  begin(): Promise<void>
  commit(): Promise<void>
  rollback(): Promise<void>
  /** Sends the statement now and comes back while it runs. */
  start<T extends readonly Row[]>(statement: (sql: Sql) => PendingQuery<T>): Step<T>
}

export interface Step<T> {
  /** Resolves or rejects as the statement does. A rejection that no test awaits is not reported. */
  done: Promise<T>
  over(): boolean
}

/**
 * A fresh database. Transactions that a story leaves open on purpose are not ended under its hands,
 * however slow the machine.
 */
export async function stage(t: Test): Promise<Stage> {
  const pg = await testDatabase(t)
  await pg.sql`update mooring.setting set placement_lock_timeout = '1 min'`
  return { ...pg, session: (name) => openSession(pg.client(name), name) }
}

export async function openSession(sql: Sql, name: string): Promise<Session> {
  const [me] = await sql<
    { pid: number }[]
  >`select pg_backend_pid() as pid, set_config('statement_timeout', '60s', false)`
  return {
    name,
    pid: me!.pid,
    sql,
    async begin() {
      await sql`begin`
    },
    async commit() {
      await sql`commit`
    },
    async rollback() {
      await sql`rollback`
    },
    start(statement) {
      let over = false
      const done = statement(sql).execute()
      const settled = () => void (over = true)
      done.then(settled, settled)
      return { done, over: () => over }
    },
  }
}

/**
 * The waiter comes to wait for these and no others: the holder of the lock, and those before it in
 * the queue. On its way it may wait for another lock for a moment.
 */
export async function waitsFor(
  t: Test,
  pg: Pick<TestDatabase, 'sql'>,
  waiter: Session,
  ...holders: readonly Session[]
): Promise<void> {
  const wanted = [...new Set(holders.map(({ pid }) => pid))].sort()
  const blockers = async () => {
    const [row] = await pg.sql<{ pids: number[] }[]>`select pg_blocking_pids(${waiter.pid}) as pids`
    return [...new Set(row!.pids)].sort()
  }
  const label = `${waiter.name} waits for ${holders.map(({ name }) => name).join(' and ')}`
  await waitFor(async () => String(await blockers()) === String(wanted), {
    label: `${label} (${waiter.pid}: ${holders.map(({ pid }) => pid).join(', ')})`,
    show: () => activity(pg.sql),
  })
  t.pass(label)
}

/** What each session does at the moment: printed where a story comes out otherwise. */
export async function activity(sql: Sql): Promise<readonly Row[]> {
  return await sql`
    select a.pid, a.application_name as name, a.state, a.wait_event_type as waits,
           a.wait_event as for, pg_blocking_pids(a.pid) as blocked_by, left(a.query, 120) as query
      from pg_stat_activity a
     where a.datname = current_database() and a.pid <> pg_backend_pid()
     order by a.backend_start`
}

/**
 * Replaces a function of Mooring by the obvious version: its own source, with one guard removed or
 * one line put in. The text to be replaced has to be there once, with any white space between its
 * words. A guard that was rewritten needs another look here.
 */
export async function rewrite(
  sql: Sql,
  name: string,
  ...changes: readonly (readonly [from: string, to: string])[]
): Promise<void> {
  const found = await sql<{ source: string }[]>`
    select pg_get_functiondef(p.oid) as source
      from pg_proc p
      join pg_namespace n on n.oid = p.pronamespace
     where n.nspname in ('mooring', 'mooring_internal') and p.proname = ${name}`
  if (found.length !== 1) throw new Error(`there are ${found.length} functions mooring.${name}`)
  let source = found[0]!.source
  for (const [from, to] of changes) {
    const pattern = withAnyWhiteSpace(from)
    if (source.split(pattern).length !== 2)
      throw new Error(`mooring.${name} no longer contains, or contains twice: ${from}`)
    source = source.replace(pattern, () => to)
  }
  await sql.unsafe(source)
}

/** Matches a piece of SQL however its lines are broken. */
function withAnyWhiteSpace(text: string): RegExp {
  const words = text.trim().split(/\s+/)
  return new RegExp(words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('\\s+'))
}

const PAUSE = 1_346_458_963

/**
 * Makes a function pause before a statement of its source until the gate is opened, in the sessions
 * that ask for it (stopHere). It serves the moments between two statements of one verb, where no
 * lock could hold it.
 */
export async function gateBefore(
  pg: Stage,
  name: string,
  statement: string,
): Promise<{ session: Session; stopHere(session: Session): Promise<void>; open(): Promise<void> }> {
  await pg.sql.unsafe(`
    create or replace function public.gate() returns void language plpgsql as $$
    begin
      if current_setting('story.stops_at_the_gate', true) = 'on' then
        perform pg_advisory_xact_lock_shared(${PAUSE}, 0);
      end if;
    end; $$`)
  await rewrite(pg.sql, name, [statement, `perform public.gate();\n${statement}`])
  const session = await pg.session('gate')
  await session.sql`select pg_advisory_lock(${PAUSE}::int, 0)`
  return {
    session,
    async stopHere(visitor) {
      await visitor.sql`select set_config('story.stops_at_the_gate', 'on', false)`
    },
    async open() {
      await session.sql`select pg_advisory_unlock(${PAUSE}::int, 0)`
    },
  }
}
