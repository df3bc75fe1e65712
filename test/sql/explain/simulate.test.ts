import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node, report } from '../../helpers/factories.js'
import type { TestNode } from '../../helpers/factories.js'
import { claim, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const done = new Error('rolled back')
const story = storiesIn(pg, t)

interface Planned {
  assignment_id: string
  from_node: string
  to_node: string | null
  reason: string
}
const loss = async (sql: TransactionSql, name: string) => [
  ...(await sql<Planned[]>`select * from mooring.simulate_node_loss(${name})`),
]
const drain = async (sql: TransactionSql, name: string, maxMoves: number | null = null) => [
  ...(await sql<
    Planned[]
  >`select * from mooring.simulate_drain(${name}, ${maxMoves}::int) order by assignment_id`),
]
const insert = async (sql: TransactionSql, spec: Record<string, unknown> | string) => [
  ...(await sql<
    { ordinal: number | null; to_node: string | null; reason: string }[]
  >`select * from mooring.simulate_insert(${sql.json(spec as never)})`),
]

/** Every row of every table, as text. */
async function everything(sql: TransactionSql): Promise<string> {
  const tables = await sql<{ name: string }[]>`
    select c.oid::regclass::text as name
      from pg_class c
     where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
       and c.relkind = 'r'
     order by 1`
  const rows = []
  for (const { name } of tables)
    rows.push(
      name,
      ...(await sql.unsafe(`select xmin, ctid, x::text from ${name} x order by x::text`)).map(
        (row) => JSON.stringify(row),
      ),
    )
  return rows.join('\n')
}

/**
 * A fleet in which nothing is equal: weights, limits, labels, pins, replicas, policies, rows that
 * wait, rows that were refused.
 */
async function motley(sql: TransactionSql): Promise<TestNode> {
  const lost = await node(sql, { name: 'host-a', weight: 300, labels: { ssd: true } })
  await node(sql, { name: 'host-b', labels: { ssd: true }, max_assignments: 9 })
  await node(sql, { name: 'host-c', weight: 50 })
  await deployments(sql, 14)
  await deployment(sql, { replicas: 5 })
  await deployment(sql, { replicas: 4, selector: { ssd: true } })
  await deployment(sql, { policy: 'hash', replicas: 3 })
  await deployment(sql, { pinned_node: 'host-a', replicas: 2 })
  await deployment(sql, { type: 'daemon' })
  await claim(sql)
  await sql`
    update mooring.deployment
       set enabled = false
     where id = (
       select a.deployment_id
         from mooring.assignment a
        where a.node_id = ${lost.id} and a.ordinal = 0
        order by a.id
        limit 1
     )`
  await node(sql, { name: 'host-d', trusts: '^http' })
  await deployment(sql, { selector: { gpu: true } })
  await deployments(sql, 3)
  return lost
}

story(
  'Y3: a simulated loss is what happens when the lease ends: reap, claim, the same nodes',
  async (t, sql) => {
    const lost = await motley(sql)
    await sql`
      select
        from mooring.reassign(
          (
            select min(a.id)
              from mooring.assignment a
              join mooring.deployment d on d.id = a.deployment_id
             where a.node_id = ${lost.id} and a.wanted = 'run' and d.pinned_node is null
          ),
          'host-d'
        )`
    const planned = await loss(sql, 'host-a')
    t.ok(planned.length >= 10, `${planned.length} rows`)
    t.ok(
      planned.some(({ to_node }) => to_node === null) &&
        new Set(planned.map(({ to_node }) => to_node)).size >= 4,
      'several ways to go, and none',
    )
    await age(sql, 'host-a', '16 seconds ago')
    const reaped = (
      await sql<
        { id: string }[]
      >`select r.id from mooring.reap() r where r.wanted = 'run' and r.node_id is null`
    ).map(({ id }) => id)
    t.same(planned.map(({ assignment_id }) => assignment_id).sort(), reaped.sort(), 'the very rows')
    await claim(sql)
    const now = new Map((await assignments(sql)).map((row) => [row.id, row.node]))
    t.same(
      planned.map(({ assignment_id, to_node }) => [assignment_id, to_node]),
      planned.map(({ assignment_id }) => [assignment_id, now.get(assignment_id)]),
    )
    const why = new Map(
      (
        await sql<
          { assignment_id: string; reason: string }[]
        >`select assignment_id, reason from mooring.unplaced`
      ).map((row) => [row.assignment_id, row.reason]),
    )
    for (const row of planned.filter(({ to_node }) => to_node === null))
      t.equal(row.reason, why.get(row.assignment_id), 'and why nowhere, in the same words')
    const rules = new Map(
      (
        await sql<
          { assignment_id: string; reason: string }[]
        >`select assignment_id, reason from mooring.event where kind = 'claimed' order by id`
      ).map((row) => [row.assignment_id, row.reason]),
    )
    for (const row of planned.filter(({ to_node }) => to_node !== null))
      t.equal(row.reason, rules.get(row.assignment_id), 'and by which rule')
  },
)

story('in windows that are not full at once it is foretold as well', async (t, sql) => {
  await sql`update mooring.setting set claim_window = 4`
  await node(sql, { name: 'host-a', weight: 400 })
  await node(sql, { name: 'host-b' })
  await node(sql, { name: 'host-c', weight: 70, max_assignments: 5 })
  await deployments(sql, 30)
  await claim(sql)
  const planned = await loss(sql, 'host-a')
  await age(sql, 'host-a', '16 seconds ago')
  await sql`select from mooring.reap()`
  await claim(sql)
  const now = new Map((await assignments(sql)).map((row) => [row.id, row.node]))
  t.ok(planned.length > 15)
  t.same(
    planned.map(({ to_node }) => to_node),
    planned.map(({ assignment_id }) => now.get(assignment_id)),
  )
})

story('replicas in different windows keep away from each other, as in a claim', async (t, sql) => {
  await sql`update mooring.setting set claim_window = 1`
  await node(sql, { name: 'host-a' })
  await deployment(sql, { replicas: 2 })
  await claim(sql)
  await node(sql, { name: 'host-b', weight: 1000 })
  await node(sql, { name: 'host-c' })
  const planned = await loss(sql, 'host-a')
  t.same(planned.map(({ to_node }) => to_node).sort(), ['host-b', 'host-c'])
  await age(sql, 'host-a', '16 seconds ago')
  await sql`select from mooring.reap()`
  await claim(sql)
  t.same(
    planned.map(({ to_node }) => to_node),
    (await assignments(sql)).map((row) => row.node),
  )
})

story('where room runs out it says so', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployments(sql, 3)
  await claim(sql)
  await node(sql, { name: 'host-b', max_assignments: 1 })
  t.match(await loss(sql, 'host-a'), [
    { from_node: 'host-a', to_node: 'host-b', reason: 'cheapest by deployment_count' },
    { to_node: null, reason: /would be full/ },
    { to_node: null },
  ])
  t.match(await drain(sql, 'host-a'), [
    { to_node: 'host-b' },
    { to_node: null, reason: /would be full/ },
    { to_node: null },
  ])
})

