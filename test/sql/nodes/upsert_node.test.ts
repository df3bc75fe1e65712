import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, events, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story(
  'D15: a node can be created before its agent comes, and its registration keeps the values',
  async (t, sql) => {
    t.match(
      await sql`
        select *
          from mooring.upsert_node(
            'host-a', weight => 300, labels => '{"zone": "b"}', max_assignments => 2,
            agent_base_url => 'http://a', gateway_base_url => 'http://g'
          )`,
      [{ name: 'host-a', weight: 300, labels: { zone: 'b' }, max_assignments: 2, enabled: true }],
    )
    t.match(await sql`select node, health from mooring.node_status`, [
      { node: 'host-a', health: 'UNKNOWN' },
    ])
    await sql`select from mooring.register_node('host-a', gen_random_uuid(), '.')`
    t.match(
      await sql`
        select weight, labels, max_assignments, agent_base_url, gateway_base_url, trusts
          from mooring.node`,
      [
        {
          weight: 300,
          labels: { zone: 'b' },
          max_assignments: 2,
          agent_base_url: 'http://a',
          gateway_base_url: 'http://g',
          trusts: '.',
        },
      ],
    )
    t.match(await events(sql, 'node_added'), [{ node: 'host-a' }])
  },
)

story(
  'D15: what is not given stays as it is, and an event names the change and its actor',
  async (t, sql) => {
    await node(sql, { name: 'host-a', labels: { zone: 'a' } })
    await sql`select from mooring.upsert_node('host-a', weight => 50)`
    t.match(await sql`select weight, labels, enabled, trusts from mooring.node`, [
      { weight: 50, labels: { zone: 'a' }, enabled: true, trusts: '.' },
    ])
    t.match(await events(sql, 'node_changed'), [{ node: 'host-a', detail: { weight: [100, 50] } }])
    t.match(
      await sql`
        select actor = mooring_internal.actor() as mine
          from mooring.event
         where kind = 'node_changed'`,
      [{ mine: true }],
    )
    await sql`select from mooring.upsert_node('host-a', weight => 50)`
    t.equal((await events(sql, 'node_changed')).length, 1, 'what changes nothing is no event')
    await sql`select from mooring.upsert_node('host-a', agent_base_url => 'http://a')`
    t.match(
      (await events(sql, 'node_changed')).at(-1),
      { detail: { agent_base_url: [null, 'http://a'] } },
      'from nothing',
    )
  },
)

story('labels are added, changed and taken away one by one, and so are limits', async (t, sql) => {
  await node(sql, { name: 'host-a', labels: { disk: 'ssd', zone: 'a' }, max_assignments: 9 })
  const id = await deployment(sql, { selector: { disk: 'ssd' } })
  await claim(sql)
  const labels = async (change: Record<string, string | null>) =>
    (
      await sql`
        select (mooring.upsert_node('host-a', labels => ${sql.json(change)})).labels`
    )[0]!['labels'] as unknown
  t.same(await labels({ zone: 'b', rack: '7' }), { disk: 'ssd', zone: 'b', rack: '7' })
  t.same(await labels({ zone: null, none: null }), { disk: 'ssd', rack: '7' })
  t.same(await labels({}), { disk: 'ssd', rack: '7' })
  t.match(await assignments(sql, id), [{ node: 'host-a', wanted: 'run' }], 'and nothing stopped')
  await sql`select from mooring.upsert_node('host-a', agent_base_url => 'http://a')`
  const none = async () =>
    sql`
      select n.max_assignments, n.agent_base_url
        from mooring.upsert_node('host-a', max_assignments => -1, agent_base_url => '') n`
  t.match(await none(), [{ max_assignments: null, agent_base_url: null }])
  const told = (await events(sql, 'node_changed')).length
  t.match(await none(), [{ max_assignments: null, agent_base_url: null }])
  t.equal((await events(sql, 'node_changed')).length, told, 'what changes nothing is no event')
  t.match(
    await sql`
      select n.labels, n.max_assignments
        from mooring.upsert_node('host-z', labels => '{"a": "b", "c": null}',
               max_assignments => -1) n`,
    [{ labels: { a: 'b' }, max_assignments: null }],
  )
})

story(
  'D13: weight counts in placement; D8: base URLs open a node for what needs them',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    await sql`select from mooring.upsert_node('host-a', weight => 200)`
    await deployments(sql, 6)
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 4, 'host-b': 2 })
    const id = await deployment(sql, { needs_urls: true })
    t.same(await claim(sql), [])
    await sql`
      select
        from mooring.upsert_node(
          'host-b', agent_base_url => 'http://a', gateway_base_url => 'http://g'
        )`
    await claim(sql)
    t.match(await assignments(sql, id), [{ node: 'host-b' }])
  },
)

story('bad values are refused by name', async (t, sql) => {
  for (const name of ['', 'a b', null])
    await refused(t, sql, (sql) => sql`select from mooring.upsert_node(${name})`, {
      code: 'MR007',
      hint: /63 letters/,
    })
  await refused(t, sql, (sql) => sql`select from mooring.upsert_node('host-a', weight => 'NaN')`, {
    code: '23514',
    constraint_name: 'node_weight_is_between_a_thousandth_and_a_million',
  })
  await refused(t, sql, (sql) => sql`select from mooring.upsert_node('host-a', labels => '[]')`, {
    code: '23514',
    constraint_name: 'node_labels_are_an_object',
  })
})
