import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { age, deployments, node } from '../../helpers/factories.js'
import { claim, events, loads, patient, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story('folding keeps the sums, once there is something to fold', async (t, sql) => {
  const [a, b] = [await node(sql), await node(sql)]
  await sql`
    insert into mooring_internal.node_load (node_id, change)
    select case i % 2 when 0 then ${a.id}::int else ${b.id}::int end,
           case i % 5 when 0 then -1 else 1 end
      from generate_series(1, 1001) i`
  const sums = async () => [
    ...(await sql`
      select node_id, assigned from mooring_internal.assigned_per_node() order by node_id`),
  ]
  const rows = async () =>
    (await sql<{ n: number }[]>`select count(*)::int as n from mooring_internal.node_load`)[0]!.n
  const before = await sums()
  await sql`select mooring_internal.fold_node_load()`
  t.equal(await rows(), 1001, 'short enough')
  await sql`
    insert into mooring_internal.node_load (node_id, change)
    select 12345, change
      from generate_series(1, 10), unnest(array[1, -1]) change`
  await sql`select mooring_internal.fold_node_load()`
  t.equal(await rows(), 2, 'one for each node, none for a sum of zero')
  t.same(await sums(), before)
})

story('a claim folds what failovers left', async (t, sql) => {
  const hosts = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  await deployments(sql, 4)
  await claim(sql)
  await sql`
    insert into mooring_internal.node_load (node_id, change)
    select ${hosts[0]!.id}::int, c
      from generate_series(1, 600), unnest(array[1, -1]) c`
  await age(sql, 'host-b', '1 minute ago')
  await sql`select from mooring.reap()`
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 4, 'host-b': 0 })
  const [row] =
    await sql`select count(*) < 10 as folded, sum(change)::int as n from mooring_internal.node_load`
  t.same(row, { folded: true, n: 4 })
})

story(
  'also a claim that finds nothing to place folds: restarts alone write two rows each',
  async (t, sql) => {
    const host = await node(sql)
    await deployments(sql, 1)
    await claim(sql)
    await sql`
      insert into mooring_internal.node_load (node_id, change)
      select ${host.id}::int, c
        from generate_series(1, 600), unnest(array[1, -1]) c`
    t.same(await claim(sql), [])
    t.match(
      await sql`
        select count(*)::int as n, sum(change)::int as assigned from mooring_internal.node_load`,
      [{ n: 1, assigned: 1 }],
    )
  },
)

story('without the trigger loads would be wrong, and nodes overfilled', async (t, sql) => {
  await node(sql, { max_assignments: 2 })
  await sql`alter table mooring.assignment disable trigger tg_assignment__follow`
  await deployments(sql, 2)
  await claim(sql)
  await deployments(sql, 2)
  t.equal((await claim(sql)).length, 2, 'the limit is broken')
})

void t.test(
  'changes behind the triggers are recounted by the evict round, when no claim runs',
  async (t) => {
    const pg = await testDatabase(t)
    const { sql } = pg
    await patient(sql)
    const [a, b] = [
      await node(sql, { name: 'host-a', max_assignments: 3 }),
      await node(sql, { name: 'host-b' }),
    ]
    await deployments(sql, 4)
    await claim(sql)
    await t.rejects(sql`truncate mooring_internal.node_load`, { code: 'MR006', hint: /evict/ })
    await sql`delete from mooring_internal.node_load`
    await sql`
      insert into mooring_internal.node_load (node_id, change) values (${b.id}, 7), (999999, -1)`
    const psql = pg.client('psql')
    await psql`begin`
    await psql`select mooring_internal.lock_placement()`
    await sql`select from mooring.evict()`
    t.equal(
      (await sql`select from mooring_internal.inconsistent_loads()`).length,
      3,
      'a claim runs: next time',
    )
    await psql`rollback`
    await sql`select from mooring.evict()`
    t.same([...(await sql`select from mooring_internal.inconsistent_loads()`)], [])
    t.same(
      [
        ...(await sql`
          select node_id, assigned
            from mooring_internal.assigned_per_node()
           where assigned <> 0
           order by 1`),
      ],
      [
        { node_id: a.id, assigned: 2 },
        { node_id: b.id, assigned: 2 },
      ],
    )
    t.match(await events(sql, 'load_recounted'), [
      { node: 'host-a', detail: { from: 0, to: 2 } },
      { node: 'host-b', detail: { from: 7, to: 2 } },
      { node: null },
    ])
    await sql`select from mooring.evict()`
    t.equal((await events(sql, 'load_recounted')).length, 3, 'once')
  },
)
