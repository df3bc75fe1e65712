import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, beat, deployment, deployments, node } from '../../helpers/factories.js'
import type { TestNode } from '../../helpers/factories.js'
import { claim, events, loads, obeyOrders, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

interface Progress {
  node: string
  total: number
  left: number
  moving: number
  blocked: number
  why: string | null
  done: boolean
  eta: string | null
}

const progress = async (sql: TransactionSql, name = 'host-a') =>
  (
    await sql<
      Progress[]
    >`select p.*, p.eta::text from mooring.drain_progress p where p.node = ${name}`
  )[0]!

/** n deployments on host-a; then host-b comes. */
async function loaded(sql: TransactionSql, n: number) {
  const hosts = [await node(sql, { name: 'host-a' })]
  const ids = await deployments(sql, n)
  await claim(sql)
  hosts.push(await node(sql, { name: 'host-b' }))
  return { hosts, ids }
}

/** The agents obey. Then the place round. */
async function obey(sql: TransactionSql, hosts: readonly TestNode[], only?: 'stop' | 'run') {
  await obeyOrders(sql, hosts, only)
  await claim(sql)
}

const stopping = async (sql: TransactionSql) =>
  (await assignments(sql)).filter(({ wanted }) => wanted === 'stop').length

story(
  'D19: a drain moves everything to the other node, so many at a time, and says how far it is',
  async (t, sql) => {
    const { hosts } = await loaded(sql, 5)
    const [first] = await sql`select * from mooring.drain_node('host-a', max_moves => 2)`
    t.same(first, { node: 'host-a', total: 5, left: 5, moving: 0, blocked: 0, why: null })
    t.match(await sql`select health, draining from mooring.node_status where node = 'host-a'`, [
      { health: 'DRAINING', draining: true },
    ])
    await claim(sql)
    t.equal(await stopping(sql), 2)
    t.match(await progress(sql), {
      total: 5,
      left: 5,
      moving: 2,
      blocked: 0,
      done: false,
      eta: null,
    })
    await claim(sql)
    t.equal(await stopping(sql), 2, 'a further round changes nothing')

    await obey(sql, hosts, 'stop')
    t.match(
      await progress(sql),
      { left: 3, moving: 2 },
      'placed on host-b, and not yet observed running there',
    )
    t.equal(await stopping(sql), 0)
    await obey(sql, hosts)
    t.match(await progress(sql), { left: 3, moving: 2, eta: String })
    t.equal(await stopping(sql), 2, 'they run: the next two')

    for (let round = 0; round < 6 && !(await progress(sql)).done; round++) await obey(sql, hosts)
    t.match(await progress(sql), {
      total: 5,
      left: 0,
      moving: 1,
      blocked: 0,
      why: null,
      done: true,
    })
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 5 })
    await obey(sql, hosts)
    t.match(await progress(sql), { left: 0, moving: 0, done: true })
    t.match(await events(sql, 'drain_started'), [
      { node: 'host-a', detail: { total: 5, max_moves: 2 } },
    ])
    t.match(await events(sql, 'node_drained'), [{ node: 'host-a', detail: { total: 5 } }], 'once')
    t.equal((await events(sql, 'move_wanted')).length, 5)
    t.ok(
      (await assignments(sql)).every(({ epoch }) => epoch === '3'),
      'each moved once',
    )
  },
)

story(
  'defect 15: a draining node gets no new work, and the old instance stops before the next starts',
  async (t, sql) => {
    const { hosts } = await loaded(sql, 1)
    await sql`select from mooring.drain_node('host-a')`
    await deployments(sql, 3)
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 1, 'host-b': 3 })
    t.match(await assignments(sql), [{ node: 'host-a', wanted: 'stop', epoch: '1' }, {}, {}, {}])
    await obey(sql, hosts)
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 4 })
  },
)

story('by default setting.drain_max_moves are on their way', async (t, sql) => {
  await loaded(sql, 6)
  await sql`update mooring.setting set drain_max_moves = 4`
  await sql`select from mooring.drain_node('host-a')`
  await claim(sql)
  t.equal(await stopping(sql), 4)
})