story('what is foretold of a drain is what happens when it is drained', async (t, sql) => {
  const host = await motley(sql)
  await claim(sql)
  const planned = await drain(sql, 'host-a', 3)
  t.ok(planned.length >= 10 && planned.some(({ to_node }) => to_node === null))
  await sql`select from mooring.drain_node('host-a', max_moves => 3)`
  for (let step = 0; step < 20; step++) {
    await claim(sql)
    for (const row of await assignments(sql)) {
      if (row.node === 'host-a' && row.wanted === 'stop') await report(sql, host, row, 'stopped')
    }
    await claim(sql)
    for (const row of await sql<
      { id: string; epoch: string; node_id: number; generation: string; deployment_id: string }[]
    >`
      select a.id, a.epoch, a.node_id, a.deployment_id, '1' as generation
        from mooring.assignment a
       where a.move_reason is not null and a.wanted = 'run'`) {
      const [there] = await sql<
        { node: string; session: string }[]
      >`select node, session from mooring.heartbeat where node_id = ${row.node_id}`
      await report(sql, { name: there!.node, session: there!.session }, row, 'running')
    }
  }
  const now = new Map((await assignments(sql)).map((row) => [row.id, row.node]))
  t.same(
    planned.map(({ assignment_id, to_node }) => [assignment_id, to_node ?? 'host-a']),
    planned.map(({ assignment_id }) => [assignment_id, now.get(assignment_id)]),
  )
})

