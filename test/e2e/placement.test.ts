import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { placements, running, sleeper } from '../agent/fleet.js'
import { deployment } from '../helpers/factories.js'
import { testDatabase } from '../helpers/postgres.js'
import { descendantsOf, tempDir } from '../helpers/processes.js'
import { packageRegistry } from '../helpers/registry.js'
import { waitFor } from '../helpers/wait-for.js'
import {
  alive,
  childOf,
  claims,
  environmentOf,
  gone,
  hosts,
  listeningPort,
  live,
  PATIENCE_MS,
  shortLeases,
  witness,
} from './hosts.js'

await packageRegistry(t)

t.test(
  'Y1: 21 rows inserted by plain SQL become 21 web servers on two hosts, 11 and 10',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '30 s')
    const { agent, worker } = hosts(t, url)
    worker()
    const both = [
      agent('host-a', { trust: '^http-server@', exec: false }),
      agent('host-b', { trust: '^http-server@', exec: false }),
    ]
    await live(sql, 'host-a', 'host-b')
    // ' 0': any free port; a plain 0 would have http-server look for one itself, and 21 at once
    // find the same
    await sql`
      insert into mooring.deployment (package_name, package_version, args, env, enabled)
      select 'http-server', '14.1.1', '["-a", "127.0.0.1", "-p", " 0"]',
             jsonb_build_object('GREETING', 'hello ' || n), true
        from generate_series(1, 21) n`
    const rows = await running(sql, 21, 180_000)

    const given = await claims(sql)
    t.same(
      given.map((claim) => claim.assignment_id),
      rows.map((row) => row.assignment_id),
      'in the order of the queue',
    )
    t.equal(new Set(given.map((claim) => claim.tx)).size, 1, 'in one pass')
    t.same(both.map(({ name }) => rows.filter((row) => row.node === name).length).sort(), [10, 11])

    for (const [nr, row] of rows.entries()) {
      const environment = environmentOf(row.pid)
      t.match(environment, {
        MOORING_ASSIGNMENT_ID: row.assignment_id,
        MOORING_DEPLOYMENT_ID: row.deployment_id,
        MOORING_EPOCH: row.epoch,
        MOORING_NODE: row.node,
        MOORING_ORDINAL: '0',
        GREETING: `hello ${nr + 1}`,
      })
      t.same(
        Object.keys(environment).filter((name) =>
          /^(DATABASE_URL|PG|NODE_OPTIONS|npm_)/.test(name),
        ),
        [],
      )
      const host = both.find(({ name }) => name === row.node)!
      t.ok(
        descendantsOf(host.pid).some(({ pid }) => pid === row.pid),
        'it is a process of the host that was chosen',
      )
      const port = await waitFor(() => listeningPort(row.pid!), {
        label: 'the server listens',
        timeoutMs: PATIENCE_MS,
        show: () => host.logOf(row.assignment_id),
      })
      t.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 200)
    }
    t.same(
      (await placements(sql)).filter((row) => row.restarts !== 0 || row.last_error !== null),
      [],
    )

    await sql`delete from mooring.deployment`
    await waitFor(async () => (await placements(sql)).length === 0, {
      label: 'all rows are gone',
      timeoutMs: PATIENCE_MS,
      show: () => placements(sql),
    })
    t.notOk(
      rows.some((row) => alive(row.pid)),
      'after their processes',
    )
  },
)

t.test('Y20: a daemon runs on every host, and on one that joins later', async (t) => {
  const { url, sql } = await testDatabase(t)
  await shortLeases(sql, '30 s')
  const { agent, worker } = hosts(t, url)
  worker()
  agent('host-a')
  agent('host-b')
  await live(sql, 'host-a', 'host-b')
  const id = await sleeper(sql, { type: 'daemon' })
  t.same((await running(sql, 2, PATIENCE_MS)).map((row) => row.node).sort(), ['host-a', 'host-b'])
  agent('host-c')
  const rows = await running(sql, 3, PATIENCE_MS)
  t.same(rows.map((row) => row.node).sort(), ['host-a', 'host-b', 'host-c'])
  t.ok(
    rows.every(
      (row) =>
        alive(row.pid) &&
        environmentOf(row.pid)['MOORING_DEPLOYMENT_ID'] === id &&
        !environmentOf(row.pid)['MOORING_ORDINAL'],
    ),
  )
  await sql`update mooring.deployment set enabled = false`
  await gone(
    rows.map((row) => row.pid),
    'all three end',
  )
})

