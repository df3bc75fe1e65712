/**
 * Work returns to the node it ran on, where that is cheap: setting.sticky_slack says how much it
 * may cost.
 */
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import {
  assignments,
  beat,
  deployment,
  deployments,
  node,
  type TestNode,
} from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const slack = (sql: TransactionSql, points: number) =>
  sql`update mooring.setting set sticky_slack = ${points}`
const wheres = async (sql: TransactionSql, of?: string) =>
  (await assignments(sql, of)).map(({ node }) => node)

/** The agent stops and gives its work back; then it is there again. */
async function shortAbsence(
  sql: TransactionSql,
  { name, session }: TestNode,
  meanwhile: () => Promise<unknown> = async () => {},
): Promise<void> {
  await leave(sql, { name, session })
  await meanwhile()
  await comeBack(sql, { name, session })
}
const leave = (sql: TransactionSql, { name, session }: Pick<TestNode, 'name' | 'session'>) =>
  sql`select from mooring.leave(${name}, ${session})`
const comeBack = (sql: TransactionSql, { name, session }: Pick<TestNode, 'name' | 'session'>) =>
  sql`select from mooring.register_node(${name}, ${session}, '.', '{npm,exec}')`

story(
  'D7-9: after a short absence of its node work returns to it, in any order of ids',
  async (t, sql) => {
    const hosts = [
      await node(sql, { name: 'host-a' }),
      await node(sql, { name: 'host-b' }),
      await node(sql, { name: 'host-c' }),
    ]
    await deployments(sql, 21)
    await claim(sql)
    const before = await wheres(sql)
    // another order of the queue
    await sql`update mooring.assignment set updated_at = updated_at - id * interval '1 s'`
    for (const host of hosts) await leave(sql, host)
    for (const host of hosts.reverse()) await comeBack(sql, host)
    t.equal((await claim(sql)).length, 21)
    t.same(await wheres(sql), before)
    t.same(
      (await events(sql, 'claimed')).slice(21).map(({ reason }) => reason),
      Array(21).fill('back on its last node, cheapest by deployment_count or near it'),
    )
  },
)

story('negative control: without last nodes the order of the queue shuffles it', async (t, sql) => {
  const hosts = [
    await node(sql, { name: 'host-a' }),
    await node(sql, { name: 'host-b' }),
    await node(sql, { name: 'host-c' }),
  ]
  await deployments(sql, 20)
  await claim(sql)
  const before = await wheres(sql)
  await sql`update mooring.assignment set updated_at = updated_at - id * interval '1 s'`
  for (const host of hosts) await shortAbsence(sql, host)
  await sql`update mooring.assignment set last_node_id = null`
  await claim(sql)
  t.notSame(await wheres(sql), before)
})

story(
  'the slack is in points of the policy: by default one more assignment is near enough',
  async (t, sql) => {
    const a = await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    const id = await deployment(sql, { pinned_node: 'host-a' })
    await claim(sql)
    await sql`update mooring.deployment set enabled = false where id = ${id}`
    const [row] = await assignments(sql, id)
    await sql`
      select
        from mooring.report(
          ${a.name}, ${a.session},
          ${sql.json([{ assignment_id: row!.id, epoch: row!.epoch, state: 'stopped' }])}
        )`
    await sql`update mooring.deployment set pinned_node = null where id = ${id}`
    const others = await sql<{ id: string }[]>`
      insert into mooring.deployment (package_name, pinned_node)
      select 'http-server', 'host-a'
        from generate_series(1, 2)
      returning id`
    await claim(sql)
    await sql`update mooring.deployment set enabled = true where id = ${id}`

    t.match(await sql`select node, verdict, cost from mooring.explain(${id})`, [
      { node: 'host-b', verdict: 'next: cheapest by deployment_count', cost: 1 },
      { node: 'host-a', cost: 3 },
    ])
    await sql
      .savepoint(async (sql) => {
        await claim(sql)
        t.same(await wheres(sql, id), ['host-b'], 'two more than on host-b')
        throw new Error('undo')
      })
      .catch(() => {})
    await sql`delete from mooring.deployment where id = ${others[1]!.id}`
    await sql
      .savepoint(async (sql) => {
        await slack(sql, 2)
        await claim(sql)
        t.same(await wheres(sql, id), ['host-a'], 'two are allowed')
        throw new Error('undo')
      })
      .catch(() => {})
    await slack(sql, 0)
    await claim(sql)
    t.same(await wheres(sql, id), ['host-b'], 'none is allowed')
  },
)

