import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, node, report } from '../../helpers/factories.js'
import { claim, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story('events older than the retention are deleted, younger ones stay', async (t, sql) => {
  await sql`delete from mooring.event`
  await sql`
    insert into mooring.event (kind, at)
    values ('claimed', now() - interval '31 days'), ('reaped', now() - interval '31 days'),
           ('claimed', now() - interval '29 days')`
  const [pruned] = await sql`select mooring.prune_events() as n`
  t.same(pruned, { n: '2' })
  t.equal((await sql`select * from mooring.event`).length, 1)
  await sql`update mooring.setting set event_retention = '1 day'`
  const [more] = await sql`select mooring.prune_events() as n`
  t.same(more, { n: '1' })
})

story('one call deletes at most fifty thousand', async (t, sql) => {
  await sql`delete from mooring.event`
  await sql`
    insert into mooring.event (kind, at)
    select 'claimed', now() - interval '40 days'
      from generate_series(1, 50010)`
  const [first] = await sql`select mooring.prune_events() as n`
  const [second] = await sql`select mooring.prune_events() as n`
  t.same([first!.n, second!.n], ['50000', '10'])
})

story(
  'old events are found at the start of the table: younger rows are not read, wherever they lie',
  async (t, sql) => {
    // as after a year: freed pages were used again, so old and young lie side by side
    await sql`
      insert into mooring.event (id, kind, at) overriding system value
      select -i, 'claimed',
             now() - case when i > 60000 then interval '40 days' else interval '1 day' end
        from generate_series(1, 120000) i
       order by md5((i / 1000)::text), i desc`
    // the plan that a table of many millions gets
    await sql`
      select set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true)`
    const read = async () =>
      Number(
        (
          await sql<{ n: string }[]>`
            select pg_stat_get_xact_tuples_fetched(o) + pg_stat_get_xact_tuples_returned(o) as n
              from (select 'mooring.event'::regclass::oid as o) e`
        )[0]!.n,
      )
    const before = await read()
    t.match(await sql`select mooring.prune_events() as n`, [{ n: '50000' }])
    const rows = (await read()) - before
    t.ok(
      rows <= 100_000,
      `${rows}: what is deleted is read twice at most, to find it and to delete it`,
    )
  },
)

story(
  'observations of assignments that are long gone go too, those of living ones stay',
  async (t, sql) => {
    const host = await node(sql)
    const [gone, stays] = [await deployment(sql), await deployment(sql)]
    await claim(sql)
    for (const row of await assignments(sql)) await report(sql, host, row, 'running')
    await sql`delete from mooring.deployment where id = ${gone}`
    for (const row of await assignments(sql, gone)) await report(sql, host, row, 'stopped')
    await sql`update mooring.run set last_active_at = now() - interval '31 days'`
    await sql`select mooring.prune_events()`
    t.same(
      (await sql`select deployment_id from mooring.run`).map(({ deployment_id }) => deployment_id),
      [stays],
    )
  },
)

story('spent jobs of rounds are cleaned, those that wait are not', async (t, sql) => {
  await sql`
    select mooring_jobs.add_job(task, max_attempts => 1)
      from unnest('{reap,place}'::text[]) task`
  await sql`update mooring_jobs._private_jobs set attempts = 1`
  await sql`select mooring_jobs.add_job('place')`
  await sql`select mooring.prune_events()`
  t.same(
    (await sql`select task_identifier as task from mooring_jobs.jobs order by 1`).map(
      ({ task }) => task,
    ),
    ['place'],
  )
})

story("without graphile-worker's schema events are pruned all the same", async (t, sql) => {
  await sql`drop schema mooring_jobs cascade`
  await sql`insert into mooring.event (kind, at) values ('claimed', now() - interval '31 days')`
  const [pruned] = await sql`select mooring.prune_events() as n`
  t.same(pruned, { n: '1' })
})

story('last_events gives the last n, oldest first', async (t, sql) => {
  await sql`
    insert into mooring.event (kind, epoch) select 'claimed', i from generate_series(1, 60) i`
  const last = async (n: number) =>
    (await sql`select epoch from mooring.last_events(${n})`).map(({ epoch }) => Number(epoch))
  t.same(await last(3), [58, 59, 60])
  t.same(await last(0), [])
  t.same(await last(-1), [])
  t.equal((await sql`select * from mooring.last_events()`).length, 50)
})

story('an event names the role that did it', async (t, sql) => {
  await node(sql)
  const [row] = await sql`select actor = mooring_internal.actor() as me from mooring.last_events(1)`
  t.same(row, { me: true })
})