t.test(
  'delete, disable and scale-down stop process trees, and a row stays until its tree is gone',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '30 s')
    const { agent, worker } = hosts(t, url)
    const folder = tempDir(t, 'gate')
    worker()
    agent('host-a')
    await live(sql, 'host-a')
    // asked to end, it waits until it is let go
    const gate = join(folder, 'open')
    const script =
      'trap \'while [ ! -e "$GATE" ]; do sleep 0.05; done; exit 0\' TERM; sleep 1000 & wait; wait'
    const stubborn = (replicas: number) =>
      deployment(sql, {
        command: 'sh',
        args: ['-c', script],
        env: { GATE: gate },
        stop_grace: '5 min',
        replicas,
      })
    const [removed, disabled, scaled] = [await stubborn(1), await stubborn(1), await stubborn(3)]
    const before = await running(sql, 5, PATIENCE_MS)
    const children = new Map<string, number>()
    for (const { assignment_id: id, pid } of before) {
      children.set(id, await childOf(pid))
    }
    const stays = before.find((row) => row.deployment_id === scaled)!

    await sql`delete from mooring.deployment where id = ${removed}`
    await sql`update mooring.deployment set enabled = false where id = ${disabled}`
    await sql`update mooring.deployment set replicas = 1 where id = ${scaled}`
    const stopping = await waitFor(
      async () => {
        const rows = await placements(sql)
        return rows.filter((row) => row.wanted === 'stop' && row.run_state === 'stopping')
          .length === 4
          ? rows
          : null
      },
      { label: 'four are stopping', timeoutMs: PATIENCE_MS, show: () => placements(sql) },
    )
    const stopped = before.filter((row) => row.assignment_id !== stays.assignment_id)
    await gone(
      stopped.map((row) => children.get(row.assignment_id)!),
      'their children have ended',
    )
    t.ok(
      stopped.every((row) => alive(row.pid)),
      'their leaders take their time',
    )
    t.same(
      stopping.map((row) => [row.assignment_id, row.node, row.epoch]),
      before.map((row) => [row.assignment_id, row.node, row.epoch]),
      'and stay owned meanwhile, the deleted one too',
    )
    t.notOk(existsSync(gate))

    writeFileSync(gate, '')
    await waitFor(
      async () => (await placements(sql)).filter((row) => row.node !== null).length === 1,
      { label: 'what has ended is released', timeoutMs: PATIENCE_MS, show: () => placements(sql) },
    )
    t.notOk(stopped.some((row) => alive(row.pid)))
    t.same(
      (await placements(sql)).map((row) => [row.deployment_id, row.node, row.wanted]),
      [
        [disabled, null, 'stop'],
        [scaled, 'host-a', 'run'],
      ],
      'the disabled one keeps its row',
    )
    t.ok(alive(stays.pid) && alive(children.get(stays.assignment_id)!))
  },
)

t.test(
  'Y31: an edit of env restarts the process, stop-first; other edits restart nothing (defect 10)',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '30 s')
    const { agent, worker } = hosts(t, url)
    const { insert, lives, overlap } = witness(t)
    worker()
    agent('host-a')
    agent('host-b')
    await live(sql, 'host-a', 'host-b')
    const id = await insert(sql, { env: { WITNESS_WORD: 'first' } })
    await waitFor(() => lives().length === 1, { label: 'it runs', timeoutMs: PATIENCE_MS })
    const [before] = await running(sql, 1, PATIENCE_MS)

    await sql`
      update mooring.deployment set name = 'renamed', labels = '{"team": "x"}', stop_grace = '6 s'`
    for (const word of ['second', 'third', 'fourth']) {
      await sql`
        update mooring.deployment
           set env = env || jsonb_build_object('WITNESS_WORD', ${word}::text)
         where id = ${id}`
      await waitFor(() => lives().some((life) => life.word === word), {
        label: `the ${word} runs`,
        timeoutMs: PATIENCE_MS,
        show: lives,
      })
    }
    const after = await waitFor(
      async () =>
        (await placements(sql)).find(
          (row) =>
            row.run_state === 'running' &&
            alive(row.pid) &&
            environmentOf(row.pid)['WITNESS_WORD'] === 'fourth',
        ),
      { label: 'the last one was recorded', timeoutMs: PATIENCE_MS, show: () => placements(sql) },
    )
    t.match(
      after,
      {
        assignment_id: before!.assignment_id,
        node: before!.node,
        epoch: before!.epoch,
        restarts: 0,
      },
      'it stays where it is, under its epoch',
    )
    t.same(
      lives().map((life) => [life.node, life.word]),
      ['first', 'second', 'third', 'fourth'].map((word) => [before!.node, word]),
      'one process for each edit of what runs',
    )
    t.equal(overlap([after.assignment_id]), 0, 'and never two at once')
  },
)
