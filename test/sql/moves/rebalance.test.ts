import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, events, loads, obeyOrders, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

interface Move {
  assignment_id: string
  from_node: string
  to_node: string
  gain: number
}
const plan = async (sql: TransactionSql, maxMoves = 10) => [
  ...(await sql<Move[]>`select * from mooring.rebalance(${maxMoves}::int)`),
]
const apply = async (sql: TransactionSql, maxMoves = 10) => [
  ...(await sql<Move[]>`select * from mooring.rebalance(${maxMoves}::int, dry_run => false)`),
]
const settled = (sql: TransactionSql) =>
  sql`
    update mooring.assignment
       set assigned_at = assigned_at - interval '11 min'
     where node_id is not null`

/** All agents carry out their orders, until nothing is on its way. */
async function obey(sql: TransactionSql): Promise<void> {
  const hosts = await sql<
    { name: string; session: string }[]
  >`select node as name, session from mooring.heartbeat where session is not null`
  for (let step = 0; step < 3; step++) {
    await obeyOrders(sql, hosts)
    await claim(sql)
  }
}

/** n assignments on host-a, and host-b that came later. */
async function crooked(sql: TransactionSql, n = 9): Promise<void> {
  await node(sql, { name: 'host-a' })
  await deployments(sql, n)
  await claim(sql)
  await settled(sql)
  await node(sql, { name: 'host-b' })
}

story('a dry run shows each move and its gain, and moves nothing', async (t, sql) => {
  await crooked(sql)
  const moves = await plan(sql)
  t.match(moves, [
    { from_node: 'host-a', to_node: 'host-b', gain: 8 },
    { gain: 6 },
    { gain: 4 },
    { gain: 2 },
  ])
  t.equal(moves.length, 4)
  t.same(await loads(sql), { 'host-a': 9, 'host-b': 0 })
  t.same(await events(sql, 'move_wanted'), [])
  await sql`set transaction read only`
  t.same(await plan(sql), moves, 'also where nothing can be written')
})

story(
  'a new policy or weight moves nothing; rebalance does, and then nothing is left to do',
  async (t, sql) => {
    await crooked(sql)
    await sql`update mooring.node set weight = 200 where name = 'host-b'`
    await claim(sql)
    await sql`update mooring.setting set default_policy = 'deployment_count'`
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 9, 'host-b': 0 })
    const moves = await apply(sql)
    t.equal(moves.length, 6)
    t.match((await events(sql, 'move_wanted'))[0], {
      node: 'host-a',
      reason: 'rebalanced',
      detail: { to: 'host-b' },
    })
    t.match(await events(sql, 'rebalance_started'), [{ detail: { moves: 6, max_moves: 10 } }])
    t.same(
      await apply(sql),
      [],
      'asked again while they stop: what is about to leave and to come is counted',
    )
    await obey(sql)
    t.same(await loads(sql), { 'host-a': 3, 'host-b': 6 })
    await settled(sql)
    t.same(await plan(sql), [])
  },
)

story(
  'never more than max_moves on their way by it, however often it is called',
  async (t, sql) => {
    await crooked(sql, 20)
    t.equal((await apply(sql, 3)).length, 3)
    t.same(await apply(sql, 3), [])
    t.equal((await plan(sql, 5)).length, 2)
    t.same(await sql`select count(*)::int as n from mooring_internal.moves_under_way()`, [{ n: 3 }])
  },
)

story(
  'called again and again it comes to an end, and no assignment is moved twice',
  async (t, sql) => {
    await sql`update mooring.setting set rebalance_cooldown = '0'`
    for (const [name, weight] of [
      ['host-a', 100],
      ['host-b', 250],
    ] as const)
      await node(sql, { name, weight, labels: { ssd: true } })
    await deployments(sql, 17)
    await deployment(sql, { replicas: 5 })
    await deployment(sql, { replicas: 3, selector: { ssd: true } })
    await claim(sql)
    for (const [name, weight] of [
      ['host-c', 70],
      ['host-d', 310],
    ] as const)
      await node(sql, { name, weight })
    const moved: string[] = []
    let calls = 0
    for (let moves = await apply(sql, 2); moves.length > 0; moves = await apply(sql, 2), calls++) {
      t.ok(moves.every(({ gain }) => gain > 0))
      moved.push(...moves.map(({ assignment_id }) => assignment_id))
      await obey(sql)
      if (calls > 30) break
    }
    t.ok(calls > 2 && calls <= 30, `${calls} calls`)
    t.equal(new Set(moved).size, moved.length)
    t.same(await plan(sql, 100), [])
  },
)

