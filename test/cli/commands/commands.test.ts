import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { emptyDatabase, testDatabase } from '../../helpers/postgres.js'
import { AS_OWN_USER, mooring, tempDir } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'
import { fleet, run } from '../fleet.js'

t.test('status shows nodes, counts, and what waits with its reason', async (t) => {
  const place = await fleet(t, 'web', 'api')
  const { code, stdout } = await run(t, place, ['status'])
  t.equal(code, 0)
  t.match(stdout, /^1 of 1 nodes healthy, 3 deployments, 2 of 3 assigned, 0 running, 1 waiting/)
  t.match(stdout, /host-a +HEALTHY .* 2 +0 +2 not yet reported/)
  t.match(stdout, /left-pad .*no node trusts/)
  // eslint-disable-next-line no-control-regex
  t.notMatch(stdout, /\x1b/, 'no escape codes on a pipe')
})

t.test('status names what fails, with its reason', async (t) => {
  const place = await fleet(t, 'web')
  await place.sql`
    insert into mooring.run (
      assignment_id, deployment_id, node_id, epoch, generation, state, restarts, last_error,
      last_error_at)
    select a.id, a.deployment_id, a.node_id, a.epoch, 1, 'backoff', 4, 'exited with code 3',
        clock_timestamp() - interval '2 hours'
      from mooring.assignment a
     where a.id = ${place.ids['web']!.assignment_id}`
  const { stdout } = await run(t, place, ['status'])
  t.match(stdout, /1 waiting, 1 failing/)
  t.match(stdout, /\d+ +web +host-a +backoff +4 +2 h 0 m +exited with code 3/)
  const { failing } = JSON.parse((await run(t, place, ['status', '--json'])).stdout) as {
    failing: unknown
  }
  t.match(failing, [{ name: 'web', node: 'host-a', reason: 'exited with code 3' }])
  t.match(
    (await run(t, place, ['describe', 'deployment', 'web'])).stdout,
    /exited with code 3 +2 h 0 m$/m,
    'an old error with its age',
  )
  const doctor = await run(t, place, ['doctor'])
  t.equal(doctor.code, 1)
  t.match(doctor.stdout, /1 is down: web: 0 of 1 running, exited with code 3/)
})

t.test('status --json holds the rows of fleet, node_status and unplaced', async (t) => {
  const place = await fleet(t, 'web', 'api')
  const {
    fleet: row,
    nodes,
    unplaced,
  } = JSON.parse((await run(t, place, ['status', '--json'])).stdout) as Record<string, unknown>
  t.match(row, {
    nodes: 1,
    healthy: 1,
    deployments: 3,
    assignments: 3,
    assigned: 2,
    running: 0,
    waiting: 1,
    hold: null,
  })
  t.match(nodes, [{ node: 'host-a', health: 'HEALTHY', assignments: 2 }])
  t.match(unplaced, [
    {
      assignment_id: place.ids['odd']!.assignment_id,
      package_name: 'left-pad',
      reason: /no node trusts/,
    },
  ])
})

t.test('where reaping has paused status says so, and resume-reaping lets it go on', async (t) => {
  const place = await fleet(t, 'web', 'api')
  await place.sql`update mooring.setting set reap_pause_min_nodes = 1`
  t.match((await run(t, place, ['resume-reaping'])).stdout, /^reaping was not paused$/m)
  await place.sql`update mooring.heartbeat set beat_at = beat_at - interval '2 hours'`
  await place.sql`select from mooring.reap()`
  t.match(
    (await run(t, place, ['status'])).stdout,
    new RegExp(
      'reaping is paused: 1 of 1 nodes are silent \\(if the nodes are dead: `mooring ' +
        'resume-reaping`\\)',
    ),
  )
  t.same(JSON.parse((await run(t, place, ['resume-reaping', '--json'])).stdout), { resumed: true })
  t.equal((await place.sql`select from mooring.reap()`).length, 2)
})

