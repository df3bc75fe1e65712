import t from 'tap'
import type { Test } from 'tap'
import { assignments, deployments, node, report } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'
import { bar } from '../../../cli/progress/drain.js'
import { millisecondsOf, parseDuration } from '../../../cli/options.js'

/**
 * Two nodes without agents: host-a with n assignments, host-b empty. The test plays the agents and
 * the place round.
 */
async function fleet(t: Test, n: number) {
  const pg = await testDatabase(t)
  const env = { MOORING_STATE_DIR: tempDir(t) }
  // nobody beats here: what is live shall stay so
  await pg.sql`update mooring.setting set lease_ttl = '1 hour'`
  const hosts = [await node(pg.sql, { name: 'host-a' })]
  await deployments(pg.sql, n)
  await pg.sql`select count(*) from mooring.claim()`
  hosts.push(await node(pg.sql, { name: 'host-b' }))
  const start = (...args: string[]) => mooring(t, args, { databaseUrl: pg.url, env })
  const run = async (...args: string[]) => {
    const program = start(...args)
    const { code } = await program.exited
    return { code, stdout: program.stdout(), stderr: program.stderr() }
  }
  const obey = async () => {
    await pg.sql`select count(*) from mooring.claim()`
    for (const row of await assignments(pg.sql)) {
      const host = hosts.find(({ name }) => name === row.node)
      if (host) await report(pg.sql, host, row, row.wanted === 'stop' ? 'stopped' : 'running')
    }
    await pg.sql`select count(*) from mooring.claim()`
  }
  return { ...pg, start, run, obey }
}

t.test(
  'drain closes a node and says what is to be done; --wait ends with 0 only when nothing is left',
  async (t) => {
    const { run, start, obey, sql } = await fleet(t, 3)
    const first = await run('drain', 'host-a', '--max-moves', '1')
    t.match(first, {
      code: 0,
      stdout: new RegExp(
        '^host-a drains: 3 of 3 left, 0 moving\\nfollow it with `mooring drain host-a ' +
          '--wait`, end it with `mooring undrain host-a`\\n$',
      ),
    })
    t.match((await run('status')).stdout, 'host-a drains: 3 of 3 left, 0 moving')
    t.match(
      await sql`
        select draining, max_moves
        from mooring.node_status s
        join mooring.drain_progress p on p.node = s.node
      `,
      [{ draining: true, max_moves: 1 }],
    )
    const waiting = start('drain', 'host-a', '--wait')
    await waiting.said('3 of 3 left')
    await waitFor(
      async () => {
        if (!waiting.ended()) await obey()
        return waiting.ended()
      },
      { label: 'the drain is over', show: () => sql`select * from mooring.drain_progress` },
    )
    t.equal((await waiting.exited).code, 0)
    t.match(waiting.stdout(), /host-a is drained: nothing is left on it/)
    t.match(
      await sql`select max_moves, "left" from mooring.drain_progress`,
      [{ max_moves: 1, left: 0 }],
      'looking on changed nothing',
    )
    // eslint-disable-next-line no-control-regex
    t.notMatch(waiting.stdout(), /\x1b|\r/, 'plain lines on a pipe')
  },
)

t.test('--json prints the row, and with --wait a line for each change', async (t) => {
  const { run, start, obey, sql } = await fleet(t, 2)
  t.match(
    JSON.parse(
      (await run('drain', 'host-a', '--to', 'host-b', '--deadline', '1h', '--json')).stdout,
    ),
    {
      node: 'host-a',
      total: 2,
      left: 2,
      blocked: 0,
      target: 'host-b',
      done: false,
      deadline_at: String,
    },
  )
  const waiting = start('drain', 'host-a', '--wait', '--json')
  await waitFor(
    async () => {
      if (!waiting.ended()) await obey()
      return waiting.ended()
    },
    { label: 'the drain is over', show: () => sql`select * from mooring.drain_progress` },
  )
  const lines = waiting
    .stdout()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { done: boolean; left: number })
  t.match(lines.at(-1), { done: true, left: 0 })
  t.ok(lines.slice(0, -1).every(({ done }) => !done))
})