story(
  'D19: with a target everything goes there, and what cannot is blocked, with the reason',
  async (t, sql) => {
    const { hosts, ids } = await loaded(sql, 3)
    hosts.push(await node(sql, { name: 'host-c', labels: { zone: 'c' } }))
    await sql`update mooring.deployment set policy = 'none' where id = ${ids[0]!}`
    const other = await deployment(sql, { selector: { disk: 'ssd' } })
    await sql`update mooring.node set labels = '{"disk": "ssd"}' where name in ('host-a', 'host-b')`
    await sql`update mooring.node set enabled = false where name = 'host-b'`
    await claim(sql)
    await sql`update mooring.node set enabled = true where name = 'host-b'`
    const [first] = await sql`select * from mooring.drain_node('host-a', 'host-c')`
    t.match(first, {
      total: 4,
      left: 4,
      blocked: 1,
      why: /^assignment \d+: host-c cannot take it: the node lacks labels of the selector$/,
    })
    for (let round = 0; round < 5; round++) await obey(sql, hosts)
    t.same(await loads(sql), { 'host-a': 1, 'host-b': 0, 'host-c': 3 })
    t.match(await progress(sql), { left: 1, moving: 0, blocked: 1, done: false })
    t.match(
      await assignments(sql, other),
      [{ node: 'host-a', wanted: 'run', epoch: '1' }],
      'it runs on',
    )
    await sql`select from mooring.drain_node('host-a')`
    t.match(await events(sql, 'drain_changed'), [{ node: 'host-a' }])
    for (let round = 0; round < 3; round++) await obey(sql, hosts)
    t.match(
      await assignments(sql, other),
      [{ node: 'host-b', wanted: 'run', epoch: '3' }],
      'without a target it has somewhere to go',
    )
    t.match(await progress(sql), { done: true, total: 4 })
  },
)

const obstacles: [what: string, why: RegExp, prepare: (sql: TransactionSql) => Promise<unknown>][] =
  [
    [
      'there is no other node',
      /there is no other node/,
      (sql) => sql`delete from mooring.node where name = 'host-b'`,
    ],
    [
      'it is pinned',
      /pinned to another node/,
      (sql) => sql`update mooring.deployment set pinned_node = 'host-a'`,
    ],
    [
      'the others are full',
      /max_assignments already \(1\)/,
      (sql) => sql`update mooring.node set max_assignments = 0 where name = 'host-b'`,
    ],
    [
      'the others are disabled',
      /the node is disabled \(1\)/,
      (sql) => sql`update mooring.node set enabled = false where name = 'host-b'`,
    ],
    [
      'its policy is none',
      /policy is none: drain to a node by name/,
      (sql) => sql`update mooring.deployment set policy = 'none'`,
    ],
    [
      'the other agent refused it',
      /refused it/,
      (sql) =>
        sql`
          update mooring.assignment a
             set refused_by = array[n.id],
                 signature = mooring_internal.queue_signature(a.signature, array[n.id])
            from mooring.node n
           where n.name = 'host-b'`,
    ],
  ]
for (const [what, why, prepare] of obstacles) {
  story(`what no other node can take is not stopped: ${what}`, async (t, sql) => {
    await loaded(sql, 2)
    await prepare(sql)
    await sql`select from mooring.drain_node('host-a')`
    await claim(sql)
    t.equal(await stopping(sql), 0)
    t.match(await progress(sql), { left: 2, moving: 0, blocked: 2, why, done: false })
    t.match((await progress(sql)).why, /assignment \d+ and 1 more: /)
    t.same(await events(sql, 'drain_failed'), [])
  })
}

story(
  'the last free places are given once: with room for two of four, two go and two stay',
  async (t, sql) => {
    const { hosts } = await loaded(sql, 4)
    await sql`update mooring.node set max_assignments = 2 where name = 'host-b'`
    await sql`select from mooring.drain_node('host-a')`
    await claim(sql)
    t.equal(await stopping(sql), 2)
    for (let round = 0; round < 3; round++) await obey(sql, hosts)
    t.same(await loads(sql), { 'host-a': 2, 'host-b': 2 })
    t.match(await progress(sql), { left: 2, moving: 0, blocked: 2, why: /max_assignments/ })
    await sql`update mooring.node set max_assignments = null where name = 'host-b'`
    for (let round = 0; round < 3; round++) await obey(sql, hosts)
    t.match(await progress(sql), { done: true })
  },
)

story(
  'after the deadline everything left is stopped at once, whether it has somewhere to go or not',
  async (t, sql) => {
    const { hosts, ids } = await loaded(sql, 4)
    await sql`update mooring.deployment set pinned_node = 'host-a' where id = ${ids[0]!}`
    await sql`select from mooring.drain_node('host-a', max_moves => 1, deadline => '1 hour')`
    await claim(sql)
    t.equal(await stopping(sql), 1)
    await sql`
      update mooring.node set drain_deadline_at = now() - interval '1 second' where name = 'host-a'`
    await claim(sql)
    t.equal(await stopping(sql), 4)
    await obey(sql, hosts)
    t.match(await progress(sql), { left: 0, done: true })
    t.match(
      await sql`select reason from mooring.unplaced`,
      [{ reason: /draining/ }],
      'the pinned one waits for its node',
    )
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 3 })
  },
)

