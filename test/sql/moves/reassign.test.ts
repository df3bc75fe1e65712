import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node, report } from '../../helpers/factories.js'
import type { DeploymentSpec, NodeSpec } from '../../helpers/factories.js'
import { claim, events, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const reassign = (sql: TransactionSql, assignment: string, target: string | null) =>
  sql`select * from mooring.reassign(${assignment}, ${target})`

/** One assignment that runs on host-a; host-b and host-c are there. */
async function running(sql: TransactionSql, spec: DeploymentSpec = {}, there: NodeSpec = {}) {
  const host = await node(sql, { name: 'host-a', labels: { ssd: true } })
  const deploymentId = await deployment(sql, spec)
  await claim(sql)
  const target = await node(sql, { name: 'host-b', ...there })
  const other = await node(sql, { name: 'host-c' })
  const row = async () => (await assignments(sql, deploymentId))[0]!
  return { host, target, other, deploymentId, row, id: (await row()).id }
}

const moving = async (sql: TransactionSql) => [
  ...(await sql`
    select p.assignment_id, p.node, p.wanted, p.move_to, p.move_reason
      from mooring.placement p
     where p.move_reason is not null
     order by 1`),
]

story(
  'D18: what runs is stopped, reported, released, and only then placed on the node it was sent to',
  async (t, sql) => {
    const { host, target, row, id } = await running(sql)
    t.match(await reassign(sql, id, 'host-b'), [
      { id, wanted: 'stop', epoch: '1', stop_reason: 'reassigned to host-b' },
    ])
    t.match(await moving(sql), [{ node: 'host-a', wanted: 'stop', move_to: 'host-b' }])
    t.match(await events(sql, 'move_wanted'), [
      {
        assignment_id: id,
        node: 'host-a',
        epoch: '1',
        reason: 'reassigned to host-b',
        detail: { to: 'host-b' },
      },
    ])
    t.same(await claim(sql), [], 'not before the owner stopped it')
    t.equal(await report(sql, host, await row(), 'stopping'), true)
    t.same(await claim(sql), [])
    t.equal(await report(sql, host, await row(), 'stopped'), true)
    t.match(await row(), { node: null, epoch: '2', wanted: 'run' })
    t.same(await claim(sql), [id])
    t.match(await row(), { node: 'host-b', epoch: '3', wanted: 'run', stop_reason: null })
    t.match((await events(sql, 'claimed')).at(-1), {
      node: 'host-b',
      epoch: '3',
      reason: 'moved: reassigned to host-b',
    })
    t.match(
      await moving(sql),
      [{ node: 'host-b', move_to: null }],
      'until it was observed running there',
    )
    await report(sql, target, await row(), 'running', { pid: 1 })
    await claim(sql)
    t.same(await moving(sql), [])
  },
)

story(
  'what waits is placed at once, even where policy none leaves it to a person',
  async (t, sql) => {
    const id = await deployment(sql, { policy: 'none' })
    await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    t.same(await claim(sql), [])
    t.match(await reassign(sql, (await assignments(sql, id))[0]!.id, 'host-b'), [
      { epoch: '1', wanted: 'run' },
    ])
    t.match(await assignments(sql, id), [{ node: 'host-b', epoch: '1' }])
  },
)

story(
  'an owner that dies in the middle falls back to its lease; then it goes where it was sent',
  async (t, sql) => {
    const { row, id } = await running(sql)
    await reassign(sql, id, 'host-c')
    await sql`update mooring.setting set reap_margin = '1 min'`
    await age(sql, 'host-a', '30 seconds ago')
    await sql`select from mooring.reap()`
    t.same(await claim(sql), [], 'lease over, margin not')
    await age(sql, 'host-a', '73 seconds ago')
    await sql`select from mooring.reap()`
    t.same(await claim(sql), [id])
    t.match(await row(), { node: 'host-c', epoch: '3' })
  },
)

const lost: [what: string, why: RegExp, how: (sql: TransactionSql) => Promise<unknown>][] = [
  ['dies', /not live/, (sql) => age(sql, 'host-b', '1 minute ago')],
  ['is disabled', /disabled/, (sql) => sql`select from mooring.set_node_enabled('host-b', false)`],
  ['is drained itself', /draining/, (sql) => sql`select from mooring.drain_node('host-b')`],
  ['is forgotten', /is gone/, (sql) => sql`delete from mooring.node where name = 'host-b'`],
  [
    'fills up',
    /max_assignments/,
    (sql) => sql`update mooring.node set max_assignments = 0 where name = 'host-b'`,
  ],
  [
    'loses its trust',
    /trust/,
    (sql) => sql`update mooring.node set trusts = null where name = 'host-b'`,
  ],
]
for (const [what, why, how] of lost) {
  story(
    `when the target ${what} meanwhile, an event says so and the work is placed like any other`,
    async (t, sql) => {
      const { host, row, id } = await running(sql)
      await reassign(sql, id, 'host-b')
      await how(sql)
      await sql`update mooring.node set enabled = false where name = 'host-a'`
      t.equal(await report(sql, host, await row(), 'stopped'), true)
      t.same(await claim(sql), [id])
      t.match(await row(), { node: 'host-c', epoch: '3' })
      t.match(await events(sql, 'move_dropped'), [{ assignment_id: id, reason: why }])
    },
  )
}

story(
  'the stop wins: a deployment that is disabled, deleted or scaled down in the middle goes nowhere',
  async (t, sql) => {
    for (const edit of [
      'update mooring.deployment set enabled = false',
      'delete from mooring.deployment',
      'update mooring.deployment set replicas = 0',
    ]) {
      await sql
        .savepoint(async (sql) => {
          const { host, row, id } = await running(sql)
          await reassign(sql, id, 'host-b')
          await sql.unsafe(edit)
          t.match(
            await sql`select wanted, move_to, move_reason, stop_reason from mooring.assignment`,
            [{ wanted: 'stop', move_to: null, move_reason: null, stop_reason: /^its deployment/ }],
            edit,
          )
          t.equal(await report(sql, host, await row(), 'stopped'), true)
          t.same(await claim(sql), [])
          throw undone
        })
        .catch((error: unknown) => t.equal(error, undone))
    }
  },
)

story('disabled and enabled again in the middle, it forgets where it was to go', async (t, sql) => {
  const { host, row, id } = await running(sql)
  await reassign(sql, id, 'host-c')
  await sql`update mooring.deployment set enabled = false`
  await sql`update mooring.deployment set enabled = true`
  t.match(await row(), { node: 'host-a', wanted: 'stop' }, 'wanted never goes back within an epoch')
  await report(sql, host, await row(), 'stopped')
  await claim(sql)
  t.match(await row(), { node: 'host-a', epoch: '3' })
})

story('what waits for its target and is disabled forgets it too', async (t, sql) => {
  const { host, row, id } = await running(sql)
  await reassign(sql, id, 'host-b')
  await report(sql, host, await row(), 'stopped')
  await sql`update mooring.deployment set enabled = false`
  t.match(await sql`select wanted, move_to, move_reason from mooring.assignment`, [
    { wanted: 'stop', move_to: null, move_reason: null },
  ])
})

story(
  'the target reserves its place: no other work fills it while the owner stops',
  async (t, sql) => {
    const { host, row, id } = await running(sql, {}, { max_assignments: 1 })
    await reassign(sql, id, 'host-b')
    await sql`update mooring.node set enabled = false where name in ('host-a', 'host-c')`
    const [late] = await deployments(sql, 1)
    t.same(await claim(sql), [])
    t.match(await sql`select reason from mooring.unplaced where deployment_id = ${late!}`, [
      { reason: /max_assignments/ },
    ])
    await report(sql, host, await row(), 'stopped')
    t.same(await claim(sql), [id])
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 1, 'host-c': 0 })
  },
)

