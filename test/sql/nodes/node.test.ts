import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, beat, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const bad: [edit: string, constraint_name: string][] = [
  ['weight = 0', 'node_weight_is_between_a_thousandth_and_a_million'],
  ['weight = -1', 'node_weight_is_between_a_thousandth_and_a_million'],
  ["weight = 'NaN'", 'node_weight_is_between_a_thousandth_and_a_million'],
  ["weight = 'Infinity'", 'node_weight_is_between_a_thousandth_and_a_million'],
  ['weight = 1e-320', 'node_weight_is_between_a_thousandth_and_a_million'],
  ['max_assignments = -1', 'node_max_assignments_is_not_negative'],
  ["labels = '[]'", 'node_labels_are_an_object'],
  ["labels = 'null'", 'node_labels_are_an_object'],
  [
    "labels = ('{\"a\":' || repeat('[', 10000) || repeat(']', 10000) || '}')::jsonb",
    'node_labels_are_an_object',
  ],
  ["labels = jsonb_build_object('a', repeat('x', 70000))", 'node_labels_are_an_object'],
  ["drivers = '{docker}'", 'node_drivers_are_known'],
  ["agent_base_url = repeat('x', 2049)", 'node_agent_base_url_is_short'],
]
for (const [edit, constraint_name] of bad) {
  story(`${edit.slice(0, 60)} is refused`, async (t, sql) => {
    await node(sql)
    await refused(t, sql, (sql) => sql.unsafe(`update mooring.node set ${edit}`), {
      code: '23514',
      constraint_name,
    })
  })
}

story('names that look alike, are too long or have odd characters are refused', async (t, sql) => {
  for (const name of ['', ' a', 'a b', '-a', 'а', 'a\n', 'x'.repeat(64), 'a;b', '../a']) {
    await refused(
      t,
      sql,
      (sql) => sql`insert into mooring.node (name) values (${name})`,
      { code: '23514', constraint_name: 'node_name_is_a_plain_word' },
      JSON.stringify(name),
    )
  }
})

story('a node keeps its name and its id', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await refused(t, sql, (sql) => sql`update mooring.node set name = 'host-b'`, {
    code: 'MR006',
    hint: /new name/,
  })
  await refused(t, sql, (sql) => sql`update mooring.node set id = id + 1`, { code: 'MR006' })
})

story(
  'a node with work is not deleted; when it owns nothing it goes, and its heartbeat with it',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await deployments(sql, 2)
    await claim(sql)
    await refused(t, sql, (sql) => sql`delete from mooring.node`, {
      code: 'MR006',
      message: /owns 2 assignments/,
      hint: /lease/,
    })
    await age(sql, 'host-a', '1 minute ago')
    await sql`select from mooring.reap()`
    await sql`delete from mooring.node`
    t.same([...(await sql`select * from mooring.heartbeat`)], [])
    t.same([...(await sql`select * from mooring.node_status`)], [])
  },
)

story(
  'a live node that runs daemons is not deleted; when it left or its lease ended they go with it',
  async (t, sql) => {
    const live = {
      code: 'MR006',
      message: /is live and runs 2 daemons/,
      hint: /Stop its agent first/,
    }
    await deployment(sql, { type: 'daemon' })
    await deployment(sql, { type: 'daemon', lease_ttl: '1 min' })
    const host = await node(sql, { name: 'host-a' })
    await refused(t, sql, (sql) => sql`delete from mooring.node`, live, 'live')
    await sql`update mooring.setting set reap_margin = '1 min'`
    await age(sql, 'host-a', '90 seconds ago')
    await refused(
      t,
      sql,
      (sql) => sql`delete from mooring.node`,
      live,
      'the longest lease of its daemons runs',
    )
    await sql
      .savepoint(async (sql) => {
        await age(sql, 'host-a', '121 seconds ago')
        await sql`delete from mooring.node`
        t.same(await assignments(sql), [])
        throw new Error('undo')
      })
      .catch(() => {})
    await beat(sql, host)
    await sql`select mooring.leave('host-a', ${host.session})`
    await sql`delete from mooring.node`
    t.same(await assignments(sql), [])
  },
)

story('a deleted node may come back under its name, as another one', async (t, sql) => {
  const before = await node(sql, { name: 'host-a' })
  await sql`delete from mooring.node`
  const after = await node(sql, { name: 'host-a' })
  t.not(after.id, before.id)
  await deployment(sql)
  t.equal((await claim(sql)).length, 1)
})

story(
  'what an operator inserts before the agent comes is kept by the registration',
  async (t, sql) => {
    await sql`
      insert into mooring.node (name, enabled, weight, labels)
      values ('host-a', false, 300, '{"zone": "b"}')`
    await sql`select from mooring.register_node('host-a', gen_random_uuid(), '.')`
    const [row] = await sql`select enabled, weight, labels, trusts from mooring.node`
    t.same(row, { enabled: false, weight: 300, labels: { zone: 'b' }, trusts: '.' })
  },
)

story(
  'what waits is tried again when a node gets room, is enabled or trusts more',
  async (t, sql) => {
    const edits = [
      'enabled = true',
      'max_assignments = null',
      'draining_since = null',
      'weight = 50',
      'labels = \'{"a": 1}\'',
      "trusts = '^x'",
      "drivers = '{npm,exec}'",
    ]
    await node(sql, {
      name: 'host-a',
      enabled: false,
      max_assignments: 1,
      draining: true,
      drivers: ['npm'],
    })
    for (const edit of edits) {
      await sql`select mooring_jobs.complete_jobs(array(select id from mooring_jobs.jobs))`
      await sql.unsafe(`update mooring.node set ${edit}`)
      const [jobs] = await sql`
          select count(*)::int as n from mooring_jobs.jobs where task_identifier = 'place'`
      t.same(jobs, { n: 1 }, edit)
    }
    await sql`select mooring_jobs.complete_jobs(array(select id from mooring_jobs.jobs))`
    await sql`
      update mooring.node set agent_base_url = agent_base_url, role_name = 'x', version = '2'`
    const [jobs] = await sql`select count(*)::int as n from mooring_jobs.jobs`
    t.same(jobs, { n: 0 }, 'nothing that placement looks at')
  },
)

story('lowering max_assignments takes nothing away', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployments(sql, 3)
  await claim(sql)
  await sql`update mooring.node set max_assignments = 1`
  await sql`select from mooring.evict()`
  t.same(await loads(sql), { 'host-a': 3 })
  t.ok((await assignments(sql)).every(({ wanted }) => wanted === 'run'))
})
