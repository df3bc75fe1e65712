import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, node, report } from '../../helpers/factories.js'
import type { AssignmentRow } from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const release = (sql: TransactionSql, ...rows: Pick<AssignmentRow, 'id' | 'epoch'>[]) =>
  sql<{ id: string }[]>`
    select id
      from mooring_internal.release(
        ${rows.map(({ id }) => id)}, ${rows.map(({ epoch }) => epoch)}, 'released',
        'a test wants it'
      )`

/** One owned assignment on host-a. */
async function owned(sql: TransactionSql) {
  await node(sql, { name: 'host-a' })
  const id = await deployment(sql)
  await claim(sql)
  return (await assignments(sql, id))[0]!
}

story(
  'a released assignment waits again, one epoch later, in its old place of the queue',
  async (t, sql) => {
    const before = await owned(sql)
    const [place] = await sql`select updated_at, created_at from mooring.assignment`
    t.equal((await release(sql, before)).length, 1)
    t.match((await assignments(sql))[0], { node: null, epoch: '2', wanted: 'run' })
    const [row] = await sql`
        select updated_at, created_at, lease_ttl, assigned_at, waiting_since is not null as waits,
               last_node_id is not null as remembers
          from mooring.assignment`
    t.same(row, { ...place, lease_ttl: null, assigned_at: null, waits: true, remembers: true })
    t.match(await events(sql, 'released'), [
      { node: 'host-a', epoch: '2', reason: 'a test wants it' },
    ])
  },
)

story(
  'a release under an old epoch frees nothing: another node owned it in between',
  async (t, sql) => {
    const before = await owned(sql)
    await release(sql, before)
    await claim(sql)
    t.same([...(await release(sql, before))], [])
    t.match((await assignments(sql))[0], { node: 'host-a', epoch: '3' })
  },
)

story('what waits is not released', async (t, sql) => {
  const id = await deployment(sql)
  t.same([...(await release(sql, (await assignments(sql, id))[0]!))], [])
  t.equal((await assignments(sql, id))[0]!.epoch, '0')
})

story(
  'of a disabled deployment it waits stopped, of a deleted one the row ends, and the load is right',
  async (t, sql) => {
    const first = await owned(sql)
    const gone = await deployment(sql)
    await claim(sql)
    const [second] = await assignments(sql, gone)
    await sql`update mooring.deployment set enabled = false where id = ${first.deployment_id}`
    await sql`delete from mooring.deployment where id = ${gone}`
    t.equal((await release(sql, first, second!)).length, 2)
    t.match(await assignments(sql), [{ id: first.id, node: null, epoch: '2', wanted: 'stop' }])
    t.equal((await assignments(sql)).length, 1)
    t.same(await loads(sql), { 'host-a': 0 })
    const [load] =
      await sql`select coalesce(sum(change), 0)::int as n from mooring_internal.node_load`
    t.same(load, { n: 0 })
    t.same(
      (await events(sql, 'released'))
        .map(({ assignment_id, epoch }) => [assignment_id, epoch])
        .sort(),
      [
        [first.id, '2'],
        [second!.id, '2'],
      ].sort(),
    )
  },
)

story('the last observation says stopped and loses its pid', async (t, sql) => {
  const before = await owned(sql)
  const [host] = await sql<{ session: string }[]>`select session from mooring.heartbeat`
  await report(sql, { name: 'host-a', session: host!.session }, before, 'running', { pid: 42 })
  await release(sql, before)
  const [run] = await sql`select state, pid from mooring.run`
  t.same(run, { state: 'stopped', pid: null })
})

story('a release asks for a place job', async (t, sql) => {
  const before = await owned(sql)
  await sql`select mooring_jobs.complete_jobs(array(select id from mooring_jobs.jobs))`
  await release(sql, before)
  const [jobs] =
    await sql`select count(*)::int as n, min(task_identifier) as task from mooring_jobs.jobs`
  t.same(jobs, { n: 1, task: 'place' })
})

story('nothing to release is no error', async (t, sql) => {
  t.same(
    [...(await sql`select * from mooring_internal.release(null, null, 'released', 'nothing')`)],
    [],
  )
  t.same([...(await release(sql))], [])
})
