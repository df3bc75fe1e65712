import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, deployments, node, report } from '../../helpers/factories.js'
import { claim, events, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

async function owned(sql: TransactionSql) {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  return { host, row: (await assignments(sql))[0]! }
}

const run = async (sql: TransactionSql) => {
  const [row] = await sql`
      select *, next_start_at - clock_timestamp() between interval '1 s' and interval '5 s' as soon
        from mooring.run`
  return row!
}

story('a report is what the placement shows', async (t, sql) => {
  const { host, row } = await owned(sql)
  t.equal(await report(sql, host, row, 'running', { pid: 4711, restarts: 2 }), true)
  const [seen] = await sql`
      select run_state, pid, restarts, last_error, last_deployed_at is not null as deployed,
             last_active_at is not null as active
        from mooring.placement`
  t.same(seen, {
    run_state: 'running',
    pid: 4711,
    restarts: 2,
    last_error: null,
    deployed: true,
    active: true,
  })
})

story('a crash keeps its exit and its error, and the last successful start', async (t, sql) => {
  const { host, row } = await owned(sql)
  await report(sql, host, row, 'running', { pid: 1 })
  const { last_deployed_at } = await run(sql)
  await report(sql, host, row, 'backoff', {
    restarts: 1,
    exit_code: 7,
    error: 'it ended with code 7',
    next_start_in_ms: 4000,
  })
  t.match(await run(sql), {
    state: 'backoff',
    pid: null,
    restarts: 1,
    exit_code: 7,
    exit_signal: null,
    last_error: 'it ended with code 7',
    soon: true,
    last_deployed_at,
  })
  await report(sql, host, row, 'backoff', { restarts: 2, exit_signal: 'SIGKILL', error: 'killed' })
  t.match(await run(sql), { exit_code: null, exit_signal: 'SIGKILL' }, 'the other way to end')
  await report(sql, host, row, 'starting', { restarts: 2 })
  t.match(
    await run(sql),
    { last_error: 'killed', exit_signal: 'SIGKILL', next_start_at: null },
    'the last error stays to be read',
  )
  await report(sql, host, row, 'running', { restarts: 2, pid: 2 })
  t.ok((await run(sql)).last_deployed_at >= last_deployed_at)
})

story(
  'D20: a failure keeps last_deployed_at, every report sets last_active_at, and last_error stays',
  async (t, sql) => {
    const { host, row } = await owned(sql)
    const seen = async () =>
      (
        await sql<
          {
            run_state: string
            last_error: string | null
            last_deployed_at: string | null
            last_active_at: string
          }[]
        >`
          select run_state, last_error, last_deployed_at::text, last_active_at::text
            from mooring.placement`
      )[0]!
    const say = async (state: string, error?: string) => {
      t.equal(await report(sql, host, row, state, error === undefined ? {} : { error }), true)
      return await seen()
    }
    const failed = await say('failed', 'npm: no such version')
    t.match(
      failed,
      { run_state: 'failed', last_error: 'npm: no such version', last_deployed_at: null },
      'a failure is no success',
    )
    const deployed = await say('running')
    t.ok(deployed.last_deployed_at)
    let before = deployed.last_active_at
    for (const [state, error] of [
      ['backoff', 'exited with code 1'],
      ['starting'],
      ['failed', 'it cannot be started'],
      ['stopping'],
      ['stopped'],
    ] as const) {
      const after = await say(state, error)
      t.equal(after.last_deployed_at, deployed.last_deployed_at, `kept by ${state}`)
      t.ok(after.last_active_at > before, `${state} is a sign of life`)
      before = after.last_active_at
    }
    t.match(await seen(), { run_state: 'stopped', last_error: 'it cannot be started' })
    // what was reaped has no run any more, and still says when it last worked
    await sql`update mooring.heartbeat set beat_at = clock_timestamp() - interval '1 minute'`
    await sql`select from mooring.reap()`
    t.match(await seen(), {
      run_state: null,
      last_deployed_at: deployed.last_deployed_at,
      last_active_at: before,
      last_error: 'it cannot be started',
    })
  },
)

story(
  'a first attempt that runs ends the errors before it; a restart keeps its reason',
  async (t, sql) => {
    const { host, row } = await owned(sql)
    const seen = async () =>
      (await sql`select last_error, last_error_at is not null as dated from mooring.placement`)[0]
    await report(sql, host, row, 'failed', { error: 'npm: no such version' })
    t.same(await seen(), { last_error: 'npm: no such version', dated: true })
    await report(sql, host, row, 'running', { pid: 1 })
    t.same(await seen(), { last_error: null, dated: false })
    await report(sql, host, row, 'backoff', { restarts: 1, error: 'exited with code 1' })
    await report(sql, host, row, 'running', { restarts: 1, pid: 2 })
    t.same(await seen(), { last_error: 'exited with code 1', dated: true })
  },
)

story(
  'negative control: a report that writes the whole row loses the last success',
  async (t, sql) => {
    const { host, row } = await owned(sql)
    const [{ source } = { source: '' }] = await sql<
      { source: string }[]
    >`select pg_get_functiondef('mooring.report'::regproc) as source`
    const obvious = source.replace('else r.last_deployed_at', 'else excluded.last_deployed_at')
    t.not(obvious, source)
    await sql.unsafe(obvious)
    await report(sql, host, row, 'running')
    await report(sql, host, row, 'failed', { error: 'x' })
    t.match(await sql`select last_deployed_at from mooring.placement`, [{ last_deployed_at: null }])
  },
)

story(
  'a report of an old epoch, of a foreign or of an unknown assignment changes nothing',
  async (t, sql) => {
    const { host, row } = await owned(sql)
    const other = await node(sql, { name: 'host-b' })
    t.equal(await report(sql, host, { ...row, epoch: '0' }, 'running'), false)
    t.equal(await report(sql, other, row, 'stopped'), false)
    t.equal(await report(sql, host, { ...row, id: '999999999' }, 'running'), false)
    t.same([...(await sql`select * from mooring.run`)], [])
    t.match((await assignments(sql))[0], { node: 'host-a', epoch: '1' })
  },
)

story(
  'stopped frees what is wanted stopped, and only records what is wanted to run',
  async (t, sql) => {
    const { host, row } = await owned(sql)
    t.equal(await report(sql, host, row, 'stopped', { exit_code: 0 }), true)
    t.match((await assignments(sql))[0], { node: 'host-a', epoch: '1' })
    await sql`update mooring.deployment set enabled = false`
    t.equal(await report(sql, host, row, 'stopping'), true)
    t.match((await assignments(sql))[0], { node: 'host-a', wanted: 'stop' })
    t.equal(await report(sql, host, row, 'stopped', { exit_signal: 'SIGTERM' }), true)
    t.match((await assignments(sql))[0], { node: null, wanted: 'stop', epoch: '2' })
    t.match(await events(sql, 'released'), [{ node: 'host-a', reason: 'its processes are gone' }])
    t.equal(await report(sql, host, row, 'stopped'), false, 'the second time it is an old epoch')
  },
)

story(
  'a refusal frees, keeps this node out until the spec changes, and makes no loop',
  async (t, sql) => {
    const { host, row } = await owned(sql)
    t.equal(
      await report(sql, host, row, 'refused', { error: 'http-server is not trusted here' }),
      true,
    )
    t.match(await events(sql, 'refused'), [{ node: 'host-a', epoch: '2' }])
    t.same(await claim(sql), [], 'the only node refused')
    const [waits] = await sql`select reason, last_error from mooring.unplaced`
    t.match(waits, { reason: /refused/, last_error: 'http-server is not trusted here' })
    const second = await node(sql, { name: 'host-b' })
    t.equal((await claim(sql)).length, 1)
    t.equal(await report(sql, second, (await assignments(sql))[0]!, 'refused'), true)
    t.same(await claim(sql), [], 'both refused')
    await sql`update mooring.deployment set package_version = '14.1.2'`
    t.equal((await claim(sql)).length, 1, 'a changed spec is asked again')
    t.equal((await assignments(sql))[0]!.node, 'host-b', 'where it was last')
  },
)

story(
  'a refused row goes to the back of the queue and others of its kind are still placed',
  async (t, sql) => {
    const { host, row } = await owned(sql)
    await report(sql, host, row, 'refused')
    const ids = await deployments(sql, 3)
    t.equal((await claim(sql)).length, 3)
    t.same(
      (await events(sql, 'claimed')).slice(1).map(({ deployment_id }) => deployment_id),
      ids,
    )
    const [moved] =
      await sql`select updated_at > created_at as back from mooring.assignment where id = ${row.id}`
    t.same(moved, { back: true })
  },
)

story('a refused daemon stays where it is, and remains visible', async (t, sql) => {
  await deployment(sql, { type: 'daemon' })
  const host = await node(sql, { name: 'host-a' })
  const [row] = await assignments(sql)
  t.equal(await report(sql, host, row!, 'refused', { error: 'not here' }), true)
  const [seen] = await sql`select node, run_state, last_error from mooring.placement`
  t.same(seen, { node: 'host-a', run_state: 'refused', last_error: 'not here' })
})

story(
  'one batch reports many, each answered for itself; of two words on one row the last counts',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    await deployments(sql, 3)
    await claim(sql)
    const rows = await assignments(sql)
    await sql`update mooring.deployment set enabled = false where id = ${rows[2]!.deployment_id}`
    const say = (nr: number, state: string, epoch = '1') => ({
      assignment_id: rows[nr]!.id,
      epoch,
      generation: '1',
      state,
    })
    const reports = [
      say(0, 'starting'),
      say(1, 'running', '0'),
      say(0, 'running'),
      say(2, 'stopped'),
    ]
    const answers = await sql`
      select * from mooring.report('host-a', ${host.session}, ${sql.json(reports)})`
    t.same(
      answers.map(({ accepted }) => accepted),
      [true, false, true, true],
    )
    t.same(
      (await sql`select run_state from mooring.placement order by assignment_id`).map(
        ({ run_state }) => run_state,
      ),
      ['running', null, null],
    )
    t.same(await loads(sql), { 'host-a': 2 })
  },
)

story('an unknown state and a report that is no array are refused', async (t, sql) => {
  const { host, row } = await owned(sql)
  await refused(t, sql, (sql) => report(sql, host, row, 'flying'), {
    code: '23514',
    constraint_name: 'run_state_is_known',
  })
  for (const odd of [{}, 'x', null])
    await refused(
      t,
      sql,
      (sql) => sql`select mooring.report('host-a', ${host.session}, ${sql.json(odd as never)})`,
      { code: 'MR007' },
      JSON.stringify(odd),
    )
  await refused(
    t,
    sql,
    (sql) => report(sql, { name: 'host-a', session: randomUUID() }, row, 'running'),
    { code: 'MR001' },
    'another session',
  )
  t.same([...(await sql`select * from mooring.report('host-a', ${host.session}, '[]')`)], [])
})

story('an error longer than 2000 characters is cut', async (t, sql) => {
  const { host, row } = await owned(sql)
  await report(sql, host, row, 'failed', { error: 'x'.repeat(10_000) })
  t.equal((await run(sql)).last_error.length, 2000)
})