story('daemons are not waited for: they end with the agent', async (t, sql) => {
  const { hosts } = await loaded(sql, 1)
  const daemon = await deployment(sql, { type: 'daemon' })
  await sql`select from mooring.drain_node('host-a')`
  for (let round = 0; round < 3; round++) await obey(sql, hosts)
  t.match(await progress(sql), { total: 1, left: 0, done: true })
  t.match(await assignments(sql, daemon), [
    { node: 'host-a', wanted: 'run' },
    { node: 'host-b', wanted: 'run' },
  ])
})

story('a node that dies in the middle of its drain is drained by its lease', async (t, sql) => {
  const { hosts } = await loaded(sql, 3)
  await sql`select from mooring.drain_node('host-a', max_moves => 1)`
  await claim(sql)
  await age(sql, 'host-a', '14 seconds ago')
  await claim(sql)
  t.equal(await stopping(sql), 1, 'no agent is there to obey')
  t.match(await progress(sql), { left: 3, blocked: 0, why: /silent/ })
  await age(sql, 'host-a', '16 seconds ago')
  await sql`select from mooring.reap()`
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 0, 'host-b': 3 })
  t.match(await progress(sql), { left: 0, done: true, why: null })
  await sql`select from mooring.register_node('host-a', ${hosts[0]!.session}, '.')`
  await beat(sql, hosts[0]!)
  await deployments(sql, 1)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 0, 'host-b': 4 }, 'it comes back and is still closed')
})

story('a target that dies in the middle costs the work nothing but the detour', async (t, sql) => {
  const { hosts } = await loaded(sql, 1)
  hosts.push(await node(sql, { name: 'host-c' }))
  await sql`select from mooring.drain_node('host-a', 'host-b')`
  await claim(sql)
  await age(sql, 'host-b', '1 minute ago')
  await obey(sql, hosts)
  t.match(await assignments(sql), [{ node: 'host-c', epoch: '3' }])
  t.match(await events(sql, 'move_dropped'), [{ reason: /host-b: the node is not live/ }])
  t.match(await progress(sql), { done: true })
})

story('nothing further is stopped while what was stopped has nowhere to go', async (t, sql) => {
  const { hosts, ids } = await loaded(sql, 3)
  await sql`select from mooring.drain_node('host-a', max_moves => 1)`
  await claim(sql)
  await sql`update mooring.deployment set selector = '{"zone": "nowhere"}' where id = ${ids[0]!}`
  for (let round = 0; round < 3; round++) await obey(sql, hosts)
  t.match(await progress(sql), { left: 2, moving: 1, blocked: 0 })
  t.equal(await stopping(sql), 0)
  await sql`update mooring.deployment set selector = '{}' where id = ${ids[0]!}`
  for (let round = 0; round < 6; round++) await obey(sql, hosts)
  t.match(await progress(sql), { left: 0, moving: 0, done: true })
})

story('undrain opens the node again, and forgets what has not begun to stop', async (t, sql) => {
  const { hosts } = await loaded(sql, 4)
  await sql`select from mooring.drain_node('host-a', 'host-b', 1, '1 hour')`
  await claim(sql)
  t.match(await sql`select * from mooring.undrain_node('host-a')`, [
    {
      draining_since: null,
      drain_to: null,
      drain_max_moves: null,
      drain_deadline_at: null,
      drain_total: null,
    },
  ])
  t.same([...(await sql`select * from mooring.drain_progress`)], [])
  for (let round = 0; round < 3; round++) await obey(sql, hosts)
  t.same(await loads(sql), { 'host-a': 3, 'host-b': 1 }, 'the one that had begun went on')
  await deployments(sql, 2)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 3, 'host-b': 3 })
  t.match(await events(sql, 'drain_ended'), [{ node: 'host-a' }])
  await sql`select from mooring.undrain_node('host-a')`
  t.equal((await events(sql, 'drain_ended')).length, 1, 'a second time is nothing')
})

story('a drain by hand is a drain, and so is its end', async (t, sql) => {
  const { hosts } = await loaded(sql, 2)
  await sql`update mooring.node set draining_since = now() where name = 'host-a'`
  for (let round = 0; round < 3; round++) await obey(sql, hosts)
  t.match(await progress(sql), { total: 0, left: 0, done: true, eta: null })
  await sql`update mooring.node set draining_since = null where name = 'host-a'`
  t.match(await sql`select drained_at from mooring.node where name = 'host-a'`, [
    { drained_at: null },
  ])
})

