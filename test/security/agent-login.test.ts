// Real agents, each with a login of its own that reads no table. No worker and no owner runs.
import t from 'tap'
import { placements } from '../agent/fleet.js'
import { eventsOf, gone, hosts, live, PATIENCE_MS, shortLeases } from '../e2e/hosts.js'
import { login } from '../helpers/logins.js'
import { testDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'

t.test(
  'agents under own logins run, place and take over; a stolen name is refused with a reason',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql)
    const { agent } = hosts(t, url)
    const [a, b] = [
      await login(t, { url }, ['mooring_agent']),
      await login(t, { url }, ['mooring_agent']),
    ]
    const operator = await login(t, { url }, ['mooring_operator'])
    agent('host-a', { databaseUrl: a.url })
    const second = agent('host-b', { databaseUrl: b.url })
    await live(sql, 'host-a', 'host-b')
    await operator.sql`
      insert into mooring.deployment (command, args, env)
      select 'sleep', '["1000"]', '{"TOKEN": "hunter2"}'
        from generate_series(1, 4)`
    const runningOn = (node: string, n: number) =>
      waitFor(
        async () => {
          const rows = (await placements(sql)).filter(
            (row) => row.node === node && row.run_state === 'running',
          )
          return rows.length === n ? rows : null
        },
        { label: `${n} run on ${node}`, timeoutMs: PATIENCE_MS, show: () => placements(sql) },
      )
    await runningOn('host-a', 2)
    const lost = await runningOn('host-b', 2)

    const short = agent('host-c', { databaseUrl: a.url })
    await live(sql, 'host-c')
    short.kill('SIGTERM')
    await short.exited
    await operator.sql`update mooring.node set role_name = ${b.name} where name = 'host-c'`
    const refused = agent('host-c', { databaseUrl: a.url })
    await waitFor(() => refused.events('database_unfit').some((line) => line['code'] === 'MR009'), {
      label: 'the refused agent says so',
      timeoutMs: PATIENCE_MS,
      show: () => refused.stderr(),
    })

    second.killTree()
    await second.exited
    await gone(
      lost.map((row) => row.pid),
      'host-b is dead',
    )
    await runningOn('host-a', 4)
    t.ok((await eventsOf(sql, 'reaped')) >= 2)
    t.equal((await sql`select from mooring_internal.worker`).length, 0)
    t.same(
      (
        await sql<
          { actor: string }[]
        >`select distinct e.actor from mooring.event e where e.kind in ('claimed', 'reaped')`
      ).filter(
        ({ actor }) => !new RegExp(`^(${a.name}|${b.name}) \\(mooring agent host-`).test(actor),
      ),
      [],
      'agents did it',
    )
  },
)
