// A rolling restart. The test plays the agents and the place round; the last story has real ones.
import t from 'tap'
import type { Test } from 'tap'
import { createQueries } from '../../../cli/queries/queries.js'
import { rollingRestart } from '../../../cli/progress/rolling-restart.js'
import type { RollNews, RollOptions } from '../../../cli/progress/rolling-restart.js'
import { hosts, live, PATIENCE_MS } from '../../e2e/hosts.js'
import { age, assignments, deployment, node, report } from '../../helpers/factories.js'
import type { DeploymentSpec } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'

/** host-a runs it all; nobody beats, so the lease is long. */
async function fleet(t: Test, spec: DeploymentSpec) {
  const pg = await testDatabase(t)
  await pg.sql`update mooring.setting set lease_ttl = '1 hour'`
  const host = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql, { name: 'web', ...spec })
  const rows = () => assignments(pg.sql, id)
  /** What the agent does that is told to: one round. state: of what it starts. */
  const obey = async (state = 'running') => {
    await pg.sql`select count(*) from mooring.claim()`
    for (const row of await rows()) {
      if (row.node === null) continue
      const [seen] = await pg.sql<
        { state: string; epoch: string }[]
      >`select r.state, r.epoch from mooring.run r where r.assignment_id = ${row.id}`
      if (row.wanted === 'stop') await report(pg.sql, host, row, 'stopped')
      else if (seen?.epoch !== row.epoch)
        await report(
          pg.sql,
          host,
          row,
          state,
          state === 'running' ? { pid: 1 } : { error: 'it fell over', restarts: 1 },
        )
    }
    await pg.sql`select count(*) from mooring.claim()`
  }
  await obey()
  const roll = async (
    options: Partial<RollOptions> & {
      state?: string
      each?: () => unknown
      after?: () => boolean
    } = {},
  ) => {
    // after: the agent does nothing before that
    const { state, each, after = () => true, ...rest } = options
    const news: RollNews[] = []
    let over = false
    const rolled = rollingRestart(createQueries(pg.sql), {
      deployments: [id],
      atOnce: 1,
      steadyFor: '0 s',
      timeoutMs: 30_000,
      signal: new AbortController().signal,
      say: (row) => news.push(row),
      ...rest,
    }).finally(() => {
      over = true
    })
    rolled.catch(() => {})
    await waitFor(
      async () => {
        await each?.()
        if (!over && after()) await obey(state)
        return over
      },
      {
        label: 'the roll is over',
        timeoutMs: 45_000,
        show: () => pg.sql`select * from mooring.placement`,
      },
    )
    return {
      news,
      result: await rolled.catch((error: unknown) => error as Error & { hint?: string }),
    }
  }
  return { ...pg, id, host, rows, obey, roll }
}

t.test(
  'Y CLI: a rolling restart stops the next only when the one before runs again on its node',
  async (t) => {
    const { roll, rows, sql } = await fleet(t, { replicas: 3 })
    let mostStopped = 0
    const { news, result } = await roll({
      each: async () => {
        mostStopped = Math.max(
          mostStopped,
          3 -
            (
              await sql`
                select from mooring.placement
                where run_state = 'running' and wanted = 'run'
              `
            ).length,
        )
      },
    })
    t.same(result, { restarted: 3, skipped: 0, left: 0, silent: [] })
    t.same(
      news.map(({ state }) => state),
      ['stopping', 'running', 'stopping', 'running', 'stopping', 'running'],
    )
    t.ok(mostStopped <= 1, `${mostStopped} at once`)
    t.match(await rows(), [
      { node: 'host-a', epoch: '3' },
      { node: 'host-a', epoch: '3' },
      { node: 'host-a', epoch: '3' },
    ])
  },
)

t.test('--at-once bounds how many are on their way', async (t) => {
  const { roll } = await fleet(t, { replicas: 4 })
  const { news, result } = await roll({ atOnce: 3 })
  t.match(result, { restarted: 4 })
  const underWay = news.map((_, i) =>
    news.slice(0, i + 1).reduce((sum, { state }) => sum + (state === 'stopping' ? 1 : -1), 0),
  )
  t.equal(Math.max(...underWay), 3)
})

t.test(
  'a process that does not come up ends the roll with its name and a hint; the others run on',
  async (t) => {
    const { roll, rows } = await fleet(t, { replicas: 3 })
    const { result } = await roll({ state: 'backoff' })
    const [first, ...others] = await rows()
    t.match(result, {
      message: new RegExp(
        `^assignment ${first!.id} of web does not come up on host-a: backoff, started ` +
          'again 1 times \\(it fell over\\); 2 more were not touched$',
      ),
      hint: /mooring logs \d+.*mooring restart deployment web/,
    })
    t.match(others, [
      { epoch: '1', wanted: 'run' },
      { epoch: '1', wanted: 'run' },
    ])
  },
)