t.test('Y CLI: explain takes a name or an id, and says why not', async (t) => {
  const place = await fleet(t, 'web', 'api')
  t.match((await run(t, place, ['explain', 'web'])).stdout, /host-a +runs here/)
  t.match(
    (await run(t, place, ['explain', place.ids['odd']!.deployment_id])).stdout,
    /host-a +no: /,
  )
  t.match(JSON.parse((await run(t, place, ['explain', 'odd', '--json'])).stdout), [
    { node: 'host-a', permitted: false, trust_ok: false },
  ])
  t.match((await run(t, place, ['explain', 'web', '--wide'])).stdout, /selector_ok/)
  const typo = await run(t, place, ['explain', 'wep'])
  t.equal(typo.code, 1)
  t.match(typo.stderr, /there is no deployment wep\nhint: did you mean web\?/)
})

t.test('a name that is also the id of another deployment is not guessed', async (t) => {
  const place = await fleet(t, 'web', 'api')
  const id = place.ids['web']!.deployment_id
  await place.sql`insert into mooring.deployment (name, package_name) values (${id}, 'http-server')`
  const { code, stderr } = await run(t, place, ['explain', id])
  t.equal(code, 1)
  t.match(stderr, /the name of one deployment and the id of another/)
})

t.test('events are told oldest first, and -f goes on with what comes', async (t) => {
  const place = await fleet(t, 'web', 'api')
  const { stdout } = await run(t, place, ['events', '-n', '2'])
  t.equal(stdout.trim().split('\n').length, 2)
  t.match(stdout, /claimed assignment \d+ deployment \d+ host-a epoch 1/)
  const rows = JSON.parse((await run(t, place, ['events', '--json'])).stdout) as {
    id: string
    kind: string
  }[]
  t.equal(rows[0]!.kind, 'setting_changed')
  t.same(
    rows.map((row) => BigInt(row.id)),
    rows.map((row) => BigInt(row.id)).sort((a, b) => (a < b ? -1 : 1)),
  )

  const follower = mooring(t, ['events', '-f', '-n', '1', '--json'], {
    databaseUrl: place.url,
    env: { MOORING_STATE_DIR: place.state },
  })
  await waitFor(() => follower.stdout().includes('\n'), { label: 'the last event is shown' })
  await place.sql`select * from mooring.register_node('host-b', gen_random_uuid(), '^http-server@')`
  await follower.said('host-b')
  const lines = follower
    .stdout()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { id: string })
  t.equal(new Set(lines.map((line) => line.id)).size, lines.length, 'no event twice')
})

t.test('apply inserts, changes, and leaves alone what is so already', async (t) => {
  const pg = await testDatabase(t)
  const place = { url: pg.url, state: tempDir(t) }
  const file = join(place.state, 'fleet.json')
  const apply = async (document: unknown, ...args: string[]) => {
    writeFileSync(file, JSON.stringify(document))
    return run(t, place, ['apply', file, ...args])
  }
  const rows = () =>
    pg.sql`
      select d.name, d.package_version, d.replicas, d.enabled, d.args, d.env, d.stop_grace::text,
        d.generation
      from mooring.deployment d
      order by d.name
    `
  const web = {
    name: 'web',
    package_name: 'http-server',
    package_version: '14.1.1',
    args: ['-p', '8080'],
    env: { A: 'b' },
    replicas: 2,
    stop_grace: '5 s',
  }

  t.match(
    (await apply([web, { name: 'job', command: 'sleep 1' }])).stdout,
    /web created\njob created/,
  )
  t.match(await rows(), [
    { name: 'job', replicas: 1 },
    {
      name: 'web',
      package_version: '14.1.1',
      replicas: 2,
      args: ['-p', '8080'],
      env: { A: 'b' },
      stop_grace: '00:00:05',
    },
  ])
  t.match((await apply([web])).stdout, /web unchanged/)

  await pg.sql`update mooring.deployment set replicas = 5, enabled = false where name = 'web'`
  t.match((await apply([{ name: 'web', package_name: 'http-server' }])).stdout, /web changed/)
  t.match(
    (await rows())[1],
    {
      package_version: 'latest',
      args: [],
      env: {},
      stop_grace: '00:00:10',
      replicas: 5,
      enabled: false,
    },
    'the file is the whole truth, but for enabled and replicas',
  )
  t.match(
    (await apply([{ name: 'web', package_name: 'http-server', replicas: 1, enabled: true }]))
      .stdout,
    /web changed/,
  )
  t.match((await rows())[1], { replicas: 1, enabled: true })

  t.match(
    (await apply([{ name: 'web', package_name: 'express' }], '--dry-run')).stdout,
    /web changed \(dry run\)/,
  )
  t.equal(
    (await pg.sql`select from mooring.deployment d where d.package_name = 'express'`).length,
    0,
  )
  t.match(JSON.parse((await apply([web], '--json')).stdout), [
    { name: 'web', outcome: 'changed', id: String },
  ])
})

