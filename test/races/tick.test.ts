/**
 * Every worker process ticks, several times a second, on every host; agents tick when no worker
 * does. If each of them started each round, a fleet of a hundred would reap a hundred times a
 * period. If one of them were elected, its death would stop the rounds. The jobs it had locked
 * would stay locked for four hours.
 *
 * The database lets one caller through for each round that is due, and that caller frees the jobs
 * of dead workers. No leader is elected, and none is needed.
 */
import t from 'tap'
import { age, beat, deployments, node } from '../helpers/factories.js'
import { gateBefore, rewrite, stage, waitsFor } from './stage.js'

const ROUNDS = ['reap', 'evict', 'place', 'prune']

t.test('of many that tick at once each due round is won by one', async (t) => {
  const pg = await stage(t)
  // none is due again before the last of them has ticked
  await pg.sql`update mooring.setting set lease_ttl = '1 hour', round_interval = '10 min'`
  const workers = await Promise.all(
    Array.from({ length: 20 }, (_, nr) => pg.session(`worker ${nr}`)),
  )
  for (const time of [1, 2, 3]) {
    await pg.sql`update mooring_internal.round set due_at = '-infinity'`
    const won = await Promise.all(
      workers.map(
        async ({ sql, name }) =>
          (await sql<{ rounds: string[] }[]>`select rounds from mooring.tick(${name})`)[0]!.rounds,
      ),
    )
    t.same(won.flat().sort(), [...ROUNDS].sort(), `each once, time ${time}`)
  }
  t.same(
    (
      await pg.sql`
        select task_identifier as task
          from mooring_jobs.jobs
         where key like 'round:%'
         order by 1`
    ).map(({ task }) => task),
    [...ROUNDS].sort(),
    'and each has one job, not three',
  )
  t.equal((await pg.sql`select workers from mooring.fleet`)[0]!.workers, 20)
})

t.test(
  'a round that another session runs is not waited for, and comes back when that session fails',
  async (t) => {
    const pg = await stage(t)
    const [first, second] = [await pg.session('first'), await pg.session('second')]
    await first.begin()
    t.same((await first.sql`select rounds from mooring.tick('first')`)[0]!.rounds, ROUNDS)
    const [answer] = await second.sql<
      { rounds: string[]; next_ms: number }[]
    >`select rounds, next_ms from mooring.tick('second')`
    t.same(answer!.rounds, [], 'on a database as new as this one as well')
    t.ok(answer!.next_ms > 100, `and looks again in ${answer!.next_ms} ms, not at once`)
    await first.rollback()
    t.same((await second.sql`select rounds from mooring.tick('second')`)[0]!.rounds, ROUNDS)
  },
)

t.test('an agent that runs the rounds keeps the workers from none but those', async (t) => {
  const pg = await stage(t)
  await node(pg.sql, { name: 'host-a' })
  await deployments(pg.sql, 3)
  const [agent, worker] = [await pg.session('agent'), await pg.session('worker')]
  await pg.sql`
    update mooring_internal.round
       set due_at = clock_timestamp() + interval '20 s', done_at = clock_timestamp()
     where name in ('evict', 'prune')`
  const gate = await gateBefore(pg, 'tick', 'case name')
  await gate.stopHere(agent)
  const ticking = agent.start(
    (sql) =>
      sql<{ rounds: string[] }[]>`select rounds from mooring.tick('agent host-a', inline => true)`,
  )
  await waitsFor(t, pg, agent, gate.session)
  await pg.sql`
    update mooring_internal.round set due_at = clock_timestamp() where name in ('evict', 'prune')`
  t.same((await worker.sql`select rounds from mooring.tick('worker')`)[0]!.rounds, [
    'evict',
    'prune',
  ])
  await gate.open()
  t.same((await ticking.done)[0]!.rounds, ['reap', 'place'])
  t.equal(
    (await pg.sql`select from mooring.assignment where node_id is not null`).length,
    3,
    'and what it ran, it ran',
  )
})

