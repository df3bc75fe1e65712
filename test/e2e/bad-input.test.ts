import type { Sql } from 'postgres'
import t from 'tap'
import { placements, running } from '../agent/fleet.js'
import { deployment } from '../helpers/factories.js'
import { testDatabase } from '../helpers/postgres.js'
import { packageRegistry } from '../helpers/registry.js'
import { waitFor } from '../helpers/wait-for.js'
import { alive, eventsOf, hosts, live, PATIENCE_MS, processes, shortLeases } from './hosts.js'

const INSTALL_MS = 120_000

async function placementOf(sql: Sql, deployment: string) {
  const rows = await sql<
    {
      node: string | null
      run_state: string | null
      pid: number | null
      restarts: number
      last_error: string | null
      exit_code: number | null
    }[]
  >`
    select p.node, p.run_state, p.pid, p.restarts, p.last_error, p.exit_code
      from mooring.placement p
     where p.deployment_id = ${deployment}`
  return rows[0]!
}

const saysError = (sql: Sql, deployment: string, text: RegExp) =>
  waitFor(
    async () => {
      const row = await placementOf(sql, deployment)
      return text.test(row.last_error ?? '') ? row : null
    },
    { label: `its last error is ${text}`, timeoutMs: INSTALL_MS, show: () => placements(sql) },
  )

const runs = (sql: Sql, deployment: string) =>
  waitFor(
    async () => {
      const row = await placementOf(sql, deployment)
      return row.run_state === 'running' && alive(row.pid) ? row : null
    },
    { label: 'it runs', timeoutMs: INSTALL_MS, show: () => placements(sql) },
  )

await packageRegistry(t)

t.test(
  'packages that cannot run say why and run once mended (defect 11: failure kept as success)',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '30 s')
    const { agent, worker } = hosts(t, url)
    worker()
    const host = agent('host-a', { trust: '^(http-server|@types/ms)@', exec: false })
    await live(sql, 'host-a')
    const args = ['-a', '127.0.0.1', '-p', ' 0']
    const missing = await deployment(sql, {
      package_name: 'http-server',
      package_version: '99.99.99',
      args,
    })
    const library = await deployment(sql, {
      package_name: '@types/ms',
      package_version: '2.1.0',
      args,
    })

    t.match(await saysError(sql, missing, /99\.99\.99/), { node: 'host-a', pid: null })
    t.match(await saysError(sql, library, /neither a bin nor a main/), {
      node: 'host-a',
      pid: null,
    })
    await sql`
      update mooring.deployment set package_name = 'http-server', package_version = '14.1.1'`
    t.match(await runs(sql, missing), { node: 'host-a', restarts: 0 })
    t.match(await runs(sql, library), { node: 'host-a', restarts: 0 })
    t.equal(host.ended(), false)
  },
)

t.test(
  'defect 8: what no agent trusts is not claimed and says so; it runs when a trusting agent comes',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '30 s')
    const { agent, worker } = hosts(t, url)
    worker()
    agent('host-a', { trust: '^http-server@', exec: false })
    await live(sql, 'host-a')
    const untrusted = await deployment(sql, {
      package_name: '@types/ms',
      package_version: '2.1.0',
      command: 'sleep',
      args: ['1000'],
    })
    const command = await deployment(sql, { command: 'sleep', args: ['1000'] })
    const reason = async (id: string) =>
      (
        await sql<
          { reason: string }[]
        >`select u.reason from mooring.unplaced u where u.deployment_id = ${id}`
      )[0]?.reason
    t.match(
      await reason(command),
      /does not run custom commands: start an agent there with --allow-exec/,
    )
    t.match(await reason(untrusted), /--allow-exec/)
    await sql`update mooring.deployment set command = null, args = '[]' where id = ${untrusted}`
    t.match(
      await reason(untrusted),
      /no node trusts @types\/ms@2\.1\.0: 1 node trusts \^http-server@/,
    )
    t.equal(await eventsOf(sql, 'claimed'), 0)

    await sql`
      update mooring.deployment set command = 'sleep', args = '["1000"]' where id = ${untrusted}`
    agent('host-b', { trust: '^@types/' })
    t.match(await runs(sql, command), { node: 'host-b' })
    t.match(await runs(sql, untrusted), { node: 'host-b' })
    t.equal((await sql`select from mooring.unplaced`).length, 0)
  },
)

t.test(
  'a command that cannot start or crashes says so and runs once mended (defect 11: crash loop)',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '30 s')
    const { agent, worker } = hosts(t, url)
    worker()
    const host = agent('host-a')
    await live(sql, 'host-a')
    const healthy = await deployment(sql, { command: 'sleep', args: ['1000'] })
    const before = await runs(sql, healthy)
    const absent = await deployment(sql, { command: 'no-such-program-anywhere' })
    const large = await deployment(sql, {
      command: 'sleep',
      args: ['1000'],
      env: { HUGE: 'geheim'.repeat(35_000) },
    })
    const crashing = await deployment(sql, { command: 'sh', args: ['-c', 'exit 3'] })
    await t.rejects(
      deployment(sql, { command: 'sleep', env: { HUGE: 'x'.repeat(300_000) } }),
      /deployment_env_is_bounded/,
    )
    await t.rejects(
      deployment(sql, { command: 'sleep', env: { NUL: 'a\0b' } }),
      /unsupported Unicode escape sequence/,
      'Postgres itself takes no NUL',
    )

    t.match(await saysError(sql, absent, /there is no program "no-such-program-anywhere"/), {
      node: 'host-a',
      pid: null,
    })
    t.match(await saysError(sql, large, /E2BIG/), { node: 'host-a', pid: null })
    t.notMatch(
      `${host.stderr()}${JSON.stringify(
        await sql`
        select * from mooring.placement`,
      )}${JSON.stringify(
        await sql`
        select * from mooring.event`,
      )}`,
      /geheim/,
      'no value of the environment is shown anywhere',
    )
    const crashed = await waitFor(
      async () => {
        const row = await placementOf(sql, crashing)
        return row.restarts >= 3 ? row : null
      },
      {
        label: 'it has been started four times',
        timeoutMs: PATIENCE_MS,
        show: () => placementOf(sql, crashing),
      },
    )
    t.match(crashed, { node: 'host-a', exit_code: 3, last_error: /exited with code 3 after/ })
    const delays = host
      .events('process_ended')
      .filter((line) => line['exit_code'] === 3)
      .map((line) => line['next_start_in_ms'] as number)
    t.ok(
      delays.slice(1).every((delay, nr) => delay > delays[nr]!),
      `each wait is longer than the one before: ${delays.join(', ')} ms`,
    )

    await sql`
      update mooring.deployment
         set command = 'sleep', args = '["1000"]', env = '{}'
       where id = any (${[absent, large, crashing]})`
    for (const id of [absent, large, crashing])
      t.match(await runs(sql, id), { node: 'host-a', restarts: 0 })
    const rows = await running(sql, 4, PATIENCE_MS)
    t.strictSame(
      processes(rows)[0],
      ['1', 'host-a', '1', before.pid],
      'their neighbour has noticed nothing',
    )
  },
)
