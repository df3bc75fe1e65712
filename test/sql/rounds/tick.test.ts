import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

async function tick(
  sql: TransactionSql,
  worker: string,
  { pools = [] as string[], inline = false } = {},
) {
  const [answer] = await sql<
    { rounds: string[]; next_ms: number; hold: boolean }[]
  >`select * from mooring.tick(${worker}, ${pools}, ${inline})`
  return answer!
}

const jobs = async (sql: TransactionSql) =>
  (
    await sql<{ task: string; key: string; n: number }[]>`
      select task_identifier as task, key, max_attempts as n
        from mooring_jobs.jobs
       where key like 'round:%'
       order by key`
  ).map(({ task, key, n }) => `${task} ${key} ${n}`)

/** A round that is not due does not become so during the test. */
const slowRounds = (sql: TransactionSql) =>
  sql`update mooring.setting set lease_ttl = '2 min', round_interval = '20 s'`

const overdue = (sql: TransactionSql, ...names: string[]) =>
  sql`update mooring_internal.round set due_at = clock_timestamp() where name = any(${names})`

story(
  'the first tick wins all rounds and queues a job for each, reap before anything else',
  async (t, sql) => {
    t.match(await tick(sql, 'w1'), { rounds: ['reap', 'evict', 'place', 'prune'], hold: false })
    t.same(await jobs(sql), [
      'evict round:evict 1',
      'place round:place 1',
      'prune round:prune 1',
      'reap round:reap 1',
    ])
  },
)

story('Y5: the next tick runs nothing until a round is due again', async (t, sql) => {
  await slowRounds(sql)
  await tick(sql, 'w1')
  const { rounds, next_ms } = await tick(sql, 'w2')
  t.same(rounds, [])
  t.ok(next_ms >= 20 && next_ms <= 20_000, `next_ms is ${next_ms}`)
  await overdue(sql, 'place')
  t.same((await tick(sql, 'w2')).rounds, ['place'])
  t.same((await tick(sql, 'w1')).rounds, [])
})

story('a job that is still waiting is not queued twice', async (t, sql) => {
  await tick(sql, 'w1')
  await overdue(sql, 'reap')
  await tick(sql, 'w1')
  t.equal((await jobs(sql)).length, 4)
})

story('next_ms follows the nearest round and is never less than 20', async (t, sql) => {
  await slowRounds(sql)
  await tick(sql, 'w1')
  await sql`
    update mooring_internal.round
       set due_at = clock_timestamp() + case name
         when 'place' then interval '10 s'
         else interval '20 s' end`
  const { next_ms } = await tick(sql, 'w1')
  t.ok(next_ms > 20 && next_ms <= 10_000, `next_ms is ${next_ms}`)
  await sql`update mooring.setting set round_interval = '50 ms'`
  await overdue(sql, 'reap', 'place')
  t.ok((await tick(sql, 'w1')).next_ms >= 20)
})

story('reap and place keep up with a lease that is scaled down', async (t, sql) => {
  await sql`
    update mooring.setting
       set beat_interval = '100 ms', lease_ttl = '300 ms', reap_margin = '100 ms'`
  await tick(sql, 'w1')
  t.ok((await tick(sql, 'w1')).next_ms <= 50)
})

story(
  'after the clock was set back, or an interval was shortened, rounds do not wait for the old time',
  async (t, sql) => {
    await slowRounds(sql)
    await tick(sql, 'w1')
    await sql`
      update mooring_internal.round
         set due_at = clock_timestamp() + interval '1 hour'
       where name = 'reap'`
    t.same((await tick(sql, 'w1')).rounds, ['reap'])
  },
)

story(
  'inline runs the rounds at once: with no worker alive placement and failover go on',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    await deployments(sql, 4)
    t.match(await tick(sql, 'agent', { inline: true }), {
      rounds: ['reap', 'evict', 'place', 'prune'],
    })
    t.same(await loads(sql), { 'host-a': 2, 'host-b': 2 })
    await age(sql, 'host-a', '1 minute ago')
    await overdue(sql, 'reap', 'place')
    await tick(sql, 'agent', { inline: true })
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 4 })
    t.same(await jobs(sql), [])
    t.same(
      [...(await sql`select * from mooring_internal.worker`)],
      [],
      'an agent is not counted among the workers',
    )
  },
)

story('a round that fails is an event, and the others run', async (t, sql) => {
  await sql`
    create or replace function mooring.evict(
      deployments bigint[] default null, nodes int[] default null
    ) returns setof mooring.assignment
      language plpgsql
      as $$ begin raise 'broken'; end $$`
  await node(sql)
  await deployment(sql)
  await tick(sql, 'agent', { inline: true })
  t.match(await events(sql, 'round_failed'), [{ reason: 'round evict failed: broken' }])
  t.ok((await assignments(sql))[0]!.node)
})