t.test(
  'one that has no node any more ends it when its time is over, with the reason',
  async (t) => {
    const { roll, host, sql, rows } = await fleet(t, { replicas: 1 })
    let done = false
    const { result } = await roll({
      timeoutMs: 8_000,
      after: () => done,
      each: async () => {
        const [row] = await rows()
        if (done || row!.wanted === 'run') return
        await sql`update mooring.node set trusts = null where id = ${host.id}`
        done = true
      },
    })
    t.match(result, {
      message: /of web waits for a node since its restart: no node trusts/,
      hint: '`mooring explain web`',
    })
  },
)

t.test(
  'an interrupted roll orders nothing more; the next roll goes on and restarts nothing twice',
  async (t) => {
    const { roll, rows, obey } = await fleet(t, { replicas: 3 })
    const stop = new AbortController()
    const first = await roll({ signal: stop.signal, say: () => stop.abort() })
    t.match(first.result, { restarted: 0, left: 3 })
    const before = await rows()
    t.equal(
      before.filter(({ epoch, wanted }) => epoch === '1' && wanted === 'run').length,
      2,
      'the rest runs as it was',
    )
    const { result } = await roll()
    t.match(result, { left: 0 })
    await obey()
    const after = await rows()
    t.match(after, [{ node: 'host-a' }, { node: 'host-a' }, { node: 'host-a' }])
    t.ok(after.slice(1).every(({ epoch }) => epoch === '3'))
  },
)

t.test('what is disabled, scaled down or waiting is passed by', async (t) => {
  const { roll, sql, id } = await fleet(t, { replicas: 2 })
  await sql`update mooring.node set max_assignments = 2`
  await sql`update mooring.deployment set replicas = 3 where id = ${id}`
  let edited = false
  const { news, result } = await roll({
    after: () => edited,
    each: async () => {
      if (edited || (await sql`select from mooring_internal.moves_under_way()`).length === 0) return
      edited = true
      await sql`update mooring.deployment set replicas = 1 where id = ${id}`
    },
  })
  t.match(result, { restarted: 1, skipped: 2 })
  t.match(
    news.filter(({ state }) => state === 'skipped').map(({ note }) => note),
    [/waits for a node/, /gone|to stop/],
  )
})

/** Of its replicas one is on host-b, which has been silent for an hour and is not reaped. */
async function oneSilent(t: Test, spec: DeploymentSpec) {
  const it = await fleet(t, spec)
  const lost = await node(it.sql, { name: 'host-b' })
  const [last] = (await it.rows()).slice(-1)
  await it.sql`select from mooring.reassign(${last!.id}::bigint, 'host-b')`
  await it.obey()
  for (const row of await it.rows())
    if (row.node === 'host-b') await report(it.sql, lost, row, 'running', { pid: 2 })
  await age(it.sql, 'host-b', '-2 hours')
  return { ...it, moved: last!.id }
}

t.test('what is on a silent node is passed by, and told at the end', async (t) => {
  const { roll, moved, rows } = await oneSilent(t, { replicas: 3 })
  const { news, result } = await roll()
  t.same(result, { restarted: 2, skipped: 1, left: 0, silent: ['host-b'] })
  t.match(
    news.find(({ state }) => state === 'skipped'),
    { assignment_id: moved, note: 'its node host-b is silent' },
  )
  t.match(
    (await rows()).filter(({ id }) => id !== moved),
    [{ epoch: '3' }, { epoch: '3' }],
    'the living ones are other processes now',
  )
})

t.test('the last one that is known to run is left beside a silent one', async (t) => {
  const { roll, rows, moved } = await oneSilent(t, { replicas: 2 })
  const before = (await rows()).find(({ id }) => id !== moved)!
  const { result, news } = await roll({ timeoutMs: 500 })
  t.match(result, { restarted: 0, skipped: 2, silent: ['host-b'] })
  t.match(news.map(({ note }) => note).sort(), [
    'its node host-b is silent',
    'too few others run, because some are on a silent node',
  ])
  t.equal((await rows()).find(({ id }) => id === before.id)!.epoch, before.epoch)
})

t.test('one whose node falls silent while it is to stop ends no roll', async (t) => {
  const { roll, sql } = await oneSilent(t, { replicas: 3 })
  let silent = false
  const { result } = await roll({
    after: () => false,
    each: async () => {
      if (silent || (await sql`select from mooring_internal.moves_under_way()`).length === 0) return
      silent = true
      await age(sql, 'host-a', '-2 hours')
    },
  })
  t.match(result, { restarted: 0, skipped: 3, left: 0 })
  t.same((result as { silent: string[] }).silent.sort(), ['host-a', 'host-b'])
})

