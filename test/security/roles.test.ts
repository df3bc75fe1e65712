// What each role may do, and a list of attacks as each of them. An attack succeeds when it is not refused with the code named here, or when anything in the
// database is another than before.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Sql } from 'postgres'
import t from 'tap'
import type { Test } from 'tap'
import { assignments, deployment } from '../helpers/factories.js'
import { login } from '../helpers/logins.js'
import type { Login } from '../helpers/logins.js'
import { migrate } from '../../cli/migrate.js'
import { emptyDatabase, testDatabase } from '../helpers/postgres.js'
import type { TestDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'
import { ACTING, DEPLOYING, READING, RESERVED } from './attacks.js'
import type { Attack } from './attacks.js'

interface Fleet { pg: TestDatabase; a: Login; b: Login; sessions: Record<'a' | 'b', string>; deployment: string; assignment: string }

const SECRET = 'hunter2-in-an-environment'

/** Two hosts with a role each; host-b owns a deployment whose environment holds a secret. */
async function fleet(t: Test): Promise<Fleet> {
  const pg = await testDatabase(t)
  const [a, b] = [await login(t, pg, ['mooring_agent']), await login(t, pg, ['mooring_agent'])]
  const sessions = { a: randomUUID(), b: randomUUID() }
  await a.sql`select from mooring.register_node('host-a', ${sessions.a}, '.')`
  await b.sql`select from mooring.register_node('host-b', ${sessions.b}, '.')`
  const id = await deployment(pg.sql, { name: 'web', env: { TOKEN: SECRET }, pinned_node: 'host-b' })
  await pg.sql`select from mooring.claim()`
  const [owned] = await assignments(pg.sql, id)
  t.equal(owned?.node, 'host-b')
  return { pg, a, b, sessions, deployment: id, assignment: owned!.id }
}

/** Everything that is stored, as one text, but the clocks that run by themselves. */
async function everything(sql: Sql): Promise<string> {
  const tables = await sql<{ name: string }[]>`
    select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'mooring'::regnamespace and c.relkind = 'r' and c.relname not in ('pulse', 'round') order by 1`
  const rows = await Promise.all(tables.map(async ({ name }) => [name, await sql.unsafe(`select to_jsonb(r)::text as row from ${name} r order by 1`)]))
  const catalog = await sql`select count(*)::int as n, max(p.oid)::text as newest from pg_proc p`
  const jobs = await sql`select count(*)::int as n from graphile_worker.jobs`
  return JSON.stringify([rows, catalog, jobs])
}

async function attacked(t: Test, pg: TestDatabase, attacker: Login, attacks: readonly Attack[]): Promise<void> {
  const before = await everything(pg.sql)
  for (const [what, code, attack] of attacks) {
    const error = await attack(attacker.sql).then(() => null, (thrown: unknown) => thrown as { code?: string; message: string })
    t.match(error?.code ?? 'not refused', code, `${what}: ${error?.message ?? ''}`)
    t.notMatch(JSON.stringify({ ...error, message: error?.message }), SECRET, `${what}: without the secret`)
    await attacker.sql.unsafe('rollback').catch(() => {})
    if (await everything(pg.sql) !== before) t.fail(`${what} left a trace`)
  }
  t.equal(await everything(pg.sql), before, 'nothing is another than before')
}

t.test('D2: an agent acts for its own node', async (t) => {
  const { pg, b, sessions, assignment } = await fleet(t)
  const [answer] = await b.sql`select h.owned, h.hold from mooring.heartbeat('host-b', ${sessions.b}) h`
  t.match(answer, { owned: 1, hold: false })
  t.match(await b.sql`select o.assignment_id, o.env from mooring.assignments_of('host-b', ${sessions.b}) o`, [{ assignment_id: assignment, env: { TOKEN: SECRET } }], 'with the environment it needs')
  t.equal((await b.sql`select from mooring.assignments_of('host-b')`).length, 1, 'also without its session')
  const [{ epoch } = { epoch: '' }] = await assignments(pg.sql)
  t.match(await b.sql`select r.accepted from mooring.report('host-b', ${sessions.b}, ${b.sql.json([{ assignment_id: assignment, epoch, state: 'running' }])}) r`, [{ accepted: true }])
  await b.sql`select from mooring.begin_leave('host-b', ${sessions.b})`
  t.match(await b.sql`select mooring.leave('host-b', ${sessions.b}) as freed`, [{ freed: 1 }])
  const again = randomUUID()
  await b.sql`select from mooring.register_node('host-b', ${again}, '.')`
  t.match(await pg.sql`select n.role_name from mooring.node n where n.name = 'host-b'`, [{ role_name: b.name }])
})

t.test('defect 16: an agent does nothing for the node of another role, not even with its session', async (t) => {
  const { pg, a, sessions, assignment } = await fleet(t)
  const [{ epoch } = { epoch: '' }] = await assignments(pg.sql)
  const theirs = sessions.b
  await attacked(t, pg, a, [
    ['a beat', 'MR009', (sql) => sql`select * from mooring.heartbeat('host-b', ${theirs})`],
    ['a beat of a guessed session', 'MR009', (sql) => sql`select * from mooring.heartbeat('host-b', ${randomUUID()})`],
    ['its work and environments', 'MR009', (sql) => sql`select * from mooring.assignments_of('host-b')`],
    ['its work and environments, with its session', 'MR009', (sql) => sql`select * from mooring.assignments_of('host-b', ${theirs})`],
    ['a report', 'MR009', (sql) => sql`select * from mooring.report('host-b', ${theirs}, ${sql.json([{ assignment_id: assignment, epoch, state: 'stopped' }])})`],
    ['begin_leave', 'MR009', (sql) => sql`select mooring.begin_leave('host-b', ${theirs})`],
    ['leave', 'MR009', (sql) => sql`select mooring.leave('host-b', ${theirs})`],
    ['its name', 'MR009', (sql) => sql`select * from mooring.register_node('host-b', ${randomUUID()}, '.')`],
    ['its name, as its successor', 'MR009', (sql) => sql`select * from mooring.register_node('host-b', ${randomUUID()}, '.', replaces => ${theirs})`],
    ['its name, as itself', 'MR009', (sql) => sql`select * from mooring.register_node('host-b', ${theirs}, '.')`],
    ['a tick in its name', 'MR009', (sql) => sql`select * from mooring.tick('host-b', inline => true)`],
    ['a tick as a worker', 'MR009', (sql) => sql`select * from mooring.tick('host-a')`],
    ['a tick that has the jobs of others unlocked', 'MR009', (sql) => sql`select * from mooring.tick('agent host-a', '{pool-1}'::text[])`],
    ['a tick for nobody', 'MR009', (sql) => sql`select * from mooring.tick(null, inline => true)`],
    ['a node that is not there', 'MR003', (sql) => sql`select * from mooring.heartbeat('host-c', ${theirs})`],
  ])
  const named = await a.sql`select * from mooring.heartbeat('host-bb', ${theirs})`.catch((error: unknown) => error) as { hint: string }
  t.notMatch(named.hint, 'host-b', 'and is not told what other nodes are called')
  const [mine] = await a.sql`select r.accepted from mooring.report('host-a', ${sessions.a}, ${a.sql.json([{ assignment_id: assignment, epoch, state: 'stopped' }])}) r`
  t.match(mine, { accepted: false }, 'reported as its own it is not believed')
  t.match(await assignments(pg.sql), [{ node: 'host-b', epoch }])
})

t.test('negative control: who owns the schema may act for every node', async (t) => {
  const { pg, sessions } = await fleet(t)
  t.match(await pg.sql`select h.owned from mooring.heartbeat('host-b', ${sessions.b}) h`, [{ owned: 1 }])
  t.equal((await pg.sql`select from mooring.assignments_of('host-b')`).length, 1)
  await pg.sql`select from mooring.tick('worker-1')`
  const successor = randomUUID()
  await pg.sql`select from mooring.register_node('host-b', ${successor}, '.', replaces => ${sessions.b})`
  t.match(await pg.sql`select from mooring.node n where n.name = 'host-b' and n.role_name = session_user`, [], 'and leaves it bound as it was')
})

for (const [group, attacks] of [['mooring_agent', [...RESERVED, ...DEPLOYING, ...READING]], ['mooring_viewer', [...RESERVED, ...DEPLOYING, ...ACTING]], ['mooring_operator', [...RESERVED.filter(([what]) => what !== 'insert into node'), ...ACTING]], ['mooring_workload', [...RESERVED.filter(([what]) => what !== 'the row lock of a workload'), ...DEPLOYING, ...ACTING, ...READING]]] as const) {
  t.test(`a member of ${group} is refused what is not its business`, async (t) => {
    const { pg } = await fleet(t)
    const attacker = await login(t, pg, [group])
    await attacked(t, pg, attacker, attacks)
    await attacked(t, pg, attacker, [['SET ROLE to its group gains nothing', '42501', async (sql) => { await sql.unsafe(`set role ${group}`); await sql.unsafe('delete from mooring.assignment') }]])
    await attacker.sql.unsafe('reset role')
  })
}

t.test('negative control: the owner is refused none of it', async (t) => {
  const { pg } = await fleet(t)
  for (const [what, , attack] of [...DEPLOYING, ...READING]) {
    const error = await attack(pg.sql).then(() => null, (thrown: unknown) => thrown as { code: string })
    t.not(error?.code, '42501', what)
  }
})

t.test('a login without a role gets nothing, and PUBLIC has nothing', async (t) => {
  const { pg } = await fleet(t)
  const stranger = await login(t, pg)
  await attacked(t, pg, stranger, [...RESERVED, ...DEPLOYING, ...ACTING, ...READING])
})

t.test('SET ROLE to another agent changes nothing: a node is the login\'s', async (t) => {
  const { pg, a, b, sessions } = await fleet(t)
  await pg.sql.unsafe(`grant ${b.name} to ${a.name}`)
  await attacked(t, pg, a, [['a beat as the other role', 'MR009', async (sql) => { await sql.unsafe(`set role ${b.name}`); await sql`select * from mooring.heartbeat('host-b', ${sessions.b})` }]])
  await a.sql.unsafe('reset role')
})

t.test('a viewer sees every view, explains and reads history, and no environment', async (t) => {
  const { pg, deployment: id } = await fleet(t)
  await deployment(pg.sql, { package_name: 'left-pad', selector: { nowhere: true }, env: { TOKEN: SECRET } })
  await pg.sql`select from mooring.drain_node('host-a')`
  const viewer = await login(t, pg, ['mooring_viewer'])
  const views = await pg.sql<{ name: string }[]>`select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'mooring'::regnamespace and c.relkind = 'v'`
  const texts: unknown[] = []
  for (const { name } of views) {
    const rows = await viewer.sql.unsafe(`select * from ${name}`)
    t.ok(rows.length > 0, name)
    texts.push(rows)
  }
  texts.push(await viewer.sql`select * from mooring.explain(${id}::bigint)`, await viewer.sql`select * from mooring.last_events(1000)`, await viewer.sql`select * from mooring.placements_of('host-b')`,
    await viewer.sql`select id, name, labels, replicas from mooring.deployment`, await viewer.sql`select * from mooring.node`, await viewer.sql`select * from mooring.setting`, await viewer.sql`select * from mooring.event`)
  t.notMatch(JSON.stringify(texts), SECRET)
})

t.test('D3: an operator deploys, edits nodes, drains, moves and reads environments', async (t) => {
  const { pg, b, deployment: id } = await fleet(t)
  const operator = await login(t, pg, ['mooring_operator'])
  const { sql } = operator
  const [made] = await sql<{ id: string }[]>`insert into mooring.deployment (package_name, env) values ('http-server', '{"A": "1"}') returning id`
  t.equal((await assignments(pg.sql, made!.id)).length, 1, 'the triggers have the rights they need')
  await sql`update mooring.deployment set replicas = 2, env = '{"A": "2"}' where id = ${made!.id}`
  await sql`delete from mooring.deployment where id = ${made!.id}`
  t.match(await sql`select d.env from mooring.deployment d where d.id = ${id}`, [{ env: { TOKEN: SECRET } }])
  await sql`update mooring.node set labels = '{"zone": "b"}', weight = 50, max_assignments = 3 where name = 'host-b'`
  await sql`insert into mooring.node (name, role_name) values ('host-new', ${b.name})`
  await sql`update mooring.setting set drain_max_moves = 7`
  for (const call of [`upsert_node('host-c', 200)`, `set_node_enabled('host-c', false)`, `forget_node('host-c')`, `drain_node('host-b')`, `undrain_node('host-b')`, 'resume_reaping()', 'explain(1)', 'last_events(5)']) {
    await sql.unsafe(`select * from mooring.${call}`)
  }
  t.match((await sql`select count(*)::int as n from mooring.placement`)[0], { n: 1 }, 'and is a viewer')
  await attacked(t, pg, operator, [
    ['a policy, whose function would run as the owner', '42501', (sql) => sql`insert into mooring.policy (name, kind, cost_function, description) values ('evil', 'load', 'public.evil', 'x')`],
    ['a policy changed', '42501', (sql) => sql`update mooring.policy set cost_function = 'public.evil'`],
    ['what only an agent says of its node', '42501', (sql) => sql`update mooring.node set trusts = '.' where name = 'host-a'`],
    ['a renamed node', '42501', (sql) => sql`update mooring.node set name = 'host-x' where name = 'host-a'`],
    ['TRUNCATE', '42501', (sql) => sql`truncate mooring.deployment`],
  ])
})

t.test('an operator binds a node to another role: the old one is refused from its next beat on', async (t) => {
  const { pg, a, b, sessions } = await fleet(t)
  const operator = await login(t, pg, ['mooring_operator'])
  await operator.sql`update mooring.node set role_name = ${a.name} where name = 'host-b'`
  await t.rejects(Promise.resolve(b.sql`select * from mooring.heartbeat('host-b', ${sessions.b})`), { code: 'MR009', hint: /An operator may bind it anew: update mooring.node set role_name/ })
  await t.rejects(Promise.resolve(b.sql`select * from mooring.register_node('host-b', ${randomUUID()}, '.', replaces => ${sessions.b})`), { code: 'MR009' })
  await t.rejects(Promise.resolve(a.sql`select * from mooring.register_node('host-b', ${randomUUID()}, '.')`), { code: 'MR002' }, 'the new one waits until the lease of the old one is over')
  await pg.sql`update mooring.heartbeat set beat_at = beat_at - interval '1 min' where node = 'host-b'`
  const session = randomUUID()
  await a.sql`select from mooring.register_node('host-b', ${session}, '.')`
  t.match(await a.sql`select h.owned from mooring.heartbeat('host-b', ${session}) h`, [{ owned: 1 }])
  t.match(await pg.sql`select e.actor, e.node, e.detail from mooring.event e where e.kind = 'node_rebound'`, [{ actor: `${operator.name} (test: another role)`, node: 'host-b', detail: { from: b.name, to: a.name } }])
})

t.test('a name nobody has is bound to whoever registers it first, unless agents may add no nodes', async (t) => {
  const { pg, a, b } = await fleet(t)
  const operator = await login(t, pg, ['mooring_operator'])
  await operator.sql`select from mooring.upsert_node('host-c')`
  await a.sql`select from mooring.register_node('host-c', ${randomUUID()}, '.')`
  await t.rejects(Promise.resolve(b.sql`select from mooring.register_node('host-c', ${randomUUID()}, '.')`), { code: 'MR009' })
  await operator.sql`update mooring.setting set agents_may_add_nodes = false`
  await operator.sql`select from mooring.upsert_node('host-d')`
  await operator.sql`insert into mooring.node (name, role_name) values ('host-e', ${b.name})`
  await attacked(t, pg, b, ['host-d', 'host-z'].map((name) => [`registers ${name}`, 'MR009', (sql) => sql`select from mooring.register_node(${name}, ${randomUUID()}, '.')`]))
  await b.sql`select from mooring.register_node('host-e', ${randomUUID()}, '.')`
})

t.test('what a workload wrote is read by the operator who asked for it: by no viewer, no other agent, and no other operator', async (t) => {
  const { pg, a, b, sessions, assignment } = await fleet(t)
  const [ann, bob] = [await login(t, pg, ['mooring_operator']), await login(t, pg, ['mooring_operator'])]
  const ask = async ({ sql }: Login): Promise<string> => (await sql<{ request: string }[]>`select mooring.request_log(${assignment}::bigint, from_byte => 0) as request`)[0]!.request
  const answer = ({ sql }: Login, node: string, session: string, request: string) => sql<{ taken: boolean }[]>`select mooring.answer_log(${node}, ${session}, ${request}, 0, ${Buffer.from(SECRET)}, null, false, 3, null) as taken`
  const request = await ask(ann)
  t.same(await a.sql`select from mooring.log_requests_of('host-a', ${sessions.a})`, [], 'another agent is not told of it')
  t.match(await answer(a, 'host-a', sessions.a, request), [{ taken: false }], 'and what it says instead is not believed')
  await attacked(t, pg, a, [
    ['what another node is asked', 'MR009', (sql) => sql`select * from mooring.log_requests_of('host-b', ${sessions.b})`],
    ['an answer in the name of another node', 'MR009', (sql) => sql`select mooring.answer_log('host-b', ${sessions.b}, ${request}, 0, 'lie', null, false, 3, null)`],
    ['an answer in a log, with the id of the request', '42501', (sql) => sql`select * from mooring.read_log(${request})`],
  ])
  t.match(await b.sql`select q.request, q.assignment_id from mooring.log_requests_of('host-b', ${sessions.b}) q`, [{ request, assignment_id: assignment }])
  t.match(await answer(b, 'host-b', sessions.b, request), [{ taken: true }], 'negative control: the agent of the node answers')
  const stolen = ['the answer to somebody else, with the id of the request', 'MR003', (sql) => sql`select * from mooring.read_log(${request})`] as Attack
  await attacked(t, pg, bob, [stolen])
  await attacked(t, pg, await login(t, pg, ['mooring_viewer']), [[stolen[0], '42501', stolen[2]]])
  t.equal(((await ann.sql`select r.data from mooring.read_log(${request}) r`)[0]!['data'] as Buffer).toString(), SECRET, 'negative control: who asked reads it')
  const owners = await ask(bob)
  await answer(b, 'host-b', sessions.b, owners)
  t.equal((await pg.sql`select from mooring.read_log(${owners})`).length, 1, 'and so does the owner of the schema')
})

t.test('a flood of requests for logs is bounded, and leaves the others their place', async (t) => {
  const { pg, b, sessions, assignment } = await fleet(t)
  const [flooding, other] = [await login(t, pg, ['mooring_operator']), await login(t, pg, ['mooring_operator'])]
  await flooding.sql.unsafe(`do $$ begin for i in 1..1000 loop begin perform mooring.request_log(${assignment}); exception when sqlstate 'MR007' then null; end; end loop; end $$`)
  const [{ open } = { open: 0 }] = await pg.sql<{ open: number }[]>`select count(*)::int as open from mooring.log_request`
  t.equal(open, 150)
  t.match(await other.sql`select mooring.request_log(${assignment}::bigint) is not null as asked`, [{ asked: true }], 'somebody else asks the same node as ever')
  t.equal((await b.sql`select from mooring.log_requests_of('host-b', ${sessions.b})`).length, 151)
  await t.rejects(Promise.resolve(flooding.sql`select mooring.request_log(${assignment}::bigint)`), { code: 'MR007' })
  await pg.sql`update mooring.log_request set requested_at = clock_timestamp() - interval '61 s'`
  t.match(await flooding.sql`select mooring.request_log(${assignment}::bigint) is not null as asked`, [{ asked: true }], 'and so does the one that flooded it, in a minute')
})

t.test('two roles register one new name in the same moment: one gets it, the other leaves no trace', async (t) => {
  const pg = await testDatabase(t)
  const [a, b] = [await login(t, pg, ['mooring_agent']), await login(t, pg, ['mooring_agent'])]
  await a.sql`begin`
  await a.sql`select from mooring.register_node('host-x', ${randomUUID()}, 'from-a')`
  const second = b.sql`select from mooring.register_node('host-x', ${randomUUID()}, 'from-b')`.then(() => null, (error: unknown) => error as { code: string })
  await waitFor(async () => (await pg.sql`select from pg_stat_activity s where s.usename = ${b.name} and s.wait_event_type = 'Lock'`).length === 1, { label: 'the second waits for the first' })
  await a.sql`commit`
  t.match(await second, { code: 'MR009' })
  t.match(await pg.sql`select n.role_name, n.trusts from mooring.node n`, [{ role_name: a.name, trusts: 'from-a' }])
})

t.test('a tick of an agent counts only where rounds are left undone', async (t) => {
  const { pg, a } = await fleet(t)
  const [before] = await pg.sql`select p.hold_until from mooring.pulse p`
  await pg.sql`select from mooring.tick('worker-1', inline => true)`
  await pg.sql`select from mooring.tick('worker-1')`
  const lie = Date.now() - 3_600_000
  const [idle] = await a.sql<{ rounds: string[]; hold: boolean }[]>`select t.rounds, t.hold from mooring.tick('agent host-a', inline => true, last_clock_ms => ${lie}, since_ms => 10) t`
  t.match(idle, { rounds: [], hold: false }, 'a worker works: what is said of the clock is not believed')
  t.same((await pg.sql`select p.hold_until from mooring.pulse p`)[0], before)
  await pg.sql`update mooring.round set done_at = done_at - interval '1 min', due_at = due_at - interval '1 min'`
  const [overdue] = await a.sql<{ rounds: string[] }[]>`select t.rounds from mooring.tick('agent host-a', inline => true) t`
  t.ok(overdue!.rounds.includes('reap'), 'the worker does nothing: the agent runs the rounds')
})

t.test('while a worker lives, nothing an agent says of the clock prolongs a hold or starts one, also where rounds are overdue', async (t) => {
  const { pg, a, sessions } = await fleet(t)
  await pg.sql`select from mooring.tick('worker-1')`
  await pg.sql`delete from mooring.outage_marker`
  await pg.sql`select mooring.reap(), mooring.claim()`
  // the hold began five seconds ago, and somebody has ticked since
  await pg.sql`update mooring.pulse set pulse_at = clock_timestamp(), hold_until = hold_until - interval '5 s'`
  const holdUntil = async () => (await pg.sql<{ at: string }[]>`select p.hold_until::text as at from mooring.pulse p`)[0]!.at
  const before = await holdUntil()
  const lie = async () => await a.sql`select from mooring.tick('agent host-a', inline => true, last_clock_ms => ${Date.now() - 11_000}, since_ms => 0)`
  t.match(await a.sql`select h.hold, h.round_overdue from mooring.heartbeat('host-a', ${sessions.a}) h`, [{ hold: true, round_overdue: false }], 'in a hold nobody is asked to tick')
  await lie()
  t.equal(await holdUntil(), before)
  await pg.sql`update mooring.round set done_at = done_at - interval '1 min'`
  await lie()
  t.equal(await holdUntil(), before, 'a worker that lives and does nothing: the agent runs the rounds, and its clock counts for nothing')
  await pg.sql`update mooring.round set done_at = done_at - interval '1 min'`
  await pg.sql`delete from mooring.worker`
  await lie()
  t.ok(await holdUntil() > before, 'with no worker agents are the only other clocks there are')
})

t.test('a workload asks for its ownership, and for nothing else', async (t) => {
  const { pg, assignment } = await fleet(t)
  const [{ epoch } = { epoch: '0' }] = await assignments(pg.sql)
  const workload = await login(t, pg, ['mooring_workload'])
  await workload.sql`select mooring.assert_owner(${assignment}::bigint, ${epoch}::bigint)`
  await t.rejects(Promise.resolve(workload.sql`select mooring.assert_owner(${assignment}::bigint, ${epoch}::bigint + 1)`), { code: 'MR005' })
})

t.test('one role that owns the schema and is no superuser does everything, as ever, and acts for every node', async (t) => {
  const pg = await emptyDatabase(t)
  const owner = await login(t, pg)
  await pg.sql.unsafe(`grant create on database ${pg.name} to ${owner.name}`)
  t.match((await migrate({ databaseUrl: owner.url })).applied, [String])
  const { sql } = owner
  const session = randomUUID()
  await sql`select from mooring.register_node('host-a', ${session}, '.', '{npm,exec}')`
  const id = await deployment(sql, { env: { TOKEN: SECRET } })
  await sql`select from mooring.claim()`
  await sql`select from mooring.tick('worker-1')`
  await sql`select from mooring.tick('agent host-a', inline => true)`
  t.match(await sql`select h.owned from mooring.heartbeat('host-a', ${session}) h`, [{ owned: 1 }])
  t.match(await sql`select o.env from mooring.assignments_of('host-a', ${session}) o`, [{ env: { TOKEN: SECRET } }])
  t.match(await assignments(sql, id), [{ node: 'host-a' }])
  const agent = await login(t, pg, ['mooring_agent'])
  const theirs = randomUUID()
  await agent.sql`select from mooring.register_node('host-b', ${theirs}, '.')`
  await sql`select from mooring.heartbeat('host-b', ${theirs})`
  await attacked(t, pg, agent, [['the owner\'s node', 'MR009', (sql) => sql`select from mooring.heartbeat('host-a', ${session})`]])
  await sql`select mooring.leave('host-a', ${session})`
  await pg.sql.unsafe(`drop owned by ${owner.name} cascade`)
})

t.test('advisory locks are everybody\'s until they are taken from PUBLIC, as docs/security.md says how', async (t) => {
  const { pg } = await fleet(t)
  const stranger = await login(t, pg)
  const take = () => stranger.sql<{ taken: boolean }[]>`select pg_try_advisory_lock(1297043282, 1) as taken`
  t.match(await take(), [{ taken: true }], 'negative control: so placement can be held up')
  t.match(await pg.sql`select f.placement_lock_holder = s.pid as named from mooring.fleet f, pg_stat_activity s where s.usename = ${stranger.name}`, [{ named: true }], 'and the view names who does it')
  await stranger.sql`select pg_advisory_unlock_all()`
  const [, statement] = /```sql\n(do \$\$[\s\S]*?)```/.exec(readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'security.md'), 'utf8')) ?? []
  const [{ owner } = { owner: '' }] = await pg.sql<{ owner: string }[]>`select current_user::text as owner`
  await pg.sql.unsafe(statement!.replace('OWNER', owner))
  await t.rejects(Promise.resolve(take()), { code: '42501' })
  await deployment(pg.sql)
  t.equal((await pg.sql`select from mooring.claim()`).length, 1, 'verbs place as before')
})