t.test('apply: -f, --prune by the labels of the file, and --env-file', async (t) => {
  const pg = await testDatabase(t)
  const place = { url: pg.url, state: tempDir(t) }
  const [file, vars] = [join(place.state, 'fleet.json'), join(place.state, 'prod.env')]
  const apply = async (document: unknown, ...args: string[]) => {
    writeFileSync(file, JSON.stringify(document))
    return run(t, place, ['apply', '-f', file, ...args])
  }
  const whole = (...deployments: object[]) => ({ labels: { app: 'shop' }, deployments })
  const web = {
    name: 'web',
    command: 'sleep ${SECONDS}',
    env: { KEY: '${KEY}', RAW: '$${KEY} $1' },
  }
  writeFileSync(vars, '# of production\nKEY="hunter2"\nexport SECONDS=60\n')

  const literal = await apply(whole({ ...web, labels: { team: 'x' } }))
  t.match(literal, {
    code: 0,
    stdout: 'web created',
    stderr: 'web: env.KEY keeps its ${...} as it is written; --env-file fills it in\n',
  })
  const filled = await apply(whole(web), '--env-file', vars)
  t.match(filled, {
    code: 0,
    stdout:
      'web changed\n  labels.team: x -> none\n  command: changed\n  env.KEY: changed\n' +
      '  env.RAW: changed\n',
    stderr: /^$/,
  })
  t.match(await pg.sql`select d.command, d.env, d.labels from mooring.deployment d`, [
    { command: 'sleep 60', env: { KEY: 'hunter2', RAW: '${KEY} $1' }, labels: { app: 'shop' } },
  ])
  const missing = await apply(
    whole({ ...web, env: { KEY: '${KEYS}', OTHER: 'a${b-c}' } }),
    '--env-file',
    vars,
  )
  t.match(missing, {
    code: 2,
    stderr: new RegExp(
      'deployments\\[0\\]\\.env\\.KEY: there is no KEYS in .*prod\\.env\\n' +
        '.*deployments\\[0\\]\\.env\\.OTHER: .*no name of a variable',
    ),
  })
  t.notMatch(JSON.stringify([literal, filled, missing]), /hunter2|sleep 60/)

  const job = { name: 'job', command: 'sleep 1' }
  t.match(await apply(whole(job), '--prune', '--dry-run'), {
    code: 0,
    stdout: 'job created (dry run)\nweb deleted (dry run)\n',
  })
  t.match(await apply(whole(job), '--prune'), { stdout: 'job created\nweb deleted\n' })
  t.same(await pg.sql`select d.name from mooring.deployment d`, [{ name: 'job' }])
  for (const [document, args, told] of [
    [[job], ['--prune'], /which deployments belong to the file\?\nhint: .*-l app=shop/],
    [[job], ['--prune', '-l', '!app'], /only key=value can say it/],
    [[job], ['-l', 'app=shop'], /-l is for --prune/],
    [whole(), ['--prune'], /would delete all .*\nhint: `mooring delete deployment -l app=shop`/],
    [{ ...whole(job), label: {} }, [], /unknown field label beside deployments/],
  ] as const)
    t.match(await apply(document, ...args), { code: 2, stderr: told })
  t.match(await run(t, place, ['apply']), { code: 2, stderr: /which file\?/ })
})

