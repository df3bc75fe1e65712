import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, beat, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, events, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story(
  'deployment_count is the default: what is assigned decides, and daemons are not counted',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await sql`
      insert into mooring.deployment (package_name, type, pinned_node)
      select 'http-server', 'daemon', 'host-a'
        from generate_series(1, 5)`
    await node(sql, { name: 'host-b' })
    await deployments(sql, 4)
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 2, 'host-b': 2 })
  },
)

story('D13, defect 15: weight 200 against 100 gives two thirds of the work', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b', weight: 200 })
  await deployments(sql, 21)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 7, 'host-b': 14 })
})

story('resource_usage fills the idle node, and counts what it was just given', async (t, sql) => {
  await node(sql, { name: 'host-a', sample: { cpu_pct: 30, memory_mb: 2048, running: 0 } })
  await node(sql, { name: 'host-b', sample: { cpu_pct: 22, memory_mb: 2048, running: 0 } })
  await sql`update mooring.setting set default_policy = 'resource_usage'`
  await deployments(sql, 10)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 3, 'host-b': 7 }, '16 + k against 12 + k')
  await deployments(sql, 2)
  await claim(sql)
  t.same(
    await loads(sql),
    { 'host-a': 4, 'host-b': 8 },
    'the next claim knows of the last one before any sample does',
  )
})

story('resource_usage: a beat without a sample keeps the figures', async (t, sql) => {
  const idle = await node(sql, { name: 'host-a', sample: { cpu_pct: 1, memory_mb: 1, running: 0 } })
  await node(sql, { name: 'host-b', sample: { cpu_pct: 50, memory_mb: 1, running: 0 } })
  await beat(sql, idle)
  await deployment(sql, { policy: 'resource_usage' })
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 1, 'host-b': 0 })
})

story('policy none places nothing on any path: insert, enable, failover, edit', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const id = await deployment(sql, { policy: 'none' })
  const moved = await deployment(sql)
  t.equal((await claim(sql)).length, 1, 'the other one')
  await sql`update mooring.deployment set policy = 'none' where id = ${moved}`
  t.match(
    (await assignments(sql, moved))[0],
    { node: 'host-a', wanted: 'run' },
    'what runs, runs on',
  )
  await sql`update mooring.deployment set enabled = false where id = ${id}`
  await sql`
    update mooring.deployment set enabled = true, replicas = 3, env = '{"A": "1"}' where id = ${id}`
  await age(sql, 'host-a', '1 minute ago')
  await sql`select from mooring.reap()`
  await node(sql, { name: 'host-b' })
  t.same(await claim(sql), [])
  const tick = await sql`select * from mooring.tick('me', inline => true)`
  t.equal(tick.length, 1)
  t.same(
    (await assignments(sql)).map(({ node }) => node),
    [null, null, null, null],
  )
})

story(
  'policy none as the default of the fleet holds for those that name no policy',
  async (t, sql) => {
    await node(sql)
    await sql`update mooring.setting set default_policy = 'none'`
    await deployment(sql)
    const named = await deployment(sql, { policy: 'deployment_count' })
    t.equal((await claim(sql)).length, 1)
    t.ok((await assignments(sql, named))[0]!.node)
  },
)

story(
  'D10: disk_free chooses most free disk, and counts one percent for each unobserved assignment',
  async (t, sql) => {
    await node(sql, { name: 'host-a', sample: { disk_free_pct: 40, running: 0 } })
    await node(sql, { name: 'host-b', sample: { disk_free_pct: 46, running: 0 } })
    await node(sql, { name: 'host-c' })
    await sql`update mooring.setting set default_policy = 'disk_free'`
    await deployments(sql, 10)
    await claim(sql)
    t.same(
      await loads(sql),
      { 'host-a': 2, 'host-b': 8, 'host-c': 0 },
      '60 + k against 54 + k; the one that says nothing is last',
    )
  },
)

story('D10: a node below the floor is out, however empty the others are not', async (t, sql) => {
  await node(sql, { name: 'host-a', sample: { disk_free_pct: 14 } })
  await node(sql, { name: 'host-b', max_assignments: 1, sample: { disk_free_pct: 16 } })
  await node(sql, { name: 'host-c' })
  await sql`update mooring.setting set default_policy = 'disk_free'`
  await deployments(sql, 3)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 0, 'host-b': 1, 'host-c': 2 })
})