story('what claim has just spread is balanced, replicas and weights and all', async (t, sql) => {
  await sql`update mooring.setting set rebalance_cooldown = '0'`
  for (const weight of [100, 30, 250, 100]) await node(sql, { weight })
  await deployments(sql, 41)
  await claim(sql)
  t.same(await plan(sql), [])
})

story(
  'left alone: pins, daemons, work on its way or placed lately, policies that compare no loads',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await deployment(sql, { pinned_node: 'host-a', replicas: 4 })
    await deployment(sql, { type: 'daemon' })
    await deployment(sql, { policy: 'hash', replicas: 4 })
    const [moving, late] = [await deployment(sql), await deployment(sql)]
    await claim(sql)
    await settled(sql)
    await node(sql, { name: 'host-b' })
    await node(sql, { name: 'host-c' })
    await sql`
      select
        from mooring.reassign(
          (select id from mooring.assignment where deployment_id = ${moving}), 'host-b'
        )`
    await sql`
      update mooring.assignment
         set assigned_at = clock_timestamp() - interval '9 min'
       where deployment_id = ${late}`
    t.same(await plan(sql), [])
    await sql`
      update mooring.assignment
         set assigned_at = clock_timestamp() - interval '11 min'
       where deployment_id = ${late}`
    t.match(await plan(sql), [{ from_node: 'host-a', to_node: 'host-c' }], 'the cooldown over')
  },
)

story(
  'no node gets what it may not run, what exceeds its limit, or the twin of what it has',
  async (t, sql) => {
    await crooked(sql)
    await sql`update mooring.node set max_assignments = 2 where name = 'host-b'`
    t.equal((await plan(sql)).length, 2)
    await sql`update mooring.node set max_assignments = null, enabled = false where name = 'host-b'`
    t.same(await plan(sql), [])
    await sql`update mooring.node set enabled = true, trusts = '^x$' where name = 'host-b'`
    t.same(await plan(sql), [])
    await sql`update mooring.node set trusts = '.' where name = 'host-b'`
    await age(sql, 'host-a', '1 minute ago')
    t.same(await plan(sql), [], 'a silent node is left to reap')
    await sql`delete from mooring.deployment where id <> (select min(id) from mooring.deployment)`
  },
)

story('a replica does not go to its twin', async (t, sql) => {
  await sql`update mooring.setting set rebalance_cooldown = '0'`
  await node(sql, { name: 'host-a' })
  await deployment(sql, { replicas: 6 })
  await claim(sql)
  await node(sql, { name: 'host-b' })
  t.equal((await plan(sql)).length, 1)
})

/** Two hosts with two services of two, twins on host-a after host-b was lost; then it is back. */
async function afterFailover(sql: TransactionSql): Promise<string[]> {
  await node(sql, { name: 'host-a' })
  const ids = [await deployment(sql, { replicas: 2 }), await deployment(sql, { replicas: 2 })]
  await claim(sql)
  await node(sql, { name: 'host-b' })
  return ids
}

/** How many replicas share a node that could be elsewhere, judged without the planner. */
const partable = async (sql: TransactionSql) =>
  (
    await sql<{ n: number }[]>`
      select count(*)::int as n
        from (
          select a.deployment_id, a.node_id
            from mooring.assignment a
           where a.node_id is not null
           group by 1, 2
          having count(*) > 1) c
       where exists (
         select
           from mooring_internal.eligibility(array[c.deployment_id]) e
          where e.eligible
            and not exists (
              select
                from mooring.assignment b
               where b.deployment_id = c.deployment_id
                 and (b.node_id = e.node_id or b.move_to = e.node_id)))`
  )[0]!.n

