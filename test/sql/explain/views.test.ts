import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import {
  age,
  assignments,
  beat,
  deployment,
  deployments,
  node,
  report,
} from '../../helpers/factories.js'
import { claim, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const health = async (sql: TransactionSql, name: string) =>
  (await sql<{ health: string }[]>`select health from mooring.node_status where node = ${name}`)[0]!
    .health

story(
  'placement: a row for each assignment, waiting, running, daemon or stopping',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a', max_assignments: 2 })
    await deployment(sql, { type: 'daemon', name: 'logs' })
    const ids = await deployments(sql, 3)
    await claim(sql)
    const rows = await assignments(sql, ids[0])
    await report(sql, host, rows[0]!, 'running', { pid: 12 })
    await sql`delete from mooring.deployment where id = ${ids[1]!}`
    const seen = await sql`
        select name, type, ordinal, package_name, policy, node, epoch, wanted, run_state, pid
          from mooring.placement
         order by assignment_id`
    const common = {
      name: null,
      type: 'deployment',
      ordinal: 0,
      package_name: 'http-server',
      policy: 'deployment_count',
      run_state: null,
      pid: null,
    }
    t.same(
      [...seen],
      [
        {
          ...common,
          name: 'logs',
          type: 'daemon',
          ordinal: null,
          node: 'host-a',
          epoch: '1',
          wanted: 'run',
        },
        { ...common, node: 'host-a', epoch: '1', wanted: 'run', run_state: 'running', pid: 12 },
        { ...common, node: 'host-a', epoch: '1', wanted: 'stop', package_name: null },
        { ...common, node: null, epoch: '0', wanted: 'run' },
      ],
    )
  },
)

story(
  'placement: an observation of an old epoch is not shown as the present state',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    await deployment(sql)
    await claim(sql)
    await report(sql, host, (await assignments(sql))[0]!, 'running', {
      pid: 12,
      restarts: 3,
      error: 'once',
    })
    await age(sql, 'host-a', '1 minute ago')
    await sql`select from mooring.reap()`
    const look = async () => {
      const [row] = await sql`
          select node, last_node, run_state, pid, restarts, last_error,
                 last_deployed_at is not null as deployed
            from mooring.placement`
      return row
    }
    t.same(await look(), {
      node: null,
      last_node: 'host-a',
      run_state: null,
      pid: null,
      restarts: 0,
      last_error: 'once',
      deployed: true,
    })
    await node(sql, { name: 'host-b' })
    await claim(sql)
    t.same(await look(), {
      node: 'host-b',
      last_node: 'host-a',
      run_state: null,
      pid: null,
      restarts: 0,
      last_error: 'once',
      deployed: true,
    })
  },
)

story('no view shows a value of env', async (t, sql) => {
  await node(sql)
  await deployment(sql, { env: { TOKEN: 'sesame' }, name: 'site' })
  await claim(sql)
  for (const view of ['placement', 'node_status', 'unplaced', 'failing', 'fleet', 'event', 'run']) {
    t.notMatch(JSON.stringify(await sql`select * from ${sql('mooring.' + view)}`), /sesame/, view)
  }
})

story(
  'health: UNKNOWN before the first beat, HEALTHY while it beats, STALE when the lease is over',
  async (t, sql) => {
    await node(sql, { name: 'host-a', seen: 'never' })
    const host = await node(sql, { name: 'host-b' })
    t.equal(await health(sql, 'host-a'), 'UNKNOWN')
    t.equal(await health(sql, 'host-b'), 'HEALTHY')
    await age(sql, 'host-b', '12.1 seconds ago')
    t.equal(await health(sql, 'host-b'), 'STALE')
    await beat(sql, host)
    t.equal(await health(sql, 'host-b'), 'HEALTHY')
    await sql`select mooring.leave('host-b', ${host.session})`
    t.equal(await health(sql, 'host-b'), 'LEFT')
  },
)

story('health: the disk floor makes UNHEALTHY, ten points above it LOW_DISK', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  for (const [pct, label] of [
    [14.9, 'UNHEALTHY'],
    [15, 'LOW_DISK'],
    [24.9, 'LOW_DISK'],
    [25, 'HEALTHY'],
  ] as const) {
    await beat(sql, host, { disk_free_pct: pct })
    t.equal(await health(sql, 'host-a'), label, `${pct} % free`)
  }
})

story('health: disabled and draining nodes say so', async (t, sql) => {
  await node(sql, { name: 'host-a', enabled: false })
  await node(sql, { name: 'host-b', draining: true })
  t.same([await health(sql, 'host-a'), await health(sql, 'host-b')], ['DISABLED', 'DRAINING'])
  const rows = await sql`select enabled, draining from mooring.node_status order by node`
  t.same(
    [...rows],
    [
      { enabled: false, draining: false },
      { enabled: true, draining: true },
    ],
  )
})