t.test('apply does all of a file or nothing, and shows no value of env', async (t) => {
  const pg = await testDatabase(t)
  const place = { url: pg.url, state: tempDir(t) }
  const file = join(place.state, 'fleet.json')
  writeFileSync(
    file,
    [
      { name: 'web', package_name: 'http-server' },
      { name: 'bad', package_name: 'x', env: { TOKEN: 'hunter2' }, policy: 'no_such_policy' },
    ]
      .map((row) => JSON.stringify(row))
      .join('\n'),
  )
  const { code, stderr } = await run(t, place, ['apply', file])
  t.equal(code, 1)
  t.match(stderr, /deployment bad: .*policy/)
  t.notMatch(stderr, /hunter2/)
  t.equal((await pg.sql`select from mooring.deployment`).length, 0)
})

t.test(
  'a connection that ends in the middle of apply is said in a sentence, and nothing is applied',
  async (t) => {
    const pg = await testDatabase(t)
    const place = { url: pg.url, state: tempDir(t) }
    const file = join(place.state, 'fleet.json')
    writeFileSync(
      file,
      Array.from({ length: 3_000 }, (_, nr) =>
        JSON.stringify({ name: `web-${nr}`, package_name: 'http-server' }),
      ).join('\n'),
    )
    // somebody else is about to insert its last row: there it waits, and does not end between two
    // looks
    const other = await pg.client().reserve()
    await other`begin`
    await other`
      insert into mooring.deployment (name, package_name)
      values ('web-2999', 'http-server')
    `
    for (let time = 0; time < 3; time++) {
      const applying = run(t, place, ['apply', file])
      await waitFor(
        async () =>
          (
            await pg.sql`
      select pg_terminate_backend(a.pid)
      from pg_stat_activity a
      where a.datname = current_database()
        and a.application_name = 'mooring cli'
        and a.backend_xid is not null
        and a.wait_event_type = 'Lock'`
          ).length,
        { label: 'it is ended while it writes' },
      )
      t.match(await applying, {
        code: 1,
        stdout: '',
        stderr: new RegExp(
          '^error: the (database )?server (broke|closed) the connection.*\\nhint: try again ' +
            'in a moment\\n$',
        ),
      })
    }
    await other`rollback`
    other.release()
    t.equal((await pg.sql`select from mooring.deployment`).length, 0)
  },
)

t.test('apply reads YAML too', async (t) => {
  const pg = await testDatabase(t)
  const place = { url: pg.url, state: tempDir(t) }
  const file = join(place.state, 'fleet.yaml')
  writeFileSync(
    file,
    'deployments:\n  - name: web\n    package_name: http-server\n    args: ["-p", ' +
      '"8080"]\n    selector: { rack: a }\n',
  )
  t.match((await run(t, place, ['apply', file])).stdout, 'web created')
  t.match(await pg.sql`select d.args, d.selector from mooring.deployment d`, [
    { args: ['-p', '8080'], selector: { rack: 'a' } },
  ])
  t.match(await run(t, place, ['apply', place.state]), {
    code: 2,
    stderr: /cannot be read: it is a folder/,
  })
  writeFileSync(file, 'deployments: [\n')
  t.match(await run(t, place, ['apply', file]), { code: 2, stderr: /is no YAML/ })
})

t.test('an agent and a worker that are told to stop leave nothing behind and exit 0', async (t) => {
  const pg = await testDatabase(t)
  const state = tempDir(t)
  const worker = mooring(t, ['worker'], { databaseUrl: pg.url, env: { MOORING_STATE_DIR: state } })
  const agent = mooring(
    t,
    [
      'agent',
      '--name',
      'host-a',
      '--trust',
      '^http-server@',
      '--allow-exec',
      ...AS_OWN_USER,
      '--label',
      'rack=a',
      '--label',
      'zone=z1',
      '--max-assignments',
      '3',
    ],
    { databaseUrl: pg.url, env: { MOORING_STATE_DIR: state } },
  )
  await pg.sql`
    insert into mooring.deployment (command, args, selector)
    values ('sleep', '["600"]', '{"rack": "a"}')
  `
  const { pid } = await waitFor(
    async () =>
      (
        await pg.sql<
          { pid: number }[]
        >`select p.pid from mooring.placement p where p.run_state = 'running'`
      )[0],
    { label: 'the work runs', show: () => pg.sql`select * from mooring.placement` },
  )
  t.match(await pg.sql`select n.labels, n.max_assignments from mooring.node n`, [
    { labels: { rack: 'a', zone: 'z1' }, max_assignments: 3 },
  ])
  agent.kill('SIGTERM')
  worker.kill('SIGTERM')
  t.equal((await agent.exited).code, 0)
  t.equal((await worker.exited).code, 0)
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
  t.match(await pg.sql`select p.node from mooring.placement p`, [{ node: null }])
  t.ok(
    agent
      .stderr()
      .trim()
      .split('\n')
      .every((line) => 'event' in (JSON.parse(line) as object)),
    'the log is JSON lines, each with its event',
  )
})

