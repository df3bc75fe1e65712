import t from 'tap'
import type {
  BeatAnswer,
  OwnedAssignment,
  Registration,
  ReportOutcome,
  AssignmentReport,
  ObservedState,
} from '../../../agent/rows.js'
import { testDatabase } from '../../helpers/postgres.js'

// complete by type: a field that is added to the interface must be added here
const COLUMNS: Record<string, Record<string, string>> = {
  assignments_of: {
    assignment_id: 'bigint',
    epoch: 'bigint',
    deployment_id: 'bigint',
    ordinal: 'integer',
    type: 'text',
    generation: 'bigint',
    wanted: 'text',
    on_lost: 'text',
    lease_ttl_ms: 'integer',
    stop_grace_ms: 'integer',
    package_name: 'text',
    package_version: 'text',
    command: 'text',
    args: 'jsonb',
    env: 'jsonb',
  } satisfies Record<keyof OwnedAssignment, string>,
  heartbeat: {
    digest: 'text',
    owned: 'integer',
    lease_ttl_ms: 'integer',
    next_beat_ms: 'integer',
    hold: 'boolean',
    round_overdue: 'boolean',
  } satisfies Record<keyof BeatAnswer, string>,
  register_node: {
    node_id: 'integer',
    beat_interval_ms: 'integer',
    lease_ttl_ms: 'integer',
    reap_margin_ms: 'integer',
    channel: 'text',
    schema_version: 'integer',
  } satisfies Record<Exclude<keyof Registration, 'control_plane'>, string>,
  report: { assignment_id: 'bigint', epoch: 'bigint', accepted: 'boolean' } satisfies Record<
    keyof ReportOutcome,
    string
  >,
}

const REPORT_FIELDS: Record<keyof AssignmentReport, true> = {
  assignment_id: true,
  epoch: true,
  generation: true,
  state: true,
  pid: true,
  restarts: true,
  exit_code: true,
  exit_signal: true,
  error: true,
  next_start_in_ms: true,
}

const STATES: Record<ObservedState, true> = {
  installing: true,
  starting: true,
  running: true,
  stopping: true,
  backoff: true,
  failed: true,
  stopped: true,
  refused: true,
}

t.test('the rows of the verbs are those the agent knows', async (t) => {
  const { sql } = await testDatabase(t)
  for (const [verb, columns] of Object.entries(COLUMNS)) {
    const rows = await sql<{ name: string; type: string }[]>`
      select a.name, format_type(a.type, null) as type
        from pg_proc p
        cross join lateral unnest(p.proargnames, p.proargmodes, p.proallargtypes)
          a (name, mode, type)
       where p.oid = ${`mooring.${verb}`}::regproc and a.mode = 't'`
    t.same(Object.fromEntries(rows.map((row) => [row.name, row.type])), columns, verb)
  }
})

t.test('every field and every state of a report is read by the database', async (t) => {
  const { sql } = await testDatabase(t)
  const [row] = await sql<{ body: string; states: string }[]>`
    select pg_get_functiondef('mooring.report'::regproc) as body,
        (select pg_get_constraintdef(c.oid) from pg_constraint c
        where c.conname = 'run_state_is_known') as states`
  for (const field of Object.keys(REPORT_FIELDS))
    t.match(row?.body, new RegExp(`\\b${field}\\b`), field)
  for (const state of Object.keys(STATES)) t.match(row?.states, `'${state}'`, state)
})
