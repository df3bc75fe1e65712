/** What is tried as each role. An attack names the code it has to be refused with. */
import { randomUUID } from 'node:crypto'
import type { Sql } from 'postgres'

export type Attack = [
  what: string,
  code: string | RegExp,
  attack: (sql: Sql) => PromiseLike<unknown>,
]

/** Reserved for the owner of the schema. */
export const RESERVED: Attack[] = [
  ...[
    'mooring.node',
    'mooring.heartbeat',
    'mooring.assignment',
    'mooring.run',
    'mooring_internal.worker',
    'mooring_internal.round',
    'mooring_internal.pulse',
    'mooring.policy',
    'mooring_internal.outage_marker',
    'mooring_internal.node_load',
    'mooring_internal.reap_pause',
    'mooring_internal.log_request',
  ].flatMap((table): Attack[] => [
    [`insert into ${table}`, '42501', (sql) => sql.unsafe(`insert into ${table} default values`)],
    [`delete from ${table}`, '42501', (sql) => sql.unsafe(`delete from ${table}`)],
    [`truncate ${table}`, '42501', (sql) => sql.unsafe(`truncate ${table} cascade`)],
    [
      `lock ${table}`,
      '42501',
      (sql) => sql.unsafe(`begin; lock table ${table} in access exclusive mode`),
    ],
  ]),
  ['claim', '42501', (sql) => sql`select * from mooring.claim()`],
  ['reap', '42501', (sql) => sql`select * from mooring.reap()`],
  ['evict', '42501', (sql) => sql`select * from mooring.evict()`],
  [
    'release',
    '42501',
    (sql) => sql`select * from mooring_internal.release('{1}', '{1}', 'stolen', 'x')`,
  ],
  ['prune_events', '42501', (sql) => sql`select mooring.prune_events()`],
  [
    'an event of its own making',
    '42501',
    (sql) => sql`select mooring_internal.add_event('lie', 'x')`,
  ],
  ['a hold', '42501', (sql) => sql`select mooring_internal.start_hold(now(), null, 'x')`],
  ['the placement lock', '42501', (sql) => sql`select mooring_internal.lock_placement()`],
  ['the row lock of a workload', '42501', (sql) => sql`select mooring.assert_owner(1, 1)`],
  ['jobs', '42501', (sql) => sql`select mooring_jobs.add_job('place')`],
  ['history: events deleted', '42501', (sql) => sql`delete from mooring.event`],
  [
    'a function of its own in the schema',
    '42501',
    (sql) => sql`create function mooring.claim(text) returns int language sql return 1`,
  ],
  [
    'a verb replaced',
    '42501',
    (sql) =>
      sql.unsafe(
        `
          create or replace function mooring_internal.milliseconds(duration interval) returns int
            language sql immutable parallel safe
            return 1`,
      ),
  ],
  [
    'a trigger',
    '42501',
    (sql) =>
      sql.unsafe(
        `
          create trigger t after insert on mooring.deployment execute function
            mooring_internal.tg_refuse_truncate()`,
      ),
  ],
  ['the roles', '42501', (sql) => sql`select * from mooring.set_up_roles()`],
  [
    'another role',
    '42501',
    (sql) =>
      sql.unsafe('set role mooring_operator_of_somebody').catch((error: { code: string }) => {
        throw Object.assign(error, { code: error.code === '22023' ? '42501' : error.code })
      }),
  ],
  ['the superuser', '42501', (sql) => sql.unsafe(`set session authorization postgres`)],
]

/** An operator's. */
export const DEPLOYING: Attack[] = [
  [
    'a deployment',
    '42501',
    (sql) => sql`insert into mooring.deployment (package_name) values ('http-server')`,
  ],
  [
    'an edited deployment',
    '42501',
    (sql) => sql`update mooring.deployment set command = 'id' where true`,
  ],
  ['a deleted deployment', '42501', (sql) => sql`delete from mooring.deployment`],
  ['environments', '42501', (sql) => sql`select d.env from mooring.deployment d`],
  ['whole deployments', '42501', (sql) => sql`select * from mooring.deployment`],
  [
    'environments by way of a row',
    '42501',
    (sql) => sql`select to_jsonb(d) from mooring.deployment d`,
  ],
  ['settings', '42501', (sql) => sql`update mooring.setting set lease_ttl = '1 hour'`],
  ['a binding', '42501', (sql) => sql`update mooring.node set role_name = session_user`],
  ['restart', '42501', (sql) => sql`select mooring.restart(1)`],
  ['reassign', '42501', (sql) => sql`select mooring.reassign(1, 'host-a')`],
  ['drain_node', '42501', (sql) => sql`select mooring.drain_node('host-b')`],
  ['set_node_enabled', '42501', (sql) => sql`select mooring.set_node_enabled('host-b', false)`],
  ['upsert_node', '42501', (sql) => sql`select mooring.upsert_node('host-b', 1)`],
  ['forget_node', '42501', (sql) => sql`select mooring.forget_node('host-b')`],
  ['resume_reaping', '42501', (sql) => sql`select mooring.resume_reaping()`],
  ['the log of a workload', '42501', (sql) => sql`select mooring.request_log(1)`],
  [
    'a log of another reader',
    '42501',
    (sql) => sql`select * from mooring.read_log(${randomUUID()})`,
  ],
  ['a log in one statement', '42501', (sql) => sql.unsafe('call mooring.show_log(1)')],
]

/** An agent's. */
export const ACTING: Attack[] = [
  [
    'a registration',
    '42501',
    (sql) => sql`select mooring.register_node('host-z', ${randomUUID()}, '.')`,
  ],
  ['a beat', '42501', (sql) => sql`select mooring.heartbeat('host-b', ${randomUUID()})`],
  [
    'environments through assignments_of',
    '42501',
    (sql) => sql`select * from mooring.assignments_of('host-b')`,
  ],
  ['a tick', '42501', (sql) => sql`select mooring.tick('x')`],
  [
    'what an agent is asked',
    '42501',
    (sql) => sql`select * from mooring.log_requests_of('host-b', ${randomUUID()})`,
  ],
  [
    'the answer of an agent',
    '42501',
    (sql) =>
      sql`
        select mooring.answer_log(
          'host-b', ${randomUUID()}, ${randomUUID()}, 0, 'x', null, false, 1, null
        )`,
  ],
]

/** A viewer's. */
export const READING: Attack[] = [
  'mooring.deployment',
  'mooring.node',
  'mooring.heartbeat',
  'mooring.assignment',
  'mooring.run',
  'mooring.event',
  'mooring.setting',
  'mooring.placement',
  'mooring.node_status',
  'mooring.unplaced',
  'mooring.fleet',
  'mooring.drain_progress',
  'mooring_internal.log_request',
].map((table) => [`reads ${table}`, '42501', (sql) => sql.unsafe(`select * from ${table}`)])