t.test('--wait gives up when nothing moves and nothing can, and names the ways out', async (t) => {
  const { run, sql } = await fleet(t, 2)
  await sql`update mooring.deployment set pinned_node = 'host-a'`
  const { code, stdout, stderr } = await run('drain', 'host-a', '--wait')
  t.equal(code, 1)
  t.match(stdout, /2 of 2 left, 0 moving, 2 blocked \(assignment \d+ and 1 more: .*pinned/)
  t.match(
    stderr,
    new RegExp(
      '2 of host-a have nowhere to go: .*pinned.*\\nhint: .*mooring drain host-a --deadline 0 ' +
        '--wait.*mooring undrain host-a',
    ),
  )
})

t.test('hold says until when a node is waited for, and how to end it', async (t) => {
  const { run } = await fleet(t, 1)
  t.match(await run('hold', 'host-a', '--for', '10m'), {
    code: 0,
    stdout: new RegExp(
      '^the work of host-a waits for it until \\d{4}-.*Z; ' +
        'it ends when its agent starts again, or with `mooring hold host-a --end`\n$',
    ),
  })
  t.match(JSON.parse((await run('hold', 'host-a', '--for', '1h', '--json')).stdout), {
    node: 'host-a',
    held_until: /^\d{4}-/,
  })
  t.match(await run('hold', 'host-a', '--end'), { code: 0, stdout: 'host-a is not held\n' })
  t.match(await run('hold', 'hots-a', '--for', '10m'), { code: 1, stderr: /hint: .*host-a/ })
  t.match(await run('hold', 'host-a', '--for', '8d'), { code: 1, stderr: /at most 7 days/ })
  for (const args of [[], ['--for', '1m', '--end']])
    t.match(await run('hold', 'host-a', ...args), {
      code: 2,
      stderr: /give --for DURATION, or --end/,
    })
})

t.test('--wait ends when somebody ends the drain', async (t) => {
  const { run, start } = await fleet(t, 2)
  await run('drain', 'host-a')
  const waiting = start('drain', 'host-a', '--wait')
  await waiting.said('2 of 2 left')
  t.match(await run('undrain', 'host-a'), { code: 0, stdout: 'host-a takes new work again\n' })
  t.equal((await waiting.exited).code, 1)
  t.match(waiting.stderr(), /another session has ended the drain of/)
})

t.test('--wait that is interrupted says that the drain goes on, and how to end it', async (t) => {
  const { start, sql } = await fleet(t, 2)
  const waiting = start('drain', 'host-a', '--wait')
  await waiting.said('2 of 2 left')
  waiting.kill('SIGINT')
  t.equal((await waiting.exited).code, 1)
  t.match(
    waiting.stderr(),
    /the drain of host-a goes on.*\nhint: .*mooring drain host-a --wait.*mooring undrain host-a/,
  )
  t.match(await sql`select draining from mooring.node_status where node = 'host-a'`, [
    { draining: true },
  ])
})

t.test('undrain says what is true afterwards', async (t) => {
  const { run, sql } = await fleet(t, 0)
  t.match(await run('undrain', 'host-b'), { code: 0, stdout: 'host-b was not draining\n' })
  await sql`select from mooring.drain_node('host-b')`
  await sql`select from mooring.set_node_enabled('host-b', false)`
  t.match(await run('undrain', 'host-b'), {
    code: 0,
    stdout: 'host-b is no longer draining, but is disabled: `mooring enable node host-b`\n',
  })
  t.match(await run('undrain', 'host-b'), {
    code: 0,
    stdout: 'host-b was not draining, and is disabled: `mooring enable node host-b`\n',
  })
  t.match(JSON.parse((await run('undrain', 'host-b', '--json')).stdout), {
    node: 'host-b',
    draining: false,
    enabled: false,
  })
  t.match(await run('undrain', 'hots-b'), { code: 1, stderr: /no node hots-b\nhint: .*host-b/ })
})

t.test('reassign tells where it goes, or why not and what to type', async (t) => {
  const { run, sql } = await fleet(t, 1)
  const id = (await assignments(sql))[0]!.id
  t.match(await run('reassign', id, 'host-b'), {
    code: 0,
    stdout: `assignment ${id} stops on host-a and goes to host-b when it has ended`,
  })
  t.match(JSON.parse((await run('reassign', id, 'host-b', '--json')).stdout), {
    id,
    wanted: 'stop',
    node: 'host-a',
    move_to: 'host-b',
  })
  t.match(await run('reassign', id, 'hots-b'), {
    code: 1,
    stderr: /error: there is no node hots-b\nhint: .*host-b/,
  })
  await sql`select from mooring.set_node_enabled('host-b', false)`
  t.match(await run('reassign', id, 'host-b'), {
    code: 1,
    stderr: /cannot go to host-b: the node is disabled\nhint: .*mooring enable node host-b/,
  })
  t.match(await run('reassign', 'web', 'host-b'), {
    code: 2,
    stderr: /no id of an assignment\nhint: .*mooring get assignments/,
  })
  t.match(JSON.parse((await run('reassign', '99999', 'host-b', '--json')).stderr), {
    error: { code: 'MR003', hint: new RegExp(id) },
  })
})

t.test('durations as people write them', async (t) => {
  for (const [text, interval] of [
    ['10m', '10 min'],
    ['90s', '90 s'],
    ['1h30m', '1 h 30 min'],
    ['0', '0 s'],
    ['45', '45 s'],
    ['250ms', '250 ms'],
    ['1.5h', '1.5 h'],
    ['2d', '2 d'],
  ] as const)
    t.equal(parseDuration(text), interval)
  t.equal(millisecondsOf(parseDuration('1h30m')), 5_400_000)
  t.equal(millisecondsOf(parseDuration('1.5s')), 1_500)
  for (const text of ['', 'soon', '10 m', '-1m', '10x', 'm', '1m2'])
    t.throws(() => parseDuration(text), /duration/, text)
})

t.test('the bar is full when nothing is left', async (t) => {
  t.equal(bar({ total: 4, left: 4 }), `[${'.'.repeat(30)}]`)
  t.equal(bar({ total: 4, left: 1 }), `[${'#'.repeat(23)}${'.'.repeat(7)}]`)
  t.equal(bar({ total: 4, left: 0 }), `[${'#'.repeat(30)}]`)
  t.equal(bar({ total: 0, left: 0 }), `[${'#'.repeat(30)}]`)
})
