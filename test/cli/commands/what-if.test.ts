import t from 'tap'
import type { Test } from 'tap'
import { assignments, deployments, node } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'

/**
 * Five assignments on host-a, which have been there for a while; host-b is empty. No agents: nobody
 * beats, so the lease is long.
 */
async function fleet(t: Test) {
  const pg = await testDatabase(t)
  const env = { MOORING_STATE_DIR: tempDir(t) }
  await pg.sql`update mooring.setting set lease_ttl = '1 hour'`
  await node(pg.sql, { name: 'host-a' })
  await deployments(pg.sql, 5)
  await pg.sql`select count(*) from mooring.claim()`
  await pg.sql`update mooring.assignment set assigned_at = assigned_at - interval '11 min'`
  await node(pg.sql, { name: 'host-b', max_assignments: 4 })
  const run = async (...args: string[]) => {
    const program = mooring(t, args, { databaseUrl: pg.url, env })
    const { code } = await program.exited
    return { code, stdout: program.stdout(), stderr: program.stderr() }
  }
  return { ...pg, run }
}

t.test('history shows the owners of an assignment', async (t) => {
  const { run, sql } = await fleet(t)
  const id = (await assignments(sql))[0]!.id
  t.match(await run('history', id), {
    code: 0,
    stdout: /1 +host-a .* now +cheapest by deployment_count/,
  })
  t.match(JSON.parse((await run('history', id, '--json')).stdout), [
    { epoch: '1', node: 'host-a', until: null },
  ])
  t.match(await run('history', '99999'), {
    code: 1,
    stderr: /no assignment 99999\nhint: The nearest ids are 3, 4, 5/,
  })
  t.match(await run('history', 'web'), { code: 2, stderr: /no id of an assignment/ })
})

t.test('simulate says what would go where, and changes nothing', async (t) => {
  const { run, sql } = await fleet(t)
  const happened = async () => (await sql`select from mooring.event`).length
  const before = await happened()
  const lost = await run('simulate', 'loss', 'host-a')
  t.match(lost, {
    code: 0,
    stdout: new RegExp(
      'host-a +host-b +cheapest by deployment_count[^]*nowhere +the nodes[^]*4 would go ' +
        'elsewhere, 1 nowhere; nothing was changed',
    ),
  })
  t.equal(JSON.parse((await run('simulate', 'loss', 'host-a', '--json')).stdout).length, 5)
  t.match(
    JSON.parse((await run('simulate', 'drain', 'host-a', '--max-moves', '2', '--json')).stdout),
    [{ from_node: 'host-a', to_node: 'host-b' }],
  )
  t.match(await run('simulate', 'loss', 'host-b'), {
    code: 0,
    stdout: /runs no instance that would have to move/,
  })
  t.match(await run('simulate', 'drain', 'hots-a'), {
    code: 1,
    stderr: /no node hots-a\nhint: .*host-a/,
  })
  t.match(
    JSON.parse(
      (await run('simulate', 'insert', '{"package_name": "http-server"}', '--json')).stdout,
    ),
    [{ ordinal: 0, to_node: 'host-b' }],
  )
  t.match(await run('simulate', 'insert', '{"env": {"TOKEN": "s3cret"}'), {
    code: 2,
    stderr: /^((?!s3cret)[^])*$/,
  })
  t.match(await run('simulate', 'insert', '{"replica": 3}'), { code: 1, stderr: /no replica/ })
  t.equal(await happened(), before, 'nothing happened')
})

t.test('rebalance shows the plan, and makes it with --apply', async (t) => {
  const { run, sql } = await fleet(t)
  t.match(await run('rebalance'), {
    code: 0,
    stdout: /host-a +host-b +4[^]*2 moves, none made: `mooring rebalance --max-moves 10 --apply`/,
  })
  t.equal((await sql`select from mooring_internal.moves_under_way()`).length, 0)
  t.match(JSON.parse((await run('rebalance', '--max-moves', '1', '--apply', '--json')).stdout), [
    { from_node: 'host-a', to_node: 'host-b', gain: 4 },
  ])
  t.equal((await sql`select from mooring_internal.moves_under_way()`).length, 1)
  t.match(await run('rebalance', '--apply', '--max-moves', '1'), {
    code: 0,
    stdout: new RegExp(
      '^nothing to move: no move is worth it, or the candidates moved within ' +
        'setting.rebalance_cooldown, or 1 is under way already\\n$',
    ),
  })
  t.match(await run('rebalance', '--max-moves', '0'), { code: 2 })
})
