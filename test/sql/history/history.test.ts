import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node, report } from '../../helpers/factories.js'
import { claim, events, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

interface Owned {
  epoch: string
  node: string
  since: Date
  until: Date | null
  why: string
  actor: string
  ended_why: string | null
  ended_by: string | null
}
const history = async (sql: TransactionSql, id: string) => [
  ...(await sql<Owned[]>`select * from mooring.history(${id})`),
]
const ownerAt = async (sql: TransactionSql, at: string, id: string) =>
  (
    await sql<{ node: string }[]>`
      select p.node
        from mooring.placement_at(${at}::text::timestamptz) p
       where p.assignment_id = ${id}`
  ).map(({ node }) => node)
/** As text: a Date would lose the microseconds. */
const now = async (sql: TransactionSql) =>
  (await sql<{ now: string }[]>`select clock_timestamp()::text as now`)[0]!.now
const me = async (sql: TransactionSql) =>
  (await sql<{ me: string }[]>`select mooring_internal.actor() as me`)[0]!.me

story(
  'each owner, from when until when, why it came, why it went, and by which actor',
  async (t, sql) => {
    const actor = await me(sql)
    const a = await node(sql, { name: 'host-a' })
    const before = await now(sql)
    const id = (
      await (async () => {
        await deployment(sql)
        return assignments(sql)
      })()
    )[0]!.id
    t.same(await history(sql, id), [], 'it had no owner yet')
    await claim(sql)
    const onA = await now(sql)
    await node(sql, { name: 'host-b' })
    await sql`select from mooring.reassign(${id}, 'host-b')`
    await report(sql, a, (await assignments(sql))[0]!, 'stopped')
    const between = await now(sql)
    await claim(sql)
    const onB = await now(sql)
    await age(sql, 'host-b', '1 minute ago')
    await sql`select from mooring.reap()`
    await claim(sql)
    const rows = await history(sql, id)
    t.match(rows, [
      {
        epoch: '1',
        node: 'host-a',
        until: Date,
        why: 'cheapest by deployment_count',
        actor,
        ended_why: 'its processes are gone',
        ended_by: actor,
      },
      {
        epoch: '3',
        node: 'host-b',
        until: Date,
        why: 'moved: reassigned to host-b',
        actor,
        ended_why: 'the lease of its node is over',
        ended_by: actor,
      },
      {
        epoch: '5',
        node: 'host-a',
        until: null,
        why: 'cheapest by deployment_count',
        actor,
        ended_why: null,
        ended_by: null,
      },
    ])
    t.same(await ownerAt(sql, before, id), [])
    t.same(await ownerAt(sql, onA, id), ['host-a'])
    t.same(await ownerAt(sql, between, id), [])
    t.same(await ownerAt(sql, onB, id), ['host-b'])
    t.same(await ownerAt(sql, 'infinity', id), ['host-a'])
  },
)

story(
  'an interval ends in the microsecond in which the next epoch begins, and the row agrees',
  async (t, sql) => {
    const host = await node(sql)
    await deployments(sql, 3)
    await claim(sql)
    await sql`update mooring.assignment set wanted = 'stop'`
    for (const row of await assignments(sql)) await report(sql, host, row, 'stopped')
    await claim(sql)
    const [odd] = await sql`
      select count(*)::int as n
        from mooring.assignment a
        cross join lateral mooring.history(a.id) h
       where h.epoch = a.epoch and (h.since, h.until) is distinct from (a.assigned_at, null)
          or h.epoch < a.epoch
            and h.until is distinct from (
              select o.began_at
                from mooring.ownership o
               where o.assignment_id = a.id and o.epoch = h.epoch + 1
            )`
    t.same(odd, { n: 0 })
    t.equal(
      (await sql`select * from mooring.assignment a cross join lateral mooring.history(a.id)`)
        .length,
      6,
    )
  },
)

story('two owners of one epoch cannot be recorded', async (t, sql) => {
  const host = await node(sql)
  await deployment(sql)
  await claim(sql)
  await refused(
    t,
    sql,
    (sql) =>
      sql`
        insert into mooring.ownership (assignment_id, epoch, deployment_id, node_id, began_at)
        select assignment_id, epoch, deployment_id, ${host.id}, now()
          from mooring.ownership`,
    { code: '23505', constraint_name: 'ownership_pkey' },
  )
})

story(
  'nor two at one instant, even when the clock is set back between a release and the next claim',
  async (t, sql) => {
    await sql`
      insert into mooring.ownership (assignment_id, epoch, deployment_id, node_id, node, began_at)
      values (9, 1, 1, 1, 'a', now() - interval '10 s'),
             (9, 2, 1, null, null, now() - interval '40 s'),
             (9, 3, 1, 2, 'b', now() - interval '30 s'),
             (9, 4, 1, null, null, now() - interval '5 s')`
    const rows = await history(sql, '9')
    t.match(rows, [{ node: 'a' }, { node: 'b' }])
    t.ok(rows[0]!.until! < rows[0]!.since, 'it was no time at all: the interval is empty')
    for (let s = 50; s >= 0; s--) {
      const at = (
        await sql<{ at: string }[]>`select (now() - ${s}::int * interval '1 s')::text as at`
      )[0]!.at
      const owning = await sql<{ node: string }[]>`
        select h.node
          from mooring.history(9) h
         where h.since <= ${at}::text::timestamptz
           and (h.until is null or ${at}::text::timestamptz < h.until)`
      t.same(
        await ownerAt(sql, at, '9'),
        owning.map(({ node }) => node),
        `${s} seconds ago`,
      )
      t.ok(owning.length <= 1)
    }
  },
)

story('daemons, hand edits and rows that end are in it', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const daemon = await deployment(sql, { type: 'daemon' })
  const byHand = await deployment(sql, { policy: 'none' })
  const [daemonId, handId] = [
    (await assignments(sql, daemon))[0]!.id,
    (await assignments(sql, byHand))[0]!.id,
  ]
  await sql`update mooring.assignment set node_id = ${host.id} where id = ${handId}`
  t.match(await history(sql, daemonId), [
    { node: 'host-a', why: 'a daemon runs on every permitted node', until: null },
  ])
  t.match(await history(sql, handId), [{ node: 'host-a', why: 'by hand', until: null }])
  t.match((await events(sql, 'claimed')).at(-1), {
    assignment_id: handId,
    node: 'host-a',
    epoch: '1',
    reason: 'by hand',
  })
  await sql`delete from mooring.deployment`
  for (const row of await assignments(sql)) await report(sql, host, row, 'stopped')
  t.same(await assignments(sql), [])
  for (const id of [daemonId, handId])
    t.match(await history(sql, id), [
      { node: 'host-a', until: Date, ended_why: 'its deployment was deleted' },
    ])
  t.equal((await sql`select * from mooring.placement_at('infinity')`).length, 0)
})