/** What all agents report of all that is to stop or shall run. */
async function agentsObey(sql: TransactionSql): Promise<void> {
  await sql`
    select r.accepted
      from mooring.heartbeat h
     cross join lateral (
       select jsonb_agg(
           jsonb_build_object(
             'assignment_id', a.id,
             'epoch', a.epoch,
             'generation', 1,
             'state', case a.wanted when 'stop' then 'stopped' else 'running' end)) as rows
         from mooring.assignment a
         left join mooring.run o on o.assignment_id = a.id and o.epoch = a.epoch
        where a.node_id = h.node_id and (a.wanted = 'stop' or o.assignment_id is null)) a
     cross join lateral mooring.report(h.node, h.session, a.rows) r
     where a.rows is not null`
}

/** Numbers that look random and are the same in every run. */
function dice(seed: number): (sides: number) => number {
  let state = seed * 2_654_435_761 + 1
  return (sides) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * sides)
  }
}

/** Hosts and deployments of every kind: twins, pins, limits, labels, weights, policies. */
async function randomFleet(sql: TransactionSql, roll: (sides: number) => number): Promise<void> {
  const hosts = 3 + roll(4)
  // one of the two for all: a start takes longer than a stop, so steps of both would overlap
  const handover = roll(3) === 0 ? 'start-first' : 'stop-first'
  // twins of few hosts that others join later
  for (let host = 0; host < hosts; host++) {
    if (host === 1 + roll(hosts - 1)) await claim(sql)
    await node(sql, {
      name: `host-${host}`,
      weight: [50, 100, 100, 300][roll(4)]!,
      labels: roll(2) ? { disk: 'ssd' } : {},
      max_assignments: host > 0 && roll(3) === 0 ? 3 + roll(12) : null,
    })
    for (let count = 1 + roll(4); count > 0; count--)
      await deployment(sql, {
        package_name: ['left-pad', 'http-server'][roll(2)]!,
        replicas: [1, 1, 2, 2, 3, 5][roll(6)]!,
        on_lost: 'keep',
        handover,
        ...(roll(4) === 0 ? { selector: { disk: 'ssd' } } : {}),
        ...(roll(6) === 0 ? { pinned_node: `host-${roll(hosts)}` } : {}),
        ...(roll(5) === 0 ? { policy: ['hash', 'resource_usage', 'none'][roll(3)]! } : {}),
      })
    if (roll(2)) await claim(sql)
  }
  await claim(sql)
  await agentsObey(sql)
}

story('in random fleets with twins a drain does what was foretold', async (t, sql) => {
  await sql`update mooring.setting set handover_settle = '0'`
  let twins = 0
  for (let seed = 1; seed <= 14; seed++) {
    await sql
      .savepoint(async (sql) => {
        const roll = dice(seed)
        await randomFleet(sql, roll)
        const moves = 1 + roll(5)
        const before = await assignments(sql)
        const here = before.filter(({ node }) => node === 'host-0').map((row) => row.deployment_id)
        twins += here.length - new Set(here).size
        const planned = await drain(sql, 'host-0', moves)
        await sql`select from mooring.drain_node('host-0', max_moves => ${moves}::int)`
        for (let moved = true; moved;) {
          await claim(sql)
          // a handover settles with the time
          await sql`
            update mooring.run
               set last_deployed_at = last_deployed_at - interval '1 h'`
          const orders = await sql`
            select from mooring.assignment where wanted = 'stop' or move_reason is not null`
          moved = orders.length > 0
          await agentsObey(sql)
        }
        const now = await sql<{ key: string; node: string | null }[]>`
          select format('%s/%s', a.deployment_id, a.ordinal) as key, n.name as node
            from mooring.assignment a
            left join mooring.node n on n.id = a.node_id`
        const where = new Map(now.map(({ key, node }) => [key, node]))
        const keyOf = new Map(
          before.map(({ id, deployment_id, ordinal }) => [id, `${deployment_id}/${ordinal}`]),
        )
        t.same(
          planned.map(({ assignment_id: id, to_node }) => [keyOf.get(id), to_node ?? 'host-0']),
          planned.map(({ assignment_id: id }) => [keyOf.get(id), where.get(keyOf.get(id)!)]),
          `fleet ${seed}, ${moves} at a time`,
        )
        throw done
      })
      .catch((error: unknown) => {
        if (error !== done) throw error
      })
  }
  t.ok(twins > 20, `${twins} twins`)
})