story(
  'a placement that fails each time is a problem, and the reason of what waits',
  async (t, sql) => {
    await node(sql)
    await deployment(sql)
    const looks = async () => {
      const [waiting] = await sql<{ reason: string }[]>`select u.reason from mooring.unplaced u`
      const [rounds] = await sql<{ level: string; found: string }[]>`
      select d.level, d.found from mooring.doctor() d where d.check_name = 'rounds'`
      return { reason: waiting?.reason ?? null, ...rounds }
    }
    const broken = {
      reason: 'the last round of placement failed: no such clock; it is tried again, see doctor()',
      level: 'problem',
      found: 'place fails: no such clock',
    }
    const [claim] = await sql<{ whole: string }[]>`
      select pg_get_functiondef('mooring.claim(int)'::regprocedure) as whole`
    await sql`
      create or replace function mooring.claim(max_rows int default null)
        returns setof mooring.assignment
        language plpgsql
        as $$ begin raise 'no such clock'; end $$`
    await tick(sql, 'agent', { inline: true })
    t.match(await looks(), broken, 'of a round that an agent ran')

    // a worker's job that fails is spent, and nothing else tells of it
    await sql`delete from mooring.event where kind = 'round_failed'`
    t.notMatch((await looks()).found, 'no such clock')
    const [job] = await sql<{ id: string }[]>`
    select j.id from mooring_jobs.add_job('place', max_attempts => 1) j`
    await sql`
    select mooring_jobs.permanently_fail_jobs(
      ${[job!.id]}::bigint[], ${'no such clock\n    at place.ts'})`
    t.match(await looks(), broken, 'of a round that a worker ran')
    await sql.unsafe(claim!.whole)
    await overdue(sql, 'place')
    await tick(sql, 'agent', { inline: true })
    t.match(await looks(), { reason: null, level: 'ok', found: 'all in time' })
  },
)

story("without graphile-worker's schema a tick fails no one", async (t, sql) => {
  await sql`drop schema mooring_jobs cascade`
  t.match(await tick(sql, 'w1'), { rounds: ['reap', 'evict', 'place', 'prune'] })
  t.equal((await events(sql, 'round_failed')).length, 4)
})

story(
  'a worker that stopped ticking is noted, and the jobs its pools had locked are free',
  async (t, sql) => {
    await tick(sql, 'dead', { pools: ['pool-1', 'pool-2'] })
    await tick(sql, 'slow', { pools: ['pool-3'] })
    await sql`update mooring_jobs._private_jobs set locked_by = 'pool-2', locked_at = now()`
    await sql`
      update mooring_internal.worker
         set ticked_at = ticked_at - case id
               when 'dead' then interval '9.1 s'
               else interval '5 s'
             end`
    await tick(sql, 'me')
    t.same(
      (await sql`select id from mooring_internal.worker order by id`).map(({ id }) => id),
      ['me', 'slow'],
    )
    t.match(await events(sql, 'worker_lost'), [{ detail: { worker: 'dead' } }])
    const [locked] = await sql`
        select count(*)::int as n from mooring_jobs._private_jobs where locked_by is not null`
    t.same(locked, { n: 0 })
  },
)

story('a tick is the sign of life that fleet shows', async (t, sql) => {
  await tick(sql, 'w1')
  await tick(sql, 'w2')
  const [fleet] = await sql`select workers, pulse_age < interval '8 s' as fresh from mooring.fleet`
  t.same(fleet, { workers: 2, fresh: true })
})

story('in a hold the rounds are handed out and do nothing', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await deployment(sql)
  await sql`delete from mooring_internal.outage_marker`
  await age(sql, 'host-a', '1 hour ago')
  t.match(await tick(sql, 'agent', { inline: true }), {
    rounds: ['reap', 'evict', 'place', 'prune'],
    hold: true,
  })
  t.same(await loads(sql), { 'host-a': 1 })
})

story(
  'the reap that a tick starts judges by the time the tick has read, however long its job waits',
  async (t, sql) => {
    const [tick] = await sql`select t.clock_ms from mooring.tick('worker-1') t`
    const [job] = await sql`
        select extract(
          epoch from (j.payload ->> 'judged_at')::timestamptz
        )::float8 * 1000 as judged_ms
          from mooring_jobs._private_jobs j
         where j.key = 'round:reap'`
    t.ok(
      Math.abs(job!.judged_ms - tick!.clock_ms) < 0.01,
      `${job!.judged_ms} and ${tick!.clock_ms}`,
    )
  },
)
