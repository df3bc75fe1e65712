/**
 * Policies of kind affinity: each assignment has a cost of its own on each node. The built-in one
 * is hash, weighted rendezvous hashing.
 */
import t, { type Test } from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const useHash = (sql: TransactionSql) => sql`update mooring.setting set default_policy = 'hash'`

/** Everything is placed again, by the nodes there are now. */
async function placeAnew(sql: TransactionSql): Promise<Map<string, string>> {
  await sql`
    update mooring.assignment
       set node_id = null,
           epoch = epoch + 1,
           owner_reason = 'placed anew',
           lease_ttl = null,
           assigned_at = null,
           waiting_since = now()
     where node_id is not null`
  await sql`delete from mooring_internal.node_load`
  await claim(sql)
  return new Map((await assignments(sql)).map(({ id, node }) => [id, node ?? 'nowhere']))
}

function movedBetween(
  before: Map<string, string>,
  after: Map<string, string>,
): { from: string; to: string }[] {
  return [...before].flatMap(([id, from]) =>
    after.get(id) === from ? [] : [{ from, to: after.get(id) ?? 'gone' }],
  )
}

const share = (part: number, whole: number) => Math.round((1000 * part) / whole) / 10

story('hash: the shares follow the weights', async (t, sql) => {
  await useHash(sql)
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b', weight: 300 })
  await node(sql, { name: 'host-c', weight: 100 })
  await deployments(sql, 3000)
  await claim(sql)
  const got = await loads(sql)
  t.comment(`of 3000: ${JSON.stringify(got)}, expected 600, 1800, 600`)
  // five standard deviations of a binomial distribution
  t.ok(
    Math.abs(got['host-a']! - 600) < 110 &&
      Math.abs(got['host-b']! - 1800) < 135 &&
      Math.abs(got['host-c']! - 600) < 110,
  )
})

story(
  'D7-9 hash: a new node gets its share and moves nothing else; when it goes, all is as before',
  async (t, sql) => {
    await useHash(sql)
    for (let nr = 1; nr <= 9; nr++) await node(sql, { name: `host-${nr}` })
    await deployments(sql, 2000)
    const nine = await placeAnew(sql)
    await node(sql, { name: 'host-x' })
    const ten = await placeAnew(sql)
    const moved = movedBetween(nine, ten)
    t.comment(`a tenth node: ${share(moved.length, 2000)} % moved, 10 % is its share`)
    t.same(
      moved.filter(({ to }) => to !== 'host-x'),
      [],
      'only to the new node',
    )
    t.ok(Math.abs(moved.length - 200) < 70)
    await sql`update mooring.node set enabled = false where name = 'host-x'`
    t.same(movedBetween(nine, await placeAnew(sql)), [])
  },
)

story('hash: a node that goes gives up its own work and no other', async (t, sql) => {
  await useHash(sql)
  for (let nr = 1; nr <= 5; nr++) await node(sql, { name: `host-${nr}` })
  await deployments(sql, 1000)
  const five = await placeAnew(sql)
  await sql`update mooring.node set enabled = false where name = 'host-3'`
  const moved = movedBetween(five, await placeAnew(sql))
  t.comment(`one of five nodes gone: ${share(moved.length, 1000)} % moved`)
  t.equal(moved.length, [...five.values()].filter((name) => name === 'host-3').length)
  t.ok(moved.every(({ from }) => from === 'host-3'))
  t.ok(new Set(moved.map(({ to }) => to)).size === 4, 'spread over all others')
})

story(
  'negative control: by the number of nodes instead of rendezvous, nearly everything moves',
  async (t, sql) => {
    await sql`
      create function public.modulo(
        node mooring.node_state, assignment mooring.assignment
      ) returns float8
        language sql
        return case when (node).id = (
          select n.id
            from mooring.node n
           where n.enabled
           order by n.id
           offset (assignment).id % (select count(*) from mooring.node n where n.enabled)
           limit 1
        ) then 0 else 1 end`
    await sql`
      insert into mooring.policy (name, kind, cost_function, description)
      values ('modulo', 'affinity', 'public.modulo', 'id modulo number of nodes')`
    await sql`update mooring.setting set default_policy = 'modulo'`
    for (let nr = 1; nr <= 5; nr++) await node(sql, { name: `host-${nr}` })
    await deployments(sql, 200)
    const five = await placeAnew(sql)
    await sql`update mooring.node set enabled = false where name = 'host-3'`
    const moved = movedBetween(five, await placeAnew(sql))
    t.comment(`modulo: ${share(moved.length, 200)} % moved`)
    t.ok(moved.length > 100)
  },
)

interface Named {
  name: string
  max_assignments: number | null
  cost: (row: number) => number | null
}

/** A policy whose costs are a table, so that a model can be compared with it. */
async function byTable(
  sql: TransactionSql,
  t: Test,
  hosts: Named[],
  rows: number,
): Promise<(string | null)[]> {
  await sql`create table public.cost (host text, nr bigint, cost float8, primary key (host, nr))`
  await sql`
    create function public.by_table(
      node mooring.node_state, assignment mooring.assignment
    ) returns float8
      language sql stable
      return (
        select c.cost
          from public.cost c
         where c.host = (node).name and c.nr = (assignment).deployment_id
      )`
  await sql`
    insert into mooring.policy (name, kind, cost_function, description)
    values ('by_table', 'affinity', 'public.by_table', 'as the table says')`
  await sql`update mooring.setting set default_policy = 'by_table'`
  for (const { name, max_assignments } of hosts) await node(sql, { name, max_assignments })
  const ids = await deployments(sql, rows)
  const costs = hosts.flatMap(({ name, cost }) =>
    ids.map((nr, row) => ({ host: name, nr, cost: cost(row) })),
  )
  await sql`insert into public.cost ${sql(costs)}`
  await claim(sql)
  t.same(await claim(sql), [], 'nothing was left that had room')
  return (await assignments(sql)).map(({ node }) => node)
}