story('what is foretold of an insert is what happens when it is inserted', async (t, sql) => {
  await motley(sql)
  await claim(sql)
  for (const spec of [
    { package_name: 'http-server' },
    { package_name: 'http-server', replicas: 4 },
    { package_name: 'http-server', selector: { ssd: true }, replicas: 2 },
    { package_name: 'left-pad', policy: 'resource_usage' },
  ]) {
    await sql.savepoint(async (sql) => {
      const planned = await insert(sql, spec)
      const id = await deployment(sql, { package_version: 'latest', ...spec })
      await claim(sql)
      t.same(
        planned.map(({ to_node }) => to_node),
        (await assignments(sql, id)).map(({ node }) => node),
        JSON.stringify(spec),
      )
    })
  }
})

story('an insert that could go nowhere says why', async (t, sql) => {
  t.match(await insert(sql, { package_name: 'x' }), [
    { ordinal: 0, to_node: null, reason: /there is no node/ },
  ])
  await node(sql, { name: 'host-a', trusts: '^http' })
  await node(sql, { name: 'host-b', max_assignments: 0 })
  t.match(await insert(sql, { package_name: 'x' }), [
    {
      to_node: null,
      reason:
        /no node can take it: .*trust the package \(1\).*max_assignments|max_assignments.*trust/,
    },
  ])
  t.match(await insert(sql, { package_name: 'http-server', policy: 'none' }), [
    { to_node: null, reason: /policy none/ },
  ])
  t.match(await insert(sql, { package_name: 'http-server', policy: 'hash' }), [
    { to_node: null, reason: /hash decides by ids/ },
  ])
  t.match(await insert(sql, { package_name: 'http-server', enabled: false }), [
    { to_node: null, reason: /disabled/ },
  ])
  t.match(await insert(sql, { package_name: 'http-server', type: 'daemon' }), [
    { ordinal: null, to_node: 'host-a' },
    { to_node: 'host-b' },
  ])
  t.same(await insert(sql, { package_name: 'http-server', replicas: 0 }), [])
  await refused(t, sql, (sql) => insert(sql, { package_name: 'x', replica: 3 }), {
    code: 'MR007',
    message: /no replica$/,
    hint: /deployment/,
  })
  await refused(t, sql, (sql) => insert(sql, 'x'), { code: 'MR007', message: /one object/ })
})

/** A deployment for each constraint of the table, which that constraint alone refuses. */
const REFUSED: Record<string, Record<string, unknown>> = {
  deployment_name_is_a_plain_word: { name: 'a b' },
  deployment_labels_are_an_object: { labels: [] },
  deployment_type_is_deployment_or_daemon: { type: 'cron' },
  deployment_package_name_is_a_registry_name: { package_name: '../x' },
  deployment_package_version_is_exact_or_a_tag: { package_version: '1.x' },
  deployment_command_is_not_empty: { command: '' },
  deployment_args_is_an_array_of_strings: { args: { port: 80 } },
  deployment_env_is_an_object_of_strings: { env: { PORT: 80 } },
  deployment_replicas_is_between_0_and_10000: { replicas: -1 },
  deployment_selector_is_an_object: { selector: 'ssd' },
  deployment_pinned_node_is_a_node_name: { pinned_node: 'a b' },
  deployment_on_lost_is_stop_or_keep: { on_lost: 'wait' },
  deployment_handover_is_stop_first_or_start_first: { handover: 'both' },
  deployment_lease_ttl_is_sane: { lease_ttl: '2 hours' },
  deployment_stop_grace_is_sane: { stop_grace: '-1 s' },
  deployment_generation_is_positive: { generation: 0 },
  deployment_created_at_is_finite: { created_at: 'infinity' },
  deployment_updated_at_is_finite: { updated_at: '-infinity' },
  deployment_runs_a_package_or_a_command: { package_name: null },
  deployment_start_first_is_only_for_on_lost_keep: { handover: 'start-first' },
  deployment_start_first_is_not_for_daemons: {
    handover: 'start-first',
    on_lost: 'keep',
    type: 'daemon',
  },
  deployment_args_are_bounded: { args: ['x'.repeat(262_144)] },
  deployment_env_is_bounded: { env: { X: 'x'.repeat(262_144) } },
  deployment_env_names_are_identifiers: { env: { 'A-B': 'x' } },
  deployment_policy_fkey: { policy: 'best' },
  deployment_pkey: { id: 7 },
  deployment_name_idx: { name: 'web' },
}