story('two nodes drained at once do not drain to each other', async (t, sql) => {
  const { hosts } = await loaded(sql, 2)
  await deployments(sql, 2)
  await claim(sql)
  hosts.push(await node(sql, { name: 'host-c' }))
  await sql`select from mooring.drain_node('host-a')`
  await sql`select from mooring.drain_node('host-b')`
  for (let round = 0; round < 4; round++) await obey(sql, hosts)
  t.same(await loads(sql), { 'host-a': 0, 'host-b': 0, 'host-c': 4 })
})

story('replicas that are moved away stay apart', async (t, sql) => {
  const hosts = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  const id = await deployment(sql, { replicas: 2 })
  await claim(sql)
  hosts.push(await node(sql, { name: 'host-c' }))
  await sql`
    insert into mooring.deployment (package_name, pinned_node)
    select 'http-server', 'host-c'
      from generate_series(1, 5)`
  await claim(sql)
  await sql`select from mooring.drain_node('host-a')`
  for (let round = 0; round < 3; round++) await obey(sql, hosts)
  t.same(
    (await assignments(sql, id)).map(({ node }) => node).sort(),
    ['host-b', 'host-c'],
    'not to the cheapest node, where its twin is',
  )
})

story('what cannot be drained is refused with the way out', async (t, sql) => {
  await loaded(sql, 1)
  await node(sql, { name: 'host-c', enabled: false })
  const drain =
    (...args: (string | number | null)[]) =>
    (sql: TransactionSql) =>
      sql`
        select *
          from mooring.drain_node(
            ${args[0]!}, ${args[1] ?? null}, ${args[2] ?? null}, ${args[3] ?? null}
          )`
  await refused(t, sql, drain('hsot-a'), { code: 'MR003', hint: /host-a/ })
  await refused(t, sql, drain('host-a', 'hsot-b'), { code: 'MR003', hint: /host-b/ })
  await refused(t, sql, drain('host-a', 'host-a'), { code: 'MR007', message: /itself/ })
  await refused(t, sql, drain('host-a', 'host-c'), { code: 'MR006', message: /disabled/ })
  await refused(t, sql, drain('host-a', null, 0), { code: 'MR007', message: /max_moves is 0/ })
  await refused(t, sql, drain('host-a', null, null, '-1 s'), { code: 'MR007', message: /deadline/ })
  await refused(t, sql, (sql) => sql`select from mooring.undrain_node('x')`, { code: 'MR003' })
})

story('nothing is moved in a hold', async (t, sql) => {
  await loaded(sql, 2)
  await sql`select from mooring.drain_node('host-a')`
  await sql`
    update mooring_internal.pulse set hold_until = now() + interval '10 s', hold_reason = 'a test'`
  await claim(sql)
  t.equal(await stopping(sql), 0)
  t.match(await progress(sql), { why: 'hold after an outage: a test' })
})

story('a policy that fails stops its own drain with an event, and no claim', async (t, sql) => {
  await loaded(sql, 1)
  await sql`
    create function public.broken(node mooring.node_state, k int) returns float8
      language sql
      as 'select 1.0 / 0'`
  await sql`
    insert into mooring.policy (name, kind, cost_function, description)
    values ('broken', 'load', 'public.broken', 'it fails')`
  await sql`update mooring.deployment set policy = 'broken'`
  await sql`select from mooring.drain_node('host-a')`
  await deployments(sql, 1)
  t.equal((await claim(sql)).length, 1)
  t.match(await events(sql, 'drain_failed'), [{ node: 'host-a', reason: /division by zero/ }])
  t.equal(await stopping(sql), 0)
})

story(
  'a stuck drain looks again when a node is edited and twice a round, not for every insert',
  async (t, sql) => {
    await loaded(sql, 1)
    await sql`update mooring.heartbeat set leaving = true where node = 'host-b'`
    await sql`select from mooring.drain_node('host-a')`
    await claim(sql)
    await sql`update mooring.heartbeat set leaving = false where node = 'host-b'`
    await sql`update mooring_internal.round set done_at = clock_timestamp() where name = 'place'`
    await deployments(sql, 1)
    await claim(sql)
    t.equal(await stopping(sql), 0)
    await sql`
      update mooring_internal.round
         set done_at = clock_timestamp() - mooring_internal.round_interval('place')
       where name = 'place'`
    await claim(sql)
    t.equal(await stopping(sql), 1)
  },
)