story('it may be sent elsewhere while it stops', async (t, sql) => {
  const { host, row, id } = await running(sql)
  await reassign(sql, id, 'host-b')
  await reassign(sql, id, 'host-c')
  await report(sql, host, await row(), 'stopped')
  await claim(sql)
  t.match(await row(), { node: 'host-c', epoch: '3' })
})

story('it says why not, and the way out', async (t, sql) => {
  const { id, deploymentId } = await running(sql)
  const to =
    (target: string | null, of = id) =>
    (sql: TransactionSql) =>
      reassign(sql, of, target)
  await refused(t, sql, to('host-a'), {
    code: 'MR006',
    message: /on host-a already/,
    hint: /mooring\.restart\(\d+\), or mooring restart assignment/,
  })
  await refused(t, sql, to('hots-b'), { code: 'MR003', message: /no node hots-b/, hint: /host-b/ })
  await refused(t, sql, to(null), { code: 'MR007', hint: /node_status/ })
  await refused(t, sql, to('host-b', '99999'), {
    code: 'MR003',
    hint: new RegExp(`nearest ids are ${id}`),
  })
  const cases: [edit: string, message: RegExp, hint: RegExp][] = [
    [`update mooring.deployment set pinned_node = 'host-a'`, /pinned/, /pinned_node/],
    [`update mooring.deployment set selector = '{"ssd": true}'`, /labels/, /upsert_node/],
    [`update mooring.node set trusts = '^x$' where name = 'host-b'`, /trust/, /--trust/],
    [
      `update mooring.node set enabled = false where name = 'host-b'`,
      /disabled/,
      /set_node_enabled\('host-b', true\)/,
    ],
    [`select from mooring.drain_node('host-b')`, /draining/, /undrain_node\('host-b'\)/],
    [
      `update mooring.node set max_assignments = 0 where name = 'host-b'`,
      /max_assignments/,
      /Raise/,
    ],
    [
      `update mooring.heartbeat set beat_at = now() - interval '1 hour' where node = 'host-b'`,
      /not live/,
      /agent/,
    ],
    [`update mooring.heartbeat set disk_free_pct = 1 where node = 'host-b'`, /disk/, /[Dd]isk/],
    [
      `
        update mooring.assignment a
           set refused_by = array[n.id]
          from mooring.node n
         where n.name = 'host-b'`,
      /refused/,
      /last_error/,
    ],
    [`update mooring.deployment set enabled = false`, /disabled/, /Enable it first/],
    [`delete from mooring.deployment`, /deleted/, /nothing to move/i],
    [
      `
        update mooring_internal.pulse
           set hold_until = now() + interval '10 s', hold_reason = 'a test'`,
      /hold: a test/,
      /It ends at/,
    ],
  ]
  for (const [edit, message, hint] of cases) {
    await sql
      .savepoint(async (sql) => {
        await sql.unsafe(edit)
        await refused(t, sql, to('host-b'), { code: 'MR006', message, hint }, edit)
        throw undone
      })
      .catch((error: unknown) => t.equal(error, undone))
  }
  t.match(
    await assignments(sql, deploymentId),
    [{ node: 'host-a', wanted: 'run' }],
    'and nothing has happened',
  )
})

story('a daemon stays where it is', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const daemon = await deployment(sql, { type: 'daemon' })
  await node(sql, { name: 'host-b' })
  await refused(
    t,
    sql,
    async (sql) => reassign(sql, (await assignments(sql, daemon))[0]!.id, 'host-b'),
    { code: 'MR006', message: /daemon/ },
  )
})

const undone = new Error('only tried')