story('what the table would not take is refused with the error of the INSERT', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql, { id: 7, name: 'web' })
  const laws = await sql<{ name: string }[]>`
    select c.conname as name
      from pg_constraint c
     where c.conrelid = 'mooring.deployment'::regclass and c.contype in ('c', 'f')
    union
    select i.indexrelid::regclass::name
      from pg_index i
     where i.indrelid = 'mooring.deployment'::regclass and i.indisunique
     order by 1`
  t.same(
    Object.keys(REFUSED).sort(),
    laws.map(({ name }) => name.replace('mooring.', '')).sort(),
    'each constraint of the table has an example',
  )
  const errorOf = async (ask: (sql: TransactionSql) => Promise<unknown>) =>
    sql
      .savepoint(async (sql) => void (await ask(sql)))
      .then(
        () => 'accepted',
        ({ code, message, constraint_name, column_name }: Record<string, unknown>) => ({
          code,
          message,
          constraint_name,
          column_name,
        }),
      )
  const both = async (spec: Record<string, unknown>) => ({
    simulated: await errorOf((sql) => insert(sql, spec)),
    inserted: await errorOf((sql) => {
      const columns = Object.keys(spec).length > 0 ? sql(Object.keys(spec)) : sql`enabled`
      return sql`
        insert into mooring.deployment (${columns})
        select ${Object.keys(spec).length > 0 ? sql(Object.keys(spec)) : sql`true`}
          from jsonb_populate_record(null::mooring.deployment, ${sql.json(spec as never)})`
    }),
  })
  for (const [name, part] of Object.entries(REFUSED)) {
    const { simulated, inserted } = await both({ package_name: 'http-server', ...part })
    t.match(inserted, { constraint_name: name })
    t.same(simulated, inserted, name)
  }
  for (const spec of [
    { package_name: 'x', enabled: null },
    { package_name: 'x', replicas: null },
    { package_name: 'x', id: null },
    { package_name: 'x', replicas: 'many' },
    { package_name: 'x', lease_ttl: 'soon' },
    {},
  ]) {
    const { simulated, inserted } = await both(spec)
    t.type(inserted, 'object', JSON.stringify(spec))
    t.same(simulated, inserted, JSON.stringify(spec))
  }
  const fine = { package_name: 'x', name: 'other', handover: 'start-first', on_lost: 'keep' }
  t.same(await both(fine), { simulated: 'accepted', inserted: 'accepted' })
})

void t.test(
  'defect 15: simulating changes nothing, locks nothing, and works in a read-only transaction',
  async (t) => {
    const { sql } = await testDatabase(t)
    await sql.begin(async (sql) => void (await motley(sql)))
    const before = await sql.begin(everything)
    await sql.begin('read only', async (sql) => {
      t.ok((await loss(sql, 'host-a')).length > 0)
      t.ok((await drain(sql, 'host-a')).length > 0)
      t.ok((await insert(sql, { package_name: 'http-server', replicas: 3 })).length > 0)
      const locks = await sql`
          select l.locktype, l.mode, l.relation::regclass
            from pg_locks l
           where l.pid = pg_backend_pid()
             and (
               l.locktype = 'advisory'
               or l.mode not in ('AccessShareLock', 'ExclusiveLock')
               or l.locktype = 'transactionid'
             )`
      t.same([...locks], [])
    })
    t.equal(await sql.begin(everything), before)
    await sql.begin(async (sql) => void (await claim(sql)))
    t.not(await sql.begin(everything), before, 'a claim would have been noticed')
  },
)

story('a name that is not there names the nearest', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await refused(t, sql, (sql) => loss(sql, 'hots-a'), { code: 'MR003', hint: /host-a/ })
  await refused(t, sql, (sql) => drain(sql, 'hots-a'), { code: 'MR003', hint: /host-a/ })
  await refused(t, sql, (sql) => drain(sql, 'host-a', 0), {
    code: 'MR007',
    message: /max_moves is 0/,
  })
  t.same(await loss(sql, 'host-a'), [])
})