story('D10: where no node reports its disk, disk_free is hash', async (t, sql) => {
  for (const name of ['host-a', 'host-b', 'host-c']) await node(sql, { name })
  const id = await deployment(sql, { policy: 'disk_free' })
  const same = await sql`select node, cost, verdict from mooring.explain(${id})`
  t.match(same[0], { verdict: 'next: cheapest by hash' })
  await claim(sql)
  t.equal((await assignments(sql, id))[0]!.node, same[0]!.node)
})

story('policies that fall back on each other end with the count', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await sql`
    create function public.unknown(node mooring.node_state, k int) returns float8
      language sql
      return null::float8`
  await sql`
    insert into mooring.policy (name, kind, cost_function, description)
    values ('this', 'load', 'public.unknown', ''), ('that', 'load', 'public.unknown', '')`
  await sql`
    update mooring.policy
       set fallback = case name when 'this' then 'that' else 'this' end
     where name in ('this', 'that')`
  await sql`update mooring.setting set default_policy = 'this'`
  await deployments(sql, 4)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 2, 'host-b': 2 })
})

story('a policy is a function registered by name', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await sql`
    create function public.by_name(node mooring.node_state, k int) returns float8
      language sql
      return case (node).name when 'host-b' then 0 else 1 end`
  await sql`
    insert into mooring.policy (name, kind, cost_function, description)
    values ('by_name', 'load', 'public.by_name', 'host-b first')`
  await sql`
    insert into mooring.deployment (package_name, policy)
    select 'http-server', 'by_name'
      from generate_series(1, 3)`
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 0, 'host-b': 3 })
})

story(
  'a policy that fails becomes an event and a reason, and other work is placed',
  async (t, sql) => {
    await node(sql)
    await sql`
      create function public.broken(node mooring.node_state, k int) returns float8
        language sql
        return 1 / ((node).assigned - (node).assigned)`
    await sql`
      insert into mooring.policy (name, kind, cost_function, description)
      values ('broken', 'load', 'public.broken', 'fails'),
             ('missing', 'load', 'public.missing', 'is not there')`
    const broken = await deployment(sql, { policy: 'broken' })
    await deployment(sql, { policy: 'missing' })
    await deployment(sql)
    t.equal((await claim(sql)).length, 1)
    t.same(
      (await events(sql, 'claim_failed')).map(({ detail }) => detail),
      [{ policy: 'broken' }, { policy: 'missing' }],
    )
    const [row] = await sql`select reason from mooring.unplaced where deployment_id = ${broken}`
    t.match(row!.reason, /policy broken failed: division by zero/)
    await sql`
      create or replace function public.broken(node mooring.node_state, k int) returns float8
        language sql
        return 1`
    t.equal((await claim(sql)).length, 1, 'mended')
  },
)

story(
  'defect 12: a policy that is not registered is refused where it is written',
  async (t, sql) => {
    await refused(t, sql, (sql) => deployment(sql, { policy: 'deployment-count' }), {
      code: '23503',
      constraint_name: 'deployment_policy_fkey',
    })
    await refused(t, sql, (sql) => sql`update mooring.setting set default_policy = 'typo'`, {
      code: '23503',
      constraint_name: 'setting_default_policy_fkey',
    })
    const odd = [
      ['policy_name_is_a_word', ['No Word', 'load', 'a.b']],
      ['policy_kind_is_known', ['a', 'guess', 'a.b']],
      ['policy_cost_function_is_a_plain_name', ['a', 'load', 'a.b(); drop table x']],
      ['policy_compares_by_a_cost_function', ['a', 'load', null]],
    ] as const
    for (const [constraint_name, [name, kind, cost_function]] of odd) {
      await refused(
        t,
        sql,
        (sql) => sql`insert into mooring.policy values (${name}, ${kind}, ${cost_function}, '')`,
        { code: '23514', constraint_name },
        constraint_name,
      )
    }
  },
)