t.test(
  'a worker that ticks without working: its jobs stay, and the agents do what they find undone',
  async (t) => {
    const pg = await stage(t)
    const hostA = await node(pg.sql, { name: 'host-a' })
    await deployments(pg.sql, 3)
    await pg.sql`select mooring.claim()`
    await pg.sql`select mooring.reap()`
    await age(pg.sql, 'host-a', '61 seconds ago')
    // from now on: what is done stays so during the story
    await pg.sql`update mooring.setting set lease_ttl = '2 min', round_interval = '20 s'`
    const hostB = await node(pg.sql, { name: 'host-b' })
    // its metronome wins every round in time and queues it for a runner that hangs
    for (const period of [1, 2, 3]) {
      await pg.sql`
        update mooring_internal.round
           set due_at = clock_timestamp() - interval '1 ms', done_at = done_at - interval '20 s'`
      t.ok(
        (await pg.sql`select rounds from mooring.tick('worker')`)[0]!.rounds.includes('reap'),
        `period ${period}`,
      )
    }
    t.match(await beat(pg.sql, hostB), { round_overdue: true })
    t.ok(
      (
        await pg.sql`select rounds from mooring.tick('agent host-b', inline => true)`
      )[0]!.rounds.includes('reap'),
    )
    t.match(await pg.sql`select node, assignments from mooring.node_status order by node`, [
      { node: hostA.name, assignments: 0 },
      { node: hostB.name, assignments: 3 },
    ])
    t.match(await beat(pg.sql, hostB), { round_overdue: false })
    t.same(
      (await pg.sql`select rounds from mooring.tick('agent host-b', inline => true)`)[0]!.rounds,
      [],
      'and no more than that',
    )
  },
)

t.test('one round that fails does not take the others with it', async (t) => {
  const pg = await stage(t)
  await node(pg.sql, { name: 'host-a' })
  await deployments(pg.sql, 3)
  await pg.sql.unsafe(
    `create or replace function mooring.reap(
      max_rows int default 10000, judged_at timestamptz default null
    ) returns setof mooring.assignment
      language plpgsql
      as $$ begin raise exception 'out of order'; end; $$`,
  )
  t.ok(
    (
      await pg.sql`select rounds from mooring.tick('agent host-a', inline => true)`
    )[0]!.rounds.includes('place'),
  )
  t.equal((await pg.sql`select from mooring.assignment where node_id is not null`).length, 3)
  t.match(await pg.sql`select reason from mooring.event where kind = 'round_failed'`, [
    { reason: 'round reap failed: out of order' },
  ])
})

t.test(
  'the jobs of a worker long without a tick are freed by one observer, those of the living are not',
  async (t) => {
    const pg = await stage(t)
    await pg.sql`select mooring.tick('dead', '{pool-dead}')`
    await pg.sql`select mooring.tick('alive', '{pool-alive}')`
    await pg.sql`
      select mooring_jobs.add_job('place', job_key => 'one'),
             mooring_jobs.add_job('place', job_key => 'two')`
    // as the runner of each locks them
    await pg.sql`
      update mooring_jobs._private_jobs
         set locked_at = now(),
             attempts = 1,
             locked_by = case key when 'one' then 'pool-dead' else 'pool-alive' end
       where key in ('one', 'two')`
    const lockedBy = async () =>
      (
        await pg.sql`
          select locked_by from mooring_jobs.jobs where key in ('one', 'two') order by key`
      ).map((row) => row.locked_by)
    await pg.sql`
      update mooring_internal.worker
         set ticked_at = clock_timestamp() - interval '5 s'
       where id = 'dead'`
    await pg.sql`select mooring.tick('alive', '{pool-alive}')`
    t.same(
      await lockedBy(),
      ['pool-dead', 'pool-alive'],
      'a worker that was away for a moment keeps its own',
    )
    await pg.sql`
      update mooring_internal.worker
         set ticked_at = clock_timestamp() - interval '10 s'
       where id = 'dead'`
    const workers = await Promise.all(
      Array.from({ length: 8 }, (_, nr) => pg.session(`worker ${nr}`)),
    )
    await Promise.all(workers.map(({ sql, name }) => sql`select mooring.tick(${name})`))
    t.same(await lockedBy(), [null, 'pool-alive'])
    t.match(await pg.sql`select detail from mooring.event where kind = 'worker_lost'`, [
      { detail: { worker: 'dead' } },
    ])
    await pg.sql`select mooring.tick('dead', '{pool-dead}')`
    t.equal(
      (await pg.sql`select from mooring_internal.worker where id = 'dead'`).length,
      1,
      'one that was only asleep is welcome back',
    )
  },
)

t.test(
  'negative control: without skip locked the second callers wait, and run the round again',
  async (t) => {
    const pg = await stage(t)
    await rewrite(pg.sql, 'tick', [
      'for update skip locked\n  ),\n  won_rounds',
      '),\n  won_rounds',
    ])
    const [first, second] = [await pg.session('first'), await pg.session('second')]
    await first.begin()
    t.same((await first.sql`select rounds from mooring.tick('first')`)[0]!.rounds, ROUNDS)
    const ticking = second.start(
      (sql) => sql<{ rounds: string[] }[]>`select rounds from mooring.tick('second')`,
    )
    await waitsFor(t, pg, second, first)
    await first.commit()
    t.same((await ticking.done)[0]!.rounds, ROUNDS, 'all four a second time')
  },
)