story('explain names the last node as the next one, and claim agrees', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const b = await node(sql, { name: 'host-b' })
  const [, second] = await deployments(sql, 2)
  await claim(sql)
  t.same(await wheres(sql, second), ['host-b'])
  await sql`update mooring.deployment set enabled = false where id = ${second!}`
  const [row] = await assignments(sql, second)
  await sql`
    select
      from mooring.report(
        ${b.name}, ${b.session},
        ${sql.json([{ assignment_id: row!.id, epoch: row!.epoch, state: 'stopped' }])}
      )`
  await deployment(sql, { pinned_node: 'host-b' })
  await claim(sql)
  await sql`update mooring.deployment set enabled = true where id = ${second!}`
  t.match(await sql`select node, verdict from mooring.explain(${second!})`, [
    {
      node: 'host-b',
      verdict: 'next: back on its last node, cheapest by deployment_count or near it',
    },
    { node: 'host-a', verdict: 'could run here' },
  ])
  await claim(sql)
  t.same(await wheres(sql, second), ['host-b'])
})

story('work that went elsewhere meanwhile stays there when the node returns', async (t, sql) => {
  const a = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await deployments(sql, 10)
  await claim(sql)
  await shortAbsence(sql, a, () => claim(sql))
  t.same(await claim(sql), [])
  t.same(await loads(sql), { 'host-a': 0, 'host-b': 10 })
})

story(
  'a last node that is full, gone, disabled or no longer trusted is not chosen',
  async (t, sql) => {
    const a = await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    await slack(sql, 1000)
    await sql`
      insert into mooring.deployment (package_name, pinned_node)
      select 'http-server', 'host-a'
        from generate_series(1, 4)`
    await claim(sql)
    await leave(sql, a)
    await sql`update mooring.deployment set pinned_node = null`
    await sql
      .savepoint(async (sql) => {
        await claim(sql)
        t.same(await loads(sql), { 'host-a': 0, 'host-b': 4 }, 'gone')
        throw new Error('undo')
      })
      .catch(() => {})
    await comeBack(sql, a)
    await sql
      .savepoint(async (sql) => {
        await sql`update mooring.node set enabled = false where name = 'host-a'`
        await claim(sql)
        t.same(await loads(sql), { 'host-a': 0, 'host-b': 4 }, 'disabled')
        throw new Error('undo')
      })
      .catch(() => {})
    await sql`update mooring.node set max_assignments = 1 where name = 'host-a'`
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 1, 'host-b': 3 }, 'full after one')
  },
)

story(
  'where room is short, a return to the last node does not go before the queue',
  async (t, sql) => {
    const a = await node(sql, { name: 'host-a', max_assignments: 1 })
    const id = await deployment(sql)
    await claim(sql)
    await leave(sql, a)
    const first = await deployment(sql, { created_at: '2020-01-01', updated_at: '2020-01-01' })
    await sql`
      update mooring.assignment set updated_at = '2020-01-01' where deployment_id = ${first}`
    await comeBack(sql, a)
    await claim(sql)
    t.same([await wheres(sql, first), await wheres(sql, id)], [['host-a'], [null]])
  },
)

story(
  'replicas return each to its last node, and two that had to share do not share again',
  async (t, sql) => {
    const a = await node(sql, { name: 'host-a' })
    await slack(sql, 1000)
    const id = await deployment(sql, { replicas: 3 })
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 3 })
    await node(sql, { name: 'host-b' })
    await node(sql, { name: 'host-c' })
    await shortAbsence(sql, a)
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 1, 'host-b': 1, 'host-c': 1 })
    const before = await wheres(sql, id)
    const hosts = await sql<
      TestNode[]
    >`select node_id as id, node as name, session from mooring.heartbeat order by node desc`
    for (const host of hosts) await leave(sql, host)
    for (const host of hosts.reverse()) await comeBack(sql, host)
    await claim(sql)
    t.same(await wheres(sql, id), before)
  },
)

story('resource_usage: the slack is percent points', async (t, sql) => {
  const a = await node(sql, { name: 'host-a' })
  const b = await node(sql, { name: 'host-b' })
  await sql`update mooring.setting set default_policy = 'resource_usage'`
  const id = await deployment(sql, { pinned_node: 'host-a' })
  await claim(sql)
  await shortAbsence(sql, a)
  await sql`update mooring.deployment set pinned_node = null`
  await beat(sql, a, { cpu_pct: 20, memory_mb: 0, running: 0 })
  await beat(sql, b, { cpu_pct: 4, memory_mb: 0, running: 0 })
  await slack(sql, 7.9)
  await sql
    .savepoint(async (sql) => {
      await claim(sql)
      t.same(await wheres(sql, id), ['host-b'], '11 against 3 is 8 points dearer')
      throw new Error('undo')
    })
    .catch(() => {})
  await slack(sql, 8)
  await claim(sql)
  t.same(await wheres(sql, id), ['host-a'])
})