story(
  'where room is short the queue decides: each row in turn gets the cheapest node with room',
  async (t, sql) => {
    const rows = 40
    let seed = 11
    const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n
    const costs = Array.from({ length: 6 }, () => Array.from({ length: rows }, () => random(1000)))
    const hosts = costs.map((cost, nr) => ({
      name: `host-${nr}`,
      max_assignments: [3, 5, 8, 4, 7, 6][nr]!,
      cost: (row: number) => cost[row]! + nr / 10,
    }))
    const room = new Map(hosts.map(({ name, max_assignments }) => [name, max_assignments]))
    const model = Array.from({ length: rows }, (_, row) => {
      const [best] = hosts
        .filter(({ name }) => room.get(name)! > 0)
        .sort((a, b) => a.cost(row) - b.cost(row))
      if (best) room.set(best.name, room.get(best.name)! - 1)
      return best?.name ?? null
    })
    t.same(await byTable(sql, t, hosts, rows), model)
    t.equal(model.filter((name) => name === null).length, 7, '33 places for 40')
  },
)

story(
  'the cheapest node of all rows is filled by the head of the queue, and the others go on',
  async (t, sql) => {
    const hosts = [
      { name: 'host-a', max_assignments: 2, cost: () => 1 },
      { name: 'host-b', max_assignments: 3, cost: () => 2 },
      { name: 'host-c', max_assignments: null, cost: () => 3 },
    ]
    t.same(await byTable(sql, t, hosts, 7), [
      'host-a',
      'host-a',
      'host-b',
      'host-b',
      'host-b',
      'host-c',
      'host-c',
    ])
  },
)

story(
  'an unknown cost sorts last, and where none is known the count of assignments decides',
  async (t, sql) => {
    const hosts = [
      { name: 'host-a', max_assignments: null, cost: () => null },
      { name: 'host-b', max_assignments: 1, cost: () => 1000 },
    ]
    t.same(await byTable(sql, t, hosts, 3), ['host-b', 'host-a', 'host-a'])
    await sql`update mooring.node set max_assignments = null`
    await sql`update public.cost set cost = null`
    t.same([...(await placeAnew(sql)).values()], ['host-a', 'host-b', 'host-a'])
  },
)

story('windows of a claim do not change where an affinity sends a row', async (t, sql) => {
  await useHash(sql)
  for (const name of ['host-a', 'host-b', 'host-c']) await node(sql, { name, max_assignments: 12 })
  await deployments(sql, 40)
  const whole = await placeAnew(sql)
  await sql`update mooring.setting set claim_window = 7`
  t.same(movedBetween(whole, await placeAnew(sql)), [])
  t.same(await loads(sql), { 'host-a': 12, 'host-b': 12, 'host-c': 12 })
})

story('replicas are kept apart by an affinity too', async (t, sql) => {
  await useHash(sql)
  for (const name of ['host-a', 'host-b', 'host-c']) await node(sql, { name })
  for (let nr = 0; nr < 10; nr++) await deployment(sql, { replicas: 3 })
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 10, 'host-b': 10, 'host-c': 10 })
})

story(
  'explain shows the cost of the very assignment that waits, and claim takes the node it names',
  async (t, sql) => {
    for (const name of ['host-a', 'host-b', 'host-c']) await node(sql, { name })
    const id = await deployment(sql, { policy: 'hash' })
    const rows = await sql<
      { node: string; verdict: string; cost: number }[]
    >`select node, verdict, cost from mooring.explain(${id})`
    t.match(
      rows.map(({ verdict }) => verdict),
      ['next: cheapest by hash', 'could run here', 'could run here'],
    )
    t.ok(rows[0]!.cost < rows[1]!.cost && rows[1]!.cost < rows[2]!.cost)
    await claim(sql)
    t.match(await events(sql, 'claimed'), [{ node: rows[0]!.node, reason: 'cheapest by hash' }])
  },
)

story('an affinity policy that fails is an event, and other work is placed', async (t, sql) => {
  await node(sql)
  await sql`
    create function public.broken(
      node mooring.node_state, assignment mooring.assignment
    ) returns float8
      language sql
      return 1 / ((assignment).id - (assignment).id)`
  await sql`
    insert into mooring.policy (name, kind, cost_function, description)
    values ('broken', 'affinity', 'public.broken', 'fails')`
  await deployment(sql, { policy: 'broken' })
  await deployment(sql)
  t.equal((await claim(sql)).length, 1)
  t.match(await events(sql, 'claim_failed'), [{ reason: 'policy broken failed: division by zero' }])
})

story('a drain sends work where its affinity says', async (t, sql) => {
  await useHash(sql)
  for (const name of ['host-a', 'host-b', 'host-c']) await node(sql, { name })
  await deployments(sql, 30)
  await sql`update mooring.node set enabled = false where name = 'host-a'`
  const without = await placeAnew(sql)
  await sql`update mooring.node set enabled = true where name = 'host-a'`
  await placeAnew(sql)
  await sql`select from mooring.drain_node('host-a', max_moves => 100)`
  await claim(sql)
  t.same(await events(sql, 'drain_failed'), [])
  const promised = await sql<{ id: string; to: string }[]>`
    select a.id, n.name as to
      from mooring.assignment a
      join mooring.node n on n.id = a.move_to
     order by a.id`
  t.equal(promised.length, (await loads(sql))['host-a'])
  t.same(
    promised.filter(({ id, to }) => without.get(id) !== to),
    [],
    'the very nodes it is placed on without host-a',
  )
})