story('freed by hand is in it too', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await age(sql, 'host-a', '1 minute ago')
  await sql`update mooring.assignment set node_id = null`
  t.match(await history(sql, (await assignments(sql))[0]!.id), [
    { node: 'host-a', until: Date, ended_why: 'by hand' },
  ])
  t.match((await events(sql, 'released')).at(-1), { node: 'host-a', epoch: '2', reason: 'by hand' })
})

story('a node that was forgotten keeps its name in history', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await age(sql, 'host-a', '1 minute ago')
  await sql`select from mooring.reap()`
  await sql`select from mooring.forget_node('host-a')`
  t.match(await history(sql, (await assignments(sql))[0]!.id), [{ node: 'host-a', until: Date }])
})

story(
  'an order to stop, an edit or a report changes no owner, and writes no history',
  async (t, sql) => {
    const host = await node(sql)
    const id = await deployment(sql)
    await claim(sql)
    await sql`update mooring.deployment set args = '["-x"]'`
    await report(sql, host, (await assignments(sql))[0]!, 'running')
    await sql`update mooring.deployment set enabled = false where id = ${id}`
    t.equal((await sql`select * from mooring.ownership`).length, 1)
  },
)

story(
  'past ownerships are pruned with the events, the present one never; a released row has no owner',
  async (t, sql) => {
    const a = await node(sql, { name: 'host-a' })
    await deployments(sql, 2)
    await claim(sql)
    const [first, second] = await assignments(sql)
    // the first comes back to its owner, the second is given back and waits
    await sql`update mooring.assignment set wanted = 'stop'`
    for (const row of await assignments(sql)) await report(sql, a, row, 'stopped')
    await claim(sql)
    await sql`update mooring.deployment set enabled = false where id = ${second!.deployment_id}`
    await report(sql, a, (await assignments(sql, second!.deployment_id))[0]!, 'stopped')
    await sql`update mooring.ownership set began_at = began_at - interval '31 days'`
    for (const _round of [1, 2]) {
      await sql`select mooring.prune_events()`
      t.match(await history(sql, first!.id), [{ epoch: '3', node: 'host-a', until: null }])
      t.same(await history(sql, second!.id), [])
    }
    t.match(await sql`select assignment_id, epoch from mooring.ownership`, [
      { assignment_id: first!.id, epoch: '3' },
    ])
  },
)

story('what ended within the retention stays, however long ago it began', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await sql`update mooring.ownership set began_at = began_at - interval '31 days'`
  await sql`update mooring.deployment set enabled = false`
  const [row] = await assignments(sql)
  await report(sql, host, row!, 'stopped')
  await sql`select mooring.prune_events()`
  t.match(await history(sql, row!.id), [{ node: 'host-a', until: Date }])
  const long = (await sql<{ at: string }[]>`select (now() - interval '29 days')::text as at`)[0]!.at
  t.same(await ownerAt(sql, long, row!.id), ['host-a'])
})

story('one call prunes at most fifty thousand', async (t, sql) => {
  await sql`
    insert into mooring.ownership (assignment_id, epoch, deployment_id, began_at)
    select g, 2, g, now() - interval '40 days'
      from generate_series(1, 50010) g`
  await sql`select mooring.prune_events()`
  t.same((await sql`select count(*)::int as n from mooring.ownership`)[0], { n: 10 })
})

story('what was never there, and what is too long ago, is said so', async (t, sql) => {
  await refused(t, sql, (sql) => history(sql, '5'), { code: 'MR003', hint: /insert a deployment/ })
  await deployment(sql)
  const [{ id } = { id: '' }] = await assignments(sql)
  await refused(t, sql, (sql) => history(sql, '99999'), { code: 'MR003', hint: new RegExp(id) })
  await refused(
    t,
    sql,
    (sql) => sql`select * from mooring.placement_at(now() - interval '31 days')`,
    { code: 'MR007', message: /kept for 30 days/, hint: /event_retention/ },
  )
  await refused(t, sql, (sql) => sql`select * from mooring.placement_at(null)`, {
    code: 'MR007',
    message: /missing/,
  })
})