t.test('a daemon is rolled too: its row is another one afterwards', async (t) => {
  const { roll, rows, id } = await fleet(t, { type: 'daemon' })
  const [before] = await rows()
  const { result, news } = await roll()
  t.match(result, { restarted: 1, skipped: 0 })
  const [after] = await rows()
  t.not(after!.id, before!.id)
  t.match(news.at(-1), {
    state: 'running',
    deployment_id: id,
    node: 'host-a',
    assignment_id: after!.id,
  })
})

t.test(
  'on the command line a roll prints a line for each process; --hard makes a new generation',
  async (t) => {
    const { sql, url, id } = await fleet(t, { replicas: 2 })
    const env = { MOORING_STATE_DIR: tempDir(t) }
    const run = async (...args: string[]) => {
      const program = mooring(t, ['restart', ...args], { databaseUrl: url, env })
      const { code } = await program.exited
      return { code, stdout: program.stdout(), stderr: program.stderr() }
    }
    t.match(await run('deployment', 'web', '--hard'), {
      code: 0,
      stdout: 'web restarts: 2 processes; it is at generation 2\n',
    })
    t.match(JSON.parse((await run('deployment', '--all', '--hard', '--json')).stdout), [
      { id, name: 'web', generation: '3' },
    ])
    t.match(await sql`select generation from mooring.deployment`, [{ generation: '3' }])
    const roll = mooring(t, ['restart', 'deployment', 'web'], { databaseUrl: url, env })
    await roll.said('stops on host-a')
    roll.kill('SIGINT')
    t.equal((await roll.exited).code, 1)
    t.match(
      roll.stderr(),
      new RegExp(
        'stopped here: 0 restarted, 2 left; those under way start by themselves\\nhint: to ' +
          'continue: `mooring restart deployment web`',
      ),
    )
    t.match(await sql`select count(*)::int as n from mooring_internal.moves_under_way()`, [
      { n: 1 },
    ])
    await sql`update mooring.deployment set enabled = false`
    t.match(await run('deployment', 'web'), {
      code: 0,
      stdout: new RegExp(
        'left as it is: it is to stop: its deployment is disabled[^]*0 restarted, 2 left ' +
          'as they were',
      ),
    })
    await sql`update mooring.deployment set enabled = true`
    await age(sql, 'host-a', '-2 hours')
    t.match(await run('deployment', 'web'), { code: 0, stdout: /as they were; silent: host-a\n$/ })
    await sql`delete from mooring.deployment`
    await sql`insert into mooring.deployment (name, package_name, replicas) values ('none', 'x', 0)`
    t.match(await run('deployment', 'none'), {
      code: 0,
      stdout: 'nothing to restart: no instance runs\n',
    })
  },
)

t.test(
  'Y CLI: restart with real agents: other processes on the same hosts, and never both away',
  async (t) => {
    const pg = await testDatabase(t)
    const fleet = hosts(t, pg.url)
    fleet.worker()
    fleet.agent('host-a')
    fleet.agent('host-b')
    await live(pg.sql, 'host-a', 'host-b')
    await deployment(pg.sql, { name: 'nap', command: 'sleep', args: ['600'], replicas: 2 })
    const running = async () =>
      await pg.sql<{ node: string; pid: number; epoch: string }[]>`
        select p.node, p.pid, p.epoch
        from mooring.placement p
        where p.run_state = 'running' and p.pid is not null
        order by p.assignment_id
      `
    await waitFor(async () => (await running()).length === 2, {
      label: 'both run',
      timeoutMs: PATIENCE_MS,
      show: () => pg.sql`select * from mooring.placement`,
    })
    const before = await running()
    const command = mooring(
      t,
      ['restart', 'deployment', 'nap', '--steady', '0', '--reason', 'a test', '--json'],
      { databaseUrl: pg.url },
    )
    let fewest = 2
    await waitFor(
      async () => {
        fewest = Math.min(fewest, (await running()).length)
        return command.ended()
      },
      {
        label: 'the roll is over',
        timeoutMs: 2 * PATIENCE_MS,
        show: () => `${command.stdout()}${command.stderr()}`,
      },
    )
    t.equal((await command.exited).code, 0, command.stderr())
    t.match(JSON.parse(command.stdout().trim().split('\n').at(-1)!), { restarted: 2, skipped: 0 })
    const after = await running()
    t.ok(fewest >= 1)
    t.same(
      after.map(({ node }) => node),
      before.map(({ node }) => node),
    )
    t.ok(after.every(({ pid, epoch }, i) => pid !== before[i]!.pid && epoch === '3'))
    t.match(await pg.sql`select distinct reason from mooring.event where kind = 'move_wanted'`, [
      { reason: 'restarted: a test' },
    ])
  },
)
