import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { deployment, deployments, node } from '../../helpers/factories.js'
import { events, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** A value of each column that differs from what a new deployment has. */
const EDITS: Record<string, string> = {
  name: `'renamed'`,
  labels: `'{"tier": "web"}'`,
  package_name: `'left-pad'`,
  package_version: `'2.0.0'`,
  command: `'sesame --open'`,
  args: `'["sesame"]'`,
  env: `'{"TOKEN": "sesame"}'`,
  enabled: 'false',
  replicas: '3',
  policy: `'hash'`,
  selector: `'{"disk": "ssd"}'`,
  pinned_node: `'host-a'`,
  needs_urls: 'true',
  on_lost: `'stop'`,
  handover: `'start-first'`,
  lease_ttl: `'30 s'`,
  stop_grace: `'1 min'`,
  generation: 'generation + 1',
}
const changes = async (sql: TransactionSql) =>
  (await events(sql, 'deployment_changed')).map(({ reason, detail }) => ({ reason, detail }))

story('who added, changed and deleted a deployment, and what it was called', async (t, sql) => {
  const id = await deployment(sql, { name: 'web', package_name: 'left-pad' })
  await sql`update mooring.deployment set generation = generation + 1`
  await sql`update mooring.deployment set replicas = 2, labels = '{"tier": "web"}'`
  await sql`update mooring.deployment set replicas = 2`
  await sql`delete from mooring.deployment`
  t.match(
    await sql`
      select kind, deployment_id, reason, actor = mooring_internal.actor() as mine
        from mooring.event
       where kind like 'deployment_%'
       order by id`,
    [
      { kind: 'deployment_added', deployment_id: id, reason: /^web: left-pad@/, mine: true },
      { kind: 'deployment_changed', deployment_id: id, reason: 'web: generation', mine: true },
      {
        kind: 'deployment_changed',
        deployment_id: id,
        reason: 'web: labels, replicas',
        mine: true,
      },
      { kind: 'deployment_deleted', deployment_id: id, reason: /^web: left-pad@/, mine: true },
    ],
    'what changes nothing is no event',
  )
  t.match(await events(sql, 'deployment_deleted'), [{ detail: { name: 'web', generation: '2' } }])
  t.match((await changes(sql))[0], { detail: { generation: [1, 2] } })
})

story(
  'an edit of any column has an event, and no value that a viewer may not read',
  async (t, sql) => {
    const columns = (
      await sql<{ name: string; shown: boolean }[]>`
      select a.attname as name,
          has_column_privilege('mooring_viewer', a.attrelid, a.attnum, 'select') as shown
        from pg_attribute a
       where a.attrelid = 'mooring.deployment'::regclass
         and a.attnum > 0
         and not a.attisdropped
         and a.attname not in ('id', 'type', 'signature', 'created_at', 'updated_at')`
    ).filter(({ name }) => EDITS[name] !== undefined || t.fail(`${name} has no edit here`))
    for (const { name, shown } of columns) {
      const id = await deployment(sql, { on_lost: 'keep' })
      await sql.unsafe(`update mooring.deployment set ${name} = ${EDITS[name]} where id = ${id}`)
      const last = (await changes(sql)).at(-1)!
      t.ok(Object.hasOwn(last.detail!, name), `${name} is named`)
      if (shown) t.ok(Array.isArray(last.detail![name]), `${name} shows before and after`)
      else t.equal(last.detail![name], 'changed', `${name} does not show its values`)
    }
    await sql`delete from mooring.deployment`
    t.same(
      await sql`select from mooring.event e where e::text like '%sesame%'`,
      [],
      'arguments, commands and the environment stay out',
    )
  },
)

story('a statement of a thousand rows has an event each, a larger one has one', async (t, sql) => {
  await deployments(sql, 1000)
  t.equal((await events(sql, 'deployment_added')).length, 1000)
  const more = await deployments(sql, 1001)
  const [last] = (await events(sql, 'deployment_added')).slice(1000)
  t.match(last, {
    deployment_id: null,
    reason: /^1001 at once, ids \d+ to \d+$/,
    detail: { count: 1001, first_id: Number(more[0]), last_id: Number(more.at(-1)) },
  })
  await sql`update mooring.deployment set enabled = false`
  t.equal((await events(sql, 'deployment_changed')).length, 2001, 'each changes for itself')
  await sql`delete from mooring.deployment`
  t.equal((await events(sql, 'deployment_deleted')).length, 2001, 'and is named when it is gone')
})

story('edits of a node by hand have the events of the verbs', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await sql`update mooring.node set labels = '{"zone": "a"}', enabled = false`
  t.match(await events(sql, 'node_changed'), [
    { node: 'host-a', reason: 'labels', detail: { labels: [{}, { zone: 'a' }] } },
  ])
  t.match(await events(sql, 'node_disabled'), [{ node: 'host-a' }])
  await sql`update mooring.node set enabled = true`
  t.match(await events(sql, 'node_enabled'), [{ node: 'host-a' }])
  await sql`insert into mooring.node (name) values ('host-b')`
  await sql`delete from mooring.node where name = 'host-b'`
  t.match(await events(sql, 'node_added'), [{ node: 'host-a' }, { node: 'host-b' }])
  t.match(await events(sql, 'node_forgotten'), [{ node: 'host-b' }])
})

story('an edit of the settings says what was before', async (t, sql) => {
  await sql`update mooring.setting set drain_max_moves = 7, round_interval = round_interval`
  t.match((await events(sql, 'setting_changed')).at(-1), {
    reason: 'drain_max_moves',
    detail: { drain_max_moves: [5, 7] },
  })
})