t.test('psql runs against the same database, with the password out of its arguments', async (t) => {
  const place = await fleet(t, 'web', 'api')
  const bin = tempDir(t, 'bin')
  writeFileSync(
    join(bin, 'psql'),
    '#!/bin/sh\necho "args: $*"\ntest -n "$PGPASSWORD" && echo "password set"\n',
    { mode: 0o755 },
  )
  const { code, stdout } = await run(t, place, ['psql', '-c', 'select 1', '--csv'], {
    PATH: `${bin}:${process.env['PATH']}`,
  })
  t.equal(code, 0)
  t.match(stdout, /^args: postgres:\/\/\w+@127\.0\.0\.1:\d+\/\w+ -c select 1 --csv\npassword set/)
})

t.test('where no psql is installed, -c works all the same', async (t) => {
  const place = await fleet(t, 'web', 'api')
  const bin = tempDir(t, 'bin')
  symlinkSync('/usr/bin/env', join(bin, 'env')) // the helper starts programs with it
  const nowhere = { PATH: bin, PGBINDIR: '' }
  const { code, stdout, stderr } = await run(
    t,
    place,
    [
      'psql',
      '-c',
      'select name, package_name from mooring.deployment order by id; update ' +
        "mooring.deployment set enabled = false where name = 'api'",
    ],
    nowhere,
  )
  t.equal(code, 0, stderr)
  t.match(stdout, /^ name \| package_name\n-+\+-+\n web  \| http-server\n/)
  t.match(stdout, /\(3 rows\)\n\nUPDATE 1/)
  const wrong = await run(t, place, ['psql', '-c', 'select nonsense'], nowhere)
  t.equal(wrong.code, 1)
  t.match(wrong.stderr, /error: .*nonsense/)
})

t.test('a database without the schema is named, with the command that installs it', async (t) => {
  const { url, name } = await emptyDatabase(t)
  const place = { url, state: tempDir(t) }
  for (const args of [
    ['status'],
    ['events'],
    ['explain', 'web'],
    ['logs', 'web'],
    ['worker'],
    ['agent', '--name', 'host-a', '--trust', 'x'],
  ]) {
    const { code, stderr } = await run(t, place, args)
    t.equal(code, 1, args[0]!)
    t.match(stderr, `the schema mooring is not installed in ${name}; run \`mooring migrate\``)
  }
})

t.test('a database newer than the program is refused by name', async (t) => {
  const { url, sql, name } = await testDatabase(t)
  await sql.unsafe(
    'create or replace function mooring.schema_version() returns int language sql ' +
      'immutable as $$ select 9999 $$',
  )
  const place = { url, state: tempDir(t) }
  for (const args of [['status'], ['worker'], ['agent', '--name', 'host-a', '--trust', 'x']]) {
    const { code, stderr } = await run(t, place, args)
    t.equal(code, 1, args[0]!)
    t.match(
      stderr,
      new RegExp(
        `the schema in ${name} is newer than this program: it is at 9999.*\\nhint: update mooring`,
      ),
    )
  }
})

t.test('migrate says what it did, and that there is nothing left to do', async (t) => {
  const { url, name } = await emptyDatabase(t)
  const place = { url, state: tempDir(t) }
  t.match((await run(t, place, ['migrate'])).stdout, new RegExp(`^migrated ${name}: ran 000001`))
  t.match((await run(t, place, ['migrate'])).stdout, new RegExp(`^nothing to do: ${name} is at 0`))
  t.match(JSON.parse((await run(t, place, ['migrate', '--json'])).stdout), {
    applied: [],
    searchPath: 'present',
  })
})
