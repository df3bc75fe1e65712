/**
 * Sixteen workers claim and four reap, all at once, as fast as they can, while hosts fall silent
 * and come back. Such a crowd finds what the stories with two actors did not. Afterwards the
 * history has to add up: nothing was given twice under one epoch, no epoch was skipped or repeated,
 * no load is counted wrong, and no session died in a deadlock.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { waitFor } from '../helpers/wait-for.js'
import { age, assignments, beat, deployments, node } from '../helpers/factories.js'
import { rewrite, stage, waitsFor, type Stage } from './stage.js'

const DEPLOYMENTS = 1_000

async function historyAddsUp(t: Parameters<typeof stage>[0], pg: Stage): Promise<void> {
  const twice = await pg.sql`
      select assignment_id, epoch, count(*)
        from mooring.event
       where kind in ('claimed', 'released', 'reaped', 'refused')
       group by 1, 2
       having count(*) > 1`
  t.same([...twice], [], 'one event for each assignment and epoch')
  const wrong = await pg.sql`
    select e.assignment_id, e.kind, e.epoch, e.before
      from (
        select e.assignment_id, e.kind, e.epoch, lag(e.epoch) over w as before,
               lag(e.kind) over w as kind_before
          from mooring.event e
         where e.kind in ('claimed', 'released', 'reaped', 'refused') window w as (
           partition by e.assignment_id order by e.epoch
         )
      ) e
     where e.epoch <> coalesce(e.before, 0) + 1
        or (e.kind = 'claimed') = (coalesce(e.kind_before, 'released') = 'claimed')`
  t.same([...wrong], [], 'claimed and reaped in turn, the epoch one higher each time')
  const stale = await pg.sql`
    select a.id, a.epoch
      from mooring.assignment a
     where a.epoch <> (
       select max(e.epoch)
         from mooring.event e
        where e.assignment_id = a.id and e.kind in ('claimed', 'released', 'reaped', 'refused')
     )
        or a.node_id is distinct from (
          select case e.kind when 'claimed' then e.node_id end
            from mooring.event e
           where e.assignment_id = a.id
             and e.epoch = a.epoch
             and e.kind in ('claimed', 'released', 'reaped', 'refused')
        )`
  t.same([...stale], [], 'and each row is as its last event says')
  t.same(
    [
      ...(await pg.sql`
        select n.name
          from mooring.node n
          left join mooring_internal.assigned_per_node() l on l.node_id = n.id
         where coalesce(l.assigned, 0) <> (
           select count(*)
             from mooring.assignment a
            where a.node_id = n.id and a.ordinal is not null
         )`),
    ],
    [],
    'the loads are what is owned',
  )
  const deadlocks = async () =>
    (
      await pg.sql<
        { deadlocks: string }[]
      >`select deadlocks from pg_stat_database where datname = current_database()`
    )[0]!.deadlocks
  t.equal(await deadlocks(), '0', 'no deadlock')
}

for (const claimers of [2, 16]) {
  t.test(
    `defect 13: ${claimers} claimers place ${DEPLOYMENTS} deployments, each once, and evenly`,
    async (t) => {
      const pg = await stage(t)
      for (const name of ['host-a', 'host-b', 'host-c', 'host-d']) await node(pg.sql, { name })
      await deployments(pg.sql, DEPLOYMENTS)
      const workers = await Promise.all(
        Array.from({ length: claimers }, (_, nr) => pg.session(`claimer ${nr}`)),
      )
      const placed = await Promise.all(
        workers.map(async ({ sql }) => {
          const mine: string[] = []
          while (
            (await pg.sql`select from mooring.assignment where node_id is null limit 1`).length > 0
          )
            mine.push(
              ...(await sql<{ id: string }[]>`select id from mooring.claim(37)`).map(
                ({ id }) => id,
              ),
            )
          return mine
        }),
      )
      t.equal(placed.flat().length, DEPLOYMENTS)
      t.equal(new Set(placed.flat()).size, DEPLOYMENTS, 'none twice')
      t.match(
        await pg.sql`select node, assignments from mooring.node_status order by node`,
        ['host-a', 'host-b', 'host-c', 'host-d'].map((name) => ({
          node: name,
          assignments: DEPLOYMENTS / 4,
        })),
      )
      await historyAddsUp(t, pg)
    },
  )
}

t.test(
  `16 claimers and 4 reapers of ${DEPLOYMENTS} deployments while hosts go, return, and refuse`,
  async (t) => {
    const pg = await stage(t)
    const hosts = await Promise.all(
      Array.from({ length: 8 }, (_, nr) => node(pg.sql, { name: `host-${nr}` })),
    )
    await deployments(pg.sql, DEPLOYMENTS)
    const enough = new AbortController()
    const loop = async (
      name: string,
      step: (sql: Awaited<ReturnType<Stage['session']>>['sql'], round: number) => Promise<unknown>,
    ): Promise<number> => {
      const { sql } = await pg.session(name)
      let round = 0
      for (; !enough.signal.aborted; round++) await step(sql, round)
      return round
    }
    const claimers = Array.from({ length: 16 }, (_, nr) =>
      loop(`claimer ${nr}`, (sql) => sql`select count(*) from mooring.claim(50)`),
    )
    const reapers = Array.from({ length: 4 }, (_, nr) =>
      loop(`reaper ${nr}`, (sql) => sql`select count(*) from mooring.reap(50)`),
    )
    // each host is silent every third time it is looked at, and beats again soon after, with a new
    // session at times
    const agents = hosts.map((host, nr) =>
      loop(`agent ${nr}`, async (sql, round) => {
        if (round % 3 === nr % 3) await age(sql, host.name, '61 seconds ago')
        else if (round % 7 === 0) {
          const session = randomUUID()
          await sql`
            select *
              from mooring.register_node(
                ${host.name}, ${session}, '.', '{npm,exec}', replaces => ${host.session}
              )`
          host.session = session
        } else await beat(sql, host)
        const mine = await sql<
          { assignment_id: string; epoch: string; generation: string; wanted: string }[]
        >`select assignment_id, epoch, generation, wanted from mooring.assignments_of(${host.name})`
        // the first is refused now and then; the user's edits let the host be asked again
        const states = mine.map((of, at) => ({
          ...of,
          state:
            of.wanted === 'stop' ? 'stopped' : at === 0 && round % 5 === 0 ? 'refused' : 'running',
        }))
        if (round % 2 === 0) states.reverse()
        await sql`select * from mooring.report(${host.name}, ${host.session}, ${sql.json(states)})`
      }),
    )
    const user = loop('user', async (sql, round) => {
      await sql`
        update mooring.deployment set generation = generation + 1 where id % 50 = ${round % 50}`
      await sql`
        update mooring.deployment set enabled = not enabled where id % 50 = ${(round * 7) % 50}`
    })
    // however long it takes here: where no worker ticks, everything is held
    const metronome = loop('metronome', async (sql) => {
      await sql`update mooring_internal.pulse set pulse_at = clock_timestamp()`
      await pause(50)
    })
    const crowd = Promise.all([...claimers, ...reapers, ...agents, user, metronome])
    const turmoil = waitFor(
      async () =>
        (await pg.sql`select from mooring.event where kind = 'reaped' offset 1000 limit 1`).length >
        0,
      { label: 'a thousand rows were reaped', timeoutMs: 60_000 },
    )
    await Promise.race([crowd, turmoil]).finally(() => enough.abort())
    await crowd
    await historyAddsUp(t, pg)
    // and when it is quiet again everything that is wanted finds a place
    await pg.sql`update mooring.deployment set enabled = true, generation = generation + 1`
    for (const host of hosts) await beat(pg.sql, host)
    await pg.sql`update mooring_internal.pulse set pulse_at = clock_timestamp()`
    await pg.sql`select count(*) from mooring.claim()`
    const rows = await assignments(pg.sql)
    t.equal(rows.length, DEPLOYMENTS)
    t.same(
      rows.filter((row) => row.node === null),
      [],
    )
    await historyAddsUp(t, pg)
  },
)

t.test(
  'negative control: without locks on placement and rows two claimers place the same work',
  async (t) => {
    const pg = await stage(t)
    await node(pg.sql, { name: 'host-a' })
    await node(pg.sql, { name: 'host-b' })
    await deployments(pg.sql, 1)
    await pg.sql.unsafe(
      `
        create or replace function mooring_internal.lock_placement(
          must_wait boolean default false
        ) returns boolean
          language sql
          return true`,
    )
    await rewrite(pg.sql, 'claim', ['for update skip locked', ''])
    const [first, second] = [await pg.session('first'), await pg.session('second')]
    await first.begin()
    t.equal((await first.sql`select * from mooring.claim()`).length, 1)
    const claiming = second.start((sql) => sql`select * from mooring.claim()`)
    await waitsFor(t, pg, second, first)
    await first.commit()
    t.equal((await claiming.done).length, 1)
    t.equal(
      (await pg.sql`select from mooring.event where kind = 'claimed' and epoch = 1`).length,
      2,
      'one token, given twice',
    )
  },
)
