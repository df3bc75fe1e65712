import t from 'tap'
import { placements, running, sleeper } from '../agent/fleet.js'
import { testDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'
import { alive, eventsOf, gone, hosts, live, PATIENCE_MS, processes, shortLeases } from './hosts.js'

t.test(
  `
    with no worker at all the agents place what is inserted, and take over
      from a host that dies (defect 1: nothing was placed by a dead scheduler)`,
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql)
    const { agent } = hosts(t, url)
    agent('host-a')
    const b = agent('host-b')
    await live(sql, 'host-a', 'host-b')
    await sleeper(sql, { type: 'daemon' })
    await sql`
      insert into mooring.deployment (command, args)
      select 'sleep', '["1000"]'
        from generate_series(1, 10)`
    const before = await running(sql, 12, PATIENCE_MS)
    t.same(
      [
        ...(await sql`
          select p.node, count(*)::int
            from mooring.placement p
           where p.type = 'deployment'
           group by p.node
           order by p.node`),
      ],
      [
        { node: 'host-a', count: 5 },
        { node: 'host-b', count: 5 },
      ],
    )

    const lost = before.filter((row) => row.node === 'host-b')
    b.killTree()
    await b.exited
    await gone(
      lost.map((row) => row.pid),
      'host-b is dead',
    )
    const after = await waitFor(
      async () => {
        const rows = (await placements(sql)).filter(
          (row) => row.node === 'host-a' && row.run_state === 'running',
        )
        return rows.length === 11 ? rows : null
      },
      {
        label: 'host-a runs all ten, and its daemon',
        timeoutMs: PATIENCE_MS,
        show: () => placements(sql),
      },
    )
    t.ok(after.every((row) => alive(row.pid)))
    const mine = before.filter((row) => row.node === 'host-a')
    t.strictSame(
      processes(after.filter((row) => mine.some((of) => of.assignment_id === row.assignment_id))),
      processes(mine),
    )
    t.equal(await eventsOf(sql, 'reaped'), 5, 'daemons stay with their host')
    t.equal((await sql`select from mooring_internal.worker`).length, 0)

    await sql`delete from mooring.deployment`
    await gone(
      after.map((row) => row.pid),
      'what is deleted is stopped',
    )
    await waitFor(async () => (await placements(sql)).every((row) => row.node === 'host-b'), {
      label: 'and its rows go; the dead host has not been heard',
      timeoutMs: PATIENCE_MS,
      show: () => placements(sql),
    })
  },
)

t.test(
  'a worker that is killed at its work is replaced: by another that runs, or by a later one',
  async (t) => {
    const { url, sql, client } = await testDatabase(t)
    await shortLeases(sql, '30 s')
    // only workers: an agent would do their rounds
    await sql`select from mooring.register_node('host-a', gen_random_uuid(), '.', '{npm,exec}')`
    const { worker } = hosts(t, url)
    const insert = () =>
      sql`insert into mooring.deployment (command) select 'true' from generate_series(1, 50)`
    const assigned = async () =>
      (
        await sql<
          { n: number }[]
        >`select count(*)::int as n from mooring.assignment a where a.node_id is not null`
      )[0]!.n
    const workers = async () => (await sql`select from mooring_internal.worker`).length
    const first = worker()
    await insert()
    await waitFor(async () => (await assigned()) === 50, {
      label: 'the worker places',
      timeoutMs: PATIENCE_MS,
    })
    await waitFor(async () => (await workers()) === 1, { label: 'and has said that it lives' })

    // its job waits for the placement lock, which this transaction holds
    const stranger = await client().reserve()
    await stranger`begin`
    // in one transaction: it may be idle for longer than the lock allows, because here a machine
    // that stands still is no fault to survive
    await Promise.all([
      stranger`select mooring_internal.lock_placement()`,
      stranger`set local idle_in_transaction_session_timeout = 0`,
    ])
    await insert()
    await waitFor(
      async () =>
        (
          await sql`
            select
              from mooring_jobs.jobs j
             where j.locked_at is not null and j.task_identifier = 'place'`
        ).length > 0,
      { label: 'the worker has locked its job', timeoutMs: PATIENCE_MS },
    )
    first.kill('SIGKILL')
    await first.exited
    await stranger`rollback`
    stranger.release()

    const second = worker()
    await waitFor(async () => (await assigned()) === 100, {
      label: 'another worker does what the first has left',
      timeoutMs: PATIENCE_MS,
      show: () => sql`select * from mooring.fleet`,
    })
    await waitFor(async () => (await eventsOf(sql, 'worker_lost')) === 1, {
      label: 'the dead worker is missed',
      timeoutMs: PATIENCE_MS,
      show: () => sql`select * from mooring_internal.worker`,
    })
    await waitFor(
      async () =>
        (
          await sql`
            select
              from mooring_jobs.jobs j
             where j.locked_by is not null and j.locked_at < now() - interval '10 s'`
        ).length === 0,
      { label: 'the jobs of the dead are free', timeoutMs: PATIENCE_MS },
    )

    const third = worker()
    await waitFor(async () => (await workers()) === 2, {
      label: 'two workers tick',
      timeoutMs: PATIENCE_MS,
    })
    second.kill('SIGKILL')
    await second.exited
    await insert()
    await waitFor(async () => (await assigned()) === 150, {
      label: 'the third places',
      timeoutMs: PATIENCE_MS,
    })
    t.equal(third.ended(), false)
    third.kill('SIGTERM')
    t.same(await third.exited, { code: 0, signal: null })
  },
)