story('node_status counts what a node owns and what of it was observed running', async (t, sql) => {
  const host = await node(sql, {
    name: 'host-a',
    labels: { zone: 'b' },
    weight: 50,
    sample: { cpu_pct: 12.5, memory_mb: 300, disk_free_pct: 60 },
  })
  await node(sql, { name: 'host-b' })
  await deployment(sql, { type: 'daemon', selector: { zone: 'b' } })
  await sql`
    insert into mooring.deployment (package_name, pinned_node)
    select 'http-server', 'host-a'
      from generate_series(1, 3)`
  await claim(sql)
  const rows = await assignments(sql)
  await report(sql, host, rows[0]!, 'running')
  await report(sql, host, rows[1]!, 'running')
  await report(sql, host, rows[2]!, 'backoff')
  const status = await sql`
      select node, assignments, running, cpu_pct, memory_mb, disk_free_pct, weight, labels, session,
             beat_age < interval '1 minute' as young
        from mooring.node_status
       order by node`
  t.match(status, [
    {
      node: 'host-a',
      assignments: 4,
      running: 2,
      cpu_pct: 12.5,
      memory_mb: 300,
      disk_free_pct: 60,
      weight: 50,
      labels: { zone: 'b' },
      session: host.session,
      young: true,
    },
    { node: 'host-b', assignments: 0, running: 0, cpu_pct: null },
  ])
})

story('fleet is one row, also when there is nothing', async (t, sql) => {
  const look = async () => [
    ...(await sql`
      select nodes, healthy, deployments, assignments, assigned, running, waiting, hold,
             placement_lock_holder, workers
        from mooring.fleet`),
  ]
  t.same(await look(), [
    {
      nodes: 0,
      healthy: 0,
      deployments: 0,
      assignments: 0,
      assigned: 0,
      running: 0,
      waiting: 0,
      hold: null,
      placement_lock_holder: null,
      workers: 0,
    },
  ])
  const host = await node(sql, { name: 'host-a', max_assignments: 2 })
  await node(sql, { name: 'host-b', seen: '1 hour ago' })
  await deployments(sql, 4)
  await deployment(sql, { enabled: false })
  await claim(sql)
  await report(sql, host, (await assignments(sql))[0]!, 'running')
  const [me] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`
  t.same(
    await look(),
    [
      {
        nodes: 2,
        healthy: 1,
        deployments: 5,
        assignments: 5,
        assigned: 2,
        running: 1,
        waiting: 2,
        hold: null,
        placement_lock_holder: me!.pid,
        workers: 0,
      },
    ],
    'the claim of this transaction still holds the lock',
  )
  const [version] = await sql`select version = mooring.schema_version() as same from mooring.fleet`
  t.same(version, { same: true })
})

void t.test('the views answer in a read-only transaction, as on a standby', async (t) => {
  await pg.sql.begin('read only', async (sql) => {
    for (const view of ['placement', 'node_status', 'unplaced', 'failing', 'fleet'])
      t.ok(await sql`select * from ${sql('mooring.' + view)}`, view)
    t.ok(await sql`select * from mooring.last_events()`)
  })
})

story(
  'work of a node that is silent for longer than its lease is unknown, unless it had ended',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    await deployment(sql, { type: 'daemon' })
    await deployments(sql, 2)
    await claim(sql)
    const [daemon, runs, refused] = await assignments(sql)
    for (const [row, state] of [
      [daemon, 'running'],
      [runs, 'running'],
      [refused, 'refused'],
    ] as const)
      await report(sql, host, row!, state)
    const seen = async () => ({
      states: (await sql`select run_state from mooring.placement order by assignment_id`).map(
        ({ run_state }) => run_state as string,
      ),
      fleet: (await sql`select running from mooring.fleet`)[0]!.running as number,
      node: (await sql`select running from mooring.node_status`)[0]!.running as number,
    })
    const states = (await seen()).states
    t.match(await seen(), {
      fleet: states.filter((state) => state === 'running').length,
      node: states.filter((state) => state === 'running').length,
    })
    t.ok(states.includes('running'))
    await age(sql, 'host-a', '13 seconds ago')
    t.match(await seen(), {
      states: states.map((state) => (state === 'running' ? 'unknown' : state)),
      fleet: 0,
      node: 0,
    })
  },
)

story(
  'failing names what has a node and does not run there, and fleet counts it',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    for (const name of ['crashes', 'install', 'runs', 'ends'])
      await deployment(sql, { name, type: 'daemon' })
    await claim(sql)
    const reports = {
      crashes: ['backoff', { restarts: 3, error: 'exited with code 1' }],
      install: ['failed', { error: 'npm: no such version' }],
      runs: ['running', { restarts: 1 }],
      ends: ['backoff', { error: 'exited with code 2' }],
    } as const
    const rows = await sql<
      { name: keyof typeof reports; id: string; epoch: string }[]
    >`select p.name, p.assignment_id as id, p.epoch from mooring.placement p`
    for (const row of rows) {
      const [state, more] = reports[row.name]
      await report(sql, host, row, state, more)
    }
    await sql`update mooring.deployment set enabled = false where name = 'ends'`
    const failing = async () => ({
      rows: [
        ...(await sql`
        select name, node, run_state, restarts, reason, last_error_at is not null as dated
          from mooring.failing
         order by name`),
      ],
      counted: (await sql`select failing from mooring.fleet`)[0]!.failing as number,
    })
    const common = { node: 'host-a', dated: true }
    t.strictSame(await failing(), {
      rows: [
        {
          ...common,
          name: 'crashes',
          run_state: 'backoff',
          restarts: 3,
          reason: 'exited with code 1',
        },
        {
          ...common,
          name: 'install',
          run_state: 'failed',
          restarts: 0,
          reason: 'npm: no such version',
        },
      ],
      counted: 2,
    })
    await age(sql, 'host-a', '1 minute ago')
    t.strictSame(await failing(), { rows: [], counted: 0 }, 'of a silent node nothing is known')
  },
)