story('twins are parted at even loads and at once, one of each service', async (t, sql) => {
  await afterFailover(sql)
  // as many others on host-b: no move would even out anything
  await deployments(sql, 4)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 4, 'host-b': 4 })
  const moves = await apply(sql)
  t.match(moves, [
    { from_node: 'host-a', to_node: 'host-b', gain: 1 },
    { from_node: 'host-a', to_node: 'host-b', gain: 1 },
  ])
  t.same(await apply(sql), [], 'a place that is promised counts as taken')
  await obey(sql)
  t.same(await partable(sql), 0)
  t.same(await plan(sql), [])
})

story(
  'parting needs a node that may run it and has room, under a policy of kind load',
  async (t, sql) => {
    await afterFailover(sql)
    await settled(sql)
    await sql`update mooring.node set max_assignments = 1 where name = 'host-b'`
    t.equal((await plan(sql)).length, 1, 'room for one')
    await sql`update mooring.node set max_assignments = 0 where name = 'host-b'`
    t.same(await plan(sql), [])
    await sql`update mooring.node set max_assignments = null, enabled = false where name = 'host-b'`
    t.same(await plan(sql), [])
    await sql`update mooring.node set enabled = true where name = 'host-b'`
    t.equal((await plan(sql)).length, 2)
    await sql`update mooring.deployment set policy = 'hash'`
    t.same(await plan(sql), [], 'where affinity has put them they stay')
  },
)

story('where all is even a parting and a move back are a swap', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql, { replicas: 2 })
  await claim(sql)
  await node(sql, { name: 'host-b' })
  await sql`update mooring.node set enabled = false where name = 'host-a'`
  await deployments(sql, 2)
  await claim(sql)
  await sql`update mooring.node set enabled = true`
  await settled(sql)
  t.same(await loads(sql), { 'host-a': 2, 'host-b': 2 })
  t.match(await plan(sql), [
    { from_node: 'host-a', to_node: 'host-b' },
    { from_node: 'host-b', to_node: 'host-a' },
  ])
})

for (const seed of [1, 2, 3, 4, 5, 6])
  story(`random fleets end without twins that could be parted (${seed})`, async (t, sql) => {
    let state = seed
    const below = (n: number) => {
      state = (state * 1103515245 + 12345) % 2147483648
      return Math.floor((state / 2147483648) * n)
    }
    const host = async () => {
      await node(sql, {
        weight: 50 + 50 * below(4),
        max_assignments: below(3) === 0 ? 3 + below(8) : null,
        labels: { ssd: below(2) === 0 },
      })
    }
    await sql`update mooring.setting set rebalance_cooldown = '0'`
    await node(sql, { labels: { ssd: true } })
    if (below(2) === 0) await host()
    for (let n = 3 + below(5); n > 0; n--)
      await deployment(sql, {
        replicas: 1 + below(4),
        ...(below(4) === 0 && { selector: { ssd: true } }),
      })
    await claim(sql)
    for (let n = 1 + below(4); n > 0; n--) await host()
    const before = await loads(sql)
    const total = (of: Record<string, number>) => Object.values(of).reduce((a, b) => a + b, 0)
    let calls = 0
    while ((await apply(sql, 1 + below(4))).length > 0 && calls++ < 60) await obey(sql)
    t.ok(calls <= 60, `${calls} calls`)
    t.equal(await partable(sql), 0)
    t.equal(total(await loads(sql)), total(before), 'nothing is lost')
    t.same(await plan(sql), [])
  })

story('a move that was begun by it and cannot end there goes wherever it may', async (t, sql) => {
  await crooked(sql)
  await apply(sql, 1)
  await sql`update mooring.node set enabled = false where name = 'host-b'`
  await obey(sql)
  t.same(await loads(sql), { 'host-a': 9, 'host-b': 0 })
  t.match(await events(sql, 'move_dropped'), [{ reason: /disabled/ }])
})

story('bad input and a hold are said', async (t, sql) => {
  await crooked(sql)
  await refused(t, sql, (sql) => plan(sql, 0), { code: 'MR007', message: /max_moves is 0/ })
  await refused(t, sql, (sql) => sql`select * from mooring.rebalance(null)`, {
    code: 'MR007',
    message: /null/,
  })
  await sql`
    update mooring_internal.pulse set hold_until = now() + interval '10 s', hold_reason = 'a test'`
  t.equal((await plan(sql)).length, 4, 'a look is free')
  await refused(t, sql, (sql) => apply(sql), { code: 'MR006', message: /hold: a test/ })
})
