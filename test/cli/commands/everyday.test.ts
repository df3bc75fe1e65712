// The commands of every day, on rows: what they show, what they change, what they refuse. The roll
// of a restart has a file of its own.
import t from 'tap'
import type { Test } from 'tap'
import { assignments, deployment, node, report } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'

/**
 * host-a runs two of web and a daemon; odd waits; host-b is in zone b. Nobody beats, so the lease
 * is long.
 */
async function fleet(t: Test) {
  const pg = await testDatabase(t)
  const env = { MOORING_STATE_DIR: tempDir(t) }
  await pg.sql`update mooring.setting set lease_ttl = '1 hour'`
  const host = await node(pg.sql, {
    name: 'host-a',
    trusts: '^(http-server|agent)@',
    labels: { zone: 'a' },
  })
  const web = await deployment(pg.sql, {
    name: 'web',
    replicas: 2,
    labels: { tier: 'front', team: 'x' },
    env: { TOKEN: 'hunter2', PORT: '80' },
    args: ['-p', '80'],
  })
  await deployment(pg.sql, {
    name: 'watch',
    type: 'daemon',
    package_name: 'agent',
    labels: { tier: 'back' },
  })
  await deployment(pg.sql, { name: 'odd', package_name: 'left-pad', labels: { tier: 'back' } })
  await pg.sql`select count(*) from mooring.claim()`
  for (const row of await assignments(pg.sql))
    if (row.node) await report(pg.sql, host, row, 'running', { pid: 7 })
  await node(pg.sql, { name: 'host-b', trusts: null, labels: { zone: 'b' } })
  const start = (...args: string[]) => mooring(t, args, { databaseUrl: pg.url, env })
  const run = async (...args: string[]) => {
    const program = start(...args)
    const { code } = await program.exited
    return { code, stdout: program.stdout(), stderr: program.stderr() }
  }
  const parsed = async (...args: string[]) =>
    JSON.parse((await run(...args, '--json')).stdout) as Record<string, unknown>[]
  const named = async (...args: string[]) =>
    (await parsed('get', ...args)).map((row) => row['name'] ?? row['node'])
  return { ...pg, web, host, start, run, parsed, named }
}

t.test('Y CLI: get: deployments with what runs of them, by name, id and label', async (t) => {
  const { run, named, parsed, web, sql } = await fleet(t)
  const { stdout } = await run('get', 'deployments')
  t.match(stdout, /web +http-server@14\.1\.1 +deployment +2\/2 +running/)
  t.match(stdout, /watch +agent@\S+ +daemon +1\/1 +running/)
  t.match(stdout, /odd +left-pad@\S+ +deployment +0\/1 +1 waiting/)
  // eslint-disable-next-line no-control-regex
  t.notMatch(stdout, /hunter2|\x1b/)
  t.match((await run('get', 'deployment', web)).stdout, /web/)
  t.same(await named('deployments', 'odd', web), ['web', 'odd'])
  t.same(await named('deployments', '-l', 'tier=back'), ['watch', 'odd'])
  t.same(await named('deployments', '-l', 'tier,team!=x'), ['watch', 'odd'])
  t.same(await named('deployments', '-l', 'tier=front', '-l', '!zone'), ['web'])
  t.same(await named('deployments', '-n', '1', '--skip', '1'), ['watch'])
  t.match(await run('get', 'deployments', '-l', 'tier=none'), {
    code: 0,
    stdout: 'no deployment has these labels\n',
  })
  t.match(await parsed('get', 'deployments', 'web'), [
    { id: web, replicas: 2, running: 2, waiting: 0, generation: '1', labels: { tier: 'front' } },
  ])
  t.notOk('env' in (await parsed('get', 'deployments'))[0]!)
  await sql`update mooring.deployment set enabled = false where name = 'web'`
  t.match(
    (await run('get', 'deployments', 'web')).stdout,
    /2\/0 +disabled, 2 stopping|0\/0 +disabled, 2 stopping/,
  )
})

t.test('status --watch shows the fleet until it is told to end', async (t) => {
  const { start, sql } = await fleet(t)
  const watching = start('status', '--watch', '--json')
  await watching.said('"nodes"')
  await sql`update mooring.node set enabled = false where name = 'host-b'`
  await watching.said('DISABLED')
  watching.kill('SIGINT')
  t.equal((await watching.exited).code, 0)
  for (const line of watching.stdout().trim().split('\n'))
    t.hasProps(JSON.parse(line) as object, ['fleet', 'nodes', 'failing', 'unplaced', 'drains'])
})

t.test('words of other tools are understood where their meaning is plain', async (t) => {
  const { run, parsed, sql } = await fleet(t)
  t.match(await run('get', 'dep', '-q'), { code: 0, stdout: 'web\nwatch\nodd\n' })
  t.match(await run('get', 'nodes', '-l', 'zone=none', '--quiet'), { code: 0, stdout: /^$/ })
  t.match(await run('get', 'deploy', '-q', '--watch'), { code: 2, stderr: /cannot be used with/ })
  const json = await run('get', 'deployments', 'web', '-o', 'json')
  t.same(JSON.parse(json.stdout), await parsed('get', 'deployment', 'web'))
  t.match(await run('cordon', 'host-b'), { code: 0, stdout: 'host-b takes no new work\n' })
  t.match(await sql`select name from mooring.node where not enabled`, [{ name: 'host-b' }])
  t.match(await run('uncordon', 'host-b', '-ojson'), {
    code: 0,
    stdout: /\{\s*"node": "host-b",\s*"enabled": true/,
  })
  t.match(await run('scale', 'web', '--replicas', '3'), { stdout: 'web goes from 2 to 3\n' })
  t.match(await run('restart', 'web', '--hard'), { stdout: /^web restarts: / })
  t.match(await run('set', 'host-b', '--weight', '50'), { code: 0, stdout: /host-b .* 50 / })
})

t.test('D14, D17: get nodes, and what a node owns, a page at a time', async (t) => {
  const { run, named, parsed } = await fleet(t)
  t.match((await run('get', 'nodes')).stdout, /host-a +HEALTHY.* 3 +3 +-/)
  t.same(await named('nodes', '-l', 'zone!=a'), ['host-b'])
  t.match((await run('get', 'nodes', 'host-b', '--wide')).stdout, /\{"zone":"b"\}/)
  t.equal((await parsed('get', 'assignments', '--node', 'host-a')).length, 3)
  t.match(await parsed('get', 'assignments', '--node', 'host-a', '-n', '2', '--skip', '2'), [
    { node: 'host-a', last_active_at: String },
  ])
  t.equal((await parsed('get', 'assignments', '--deployment', 'web')).length, 2)
  t.match((await run('get', 'assignments', '-l', 'tier=back')).stdout, /odd +0 +- .*waiting/)
  t.match(await run('get', 'assignments', '--node', 'host-b'), {
    code: 0,
    stdout: 'host-b owns nothing\n',
  })
})

t.test(
  'a name nobody has is told with the nearest ones and the list to look at, and nothing is changed',
  async (t) => {
    const { run, named, sql } = await fleet(t)
    t.match(await run('get', 'deployments', 'web', 'wep'), {
      code: 1,
      stderr:
        'error: there is no deployment wep\nhint: did you mean web? ' +
        'List them with `mooring get deployments`\n',
    })
    t.match(await run('describe', 'node', 'hots-a'), {
      code: 1,
      stderr: /no node hots-a\nhint: did you mean host-a/,
    })
    t.match(
      await run('explain', 'wbe'),
      { code: 1, stderr: /no deployment wbe\nhint: did you mean web\?/ },
      'two letters that changed places are one slip',
    )
    t.match(await run('logs', 'wbe'), {
      code: 1,
      stderr: new RegExp(
        'no assignment or deployment wbe\nhint: did you mean web\\? ' +
          'List them with `mooring get assignments`',
      ),
    })
    t.match(await run('get', 'assignments', '--node', 'x'), {
      code: 1,
      stderr: /no node x\nhint: list them with `mooring get nodes`/,
    })
    t.match(await run('get', 'assignments', '99999'), {
      code: 1,
      stderr: /no assignment 99999\nhint: list them with `mooring get assignments`/,
    })
    t.match(await run('restart', 'assignment', '99999'), {
      code: 1,
      stderr: /no assignment 99999\nhint: list them with `mooring get assignments`/,
    })
    t.match(JSON.parse((await run('disable', 'deployment', 'web', 'nope', '--json')).stderr), {
      error: { code: 'MR003' },
    })
    t.match(await run('disable', 'deployment', '-l', 'tier=frnt'), {
      code: 1,
      stderr: /no deployment has the labels tier=frnt\nhint: .*--wide/,
    })
    t.equal((await sql`select from mooring.deployment where not enabled`).length, 0)
    await sql`
      insert into mooring.deployment (name, package_name)
      select d.id::text, 'x'
      from mooring.deployment d
      where d.name = 'web'
    `
    const [{ id } = { id: '' }] = await sql<
      { id: string }[]
    >`select d.id from mooring.deployment d where d.name = 'web'`
    t.match(await run('delete', 'deployment', id), {
      code: 1,
      stderr: new RegExp(
        `'${id}' is the name of one deployment and the id of another\nhint: write id:${id} ` +
          `\\(deployment ${id}, named web\\) or name:${id} \\(deployment \\d+, named ${id}\\)`,
      ),
    })
    t.same(await named('deployment', `id:${id}`), ['web'])
    t.same(await named('deployment', `name:${id}`), [id])
    t.same(await named('deployments', `name:${id}`, 'name:web', 'id:0' + id), ['web', id])
    t.match(await run('describe', 'deployment', 'id:99999'), {
      code: 1,
      stderr: /no deployment id:99999/,
    })
  },
)

t.test(
  'Y CLI: describe shows the spec without values of env, what runs where, and why the rest waits',
  async (t) => {
    const { run, web } = await fleet(t)
    const { stdout } = await run('describe', 'deployment', 'web')
    t.match(stdout, new RegExp(`^deployment ${web} web\n`))
    t.match(stdout, /package +http-server@14\.1\.1/)
    t.match(stdout, /args +\["-p","80"\]\n +env +PORT, TOKEN \(values are not shown\)/)
    t.match(stdout, /host-a +1 +run +running +7/)
    t.match(stdout, /claimed assignment \d+ deployment \d+ host-a epoch 1/)
    t.notMatch(stdout, /hunter2/)
    t.match(
      (await run('describe', 'deployment', 'odd')).stdout,
      /waiting: no node trusts[^]*the reason for each node: `mooring explain odd`/,
    )
    const json = (await run('describe', 'deployment', 'web', '--json')).stdout
    t.match(JSON.parse(json), {
      deployment: { name: 'web' },
      private: { env_names: ['PORT', 'TOKEN'] },
      placements: [{ node: 'host-a' }, {}],
      unplaced: [],
      events: Array,
    })
    t.notMatch(json, /hunter2/)
  },
)

t.test('describe node shows its register, what it runs, and its drain', async (t) => {
  const { run } = await fleet(t)
  await run('drain', 'host-a')
  const { stdout } = await run('describe', 'node', 'host-a')
  t.match(stdout, /^node host-a\n +health +DRAINING/)
  t.match(stdout, /runs +npm, exec\n/)
  t.match(stdout, /owns +3, 3 running/)
  t.match(stdout, /host-a drains: 2 of 2 left[^]*mooring undrain host-a/)
  t.match(stdout, /web +0 +1 +run/)
  t.match(stdout, /node_registered host-a/)
  t.match(JSON.parse((await run('describe', 'node', 'host-a', '--json')).stdout), {
    node: { node: 'host-a' },
    drain: { left: 2 },
    placements: [{}, {}, {}],
  })
})

t.test(
  'get deployments says that something fails, or that its host is silent, and not that it starts',
  async (t) => {
    const { run, sql, host } = await fleet(t)
    const [first] = await assignments(sql)
    await report(sql, host, first!, 'backoff', { error: 'exited with code 1' })
    t.match((await run('get', 'deployments', 'web')).stdout, /1\/2 +1 failing/)
    await sql`
      update mooring.heartbeat
      set beat_at = beat_at - interval '2 hours'
      where node = 'host-a'
    `
    t.match((await run('get', 'deployments', 'web')).stdout, /0\/2 +2 unknown/)
    await sql`update mooring.deployment set replicas = 0 where name = 'odd'`
    t.match((await run('get', 'deployments', 'odd')).stdout, /0\/0 +nothing to run/)
  },
)

t.test(
  'Y CLI: enable, disable: processes are told to stop, and nothing else changes',
  async (t) => {
    const { run, parsed, sql } = await fleet(t)
    t.match(await run('disable', 'deployment', 'web', 'odd'), {
      code: 0,
      stdout: 'web is disabled: its processes stop\nodd is disabled: its processes stop\n',
    })
    t.match(await sql`select distinct wanted from mooring.placement where name = 'web'`, [
      { wanted: 'stop' },
    ])
    t.match(await sql`select name from mooring.deployment where enabled`, [{ name: 'watch' }])
    t.match(await parsed('enable', 'deployments', '-l', 'tier'), [
      { name: 'web', enabled: true, changed: true },
      { name: 'watch', changed: false },
      { name: 'odd', changed: true },
    ])
    t.match(await run('disable', 'deployment', '--all'), {
      code: 2,
      stderr: /disable 3 deployments: web, watch, odd needs a yes.*\nhint: add --yes/,
    })
    t.match(await run('disable', 'deployment', '-l', 'tier=front'), {
      code: 2,
      stderr: /disable the deployment web needs a yes/,
    })
    t.equal((await sql`select from mooring.deployment where not enabled`).length, 0)
    t.match(
      (await run('disable', 'deployment', '--all', '--yes')).stdout,
      /web is disabled.*\nwatch is disabled.*\nodd is disabled/,
    )
  },
)

t.test(
  'D15, D16: a node is disabled, enabled, changed and deleted, by name or by label',
  async (t) => {
    const { run, parsed, sql } = await fleet(t)
    t.match(await run('disable', 'node', 'host-b'), {
      code: 0,
      stdout: 'host-b takes no new work\n',
    })
    t.match(await sql`select name from mooring.node where not enabled`, [{ name: 'host-b' }])
    t.match(await parsed('enable', 'nodes', '-l', 'zone=b'), [{ node: 'host-b', enabled: true }])
    t.match(await run('enable', 'node', 'hots-b'), { code: 1, stderr: /hint: did you mean host-b/ })
    t.match(
      await run(
        'set',
        'node',
        'host-c',
        '--weight',
        '200',
        '--label',
        'rack=c',
        '--max-assignments',
        '5',
        '--agent-url',
        'http://c',
      ),
      {
        code: 0,
        stdout: /host-c +UNKNOWN/,
        stderr: new RegExp(
          '^host-c is new: no agent of this name has registered yet \\(`mooring delete node ' +
            'host-c` removes it\\)\\n$',
        ),
      },
    )
    t.match(
      await sql`
        select weight, labels, max_assignments, agent_base_url
        from mooring.node
        where name = 'host-c'
      `,
      [{ weight: 200, labels: { rack: 'c' }, max_assignments: 5, agent_base_url: 'http://c' }],
    )
    t.match(
      await parsed('set', 'node', 'host-c', '--label', 'disk=ssd', '--max-assignments', 'none'),
      { labels: { rack: 'c', disk: 'ssd' }, max_assignments: null },
    )
    t.match(await parsed('set', 'node', 'host-c', '--label', 'disk-', '--agent-url', 'none'), {
      labels: { rack: 'c' },
      agent_base_url: null,
    })
    await sql`update mooring.deployment set selector = '{"zone": "a"}' where name = 'watch'`
    t.match(await run('set', 'node', 'host-a', '--label', 'zone-', '--dry-run'), {
      code: 0,
      stdout: /host-a .*\{\}/,
      stderr: 'host-a would no longer be permitted to run watch; 1 of its instances would stop\n',
    })
    t.match(await parsed('get', 'nodes', 'host-a'), [{ labels: { zone: 'a' } }])
    t.match(await run('set', 'node', 'host-a', '--label', 'zone-'), {
      stderr: 'host-a is no longer permitted to run watch; 1 of its instances stop\n',
    })
    t.equal((await run('set', 'node', 'host-c', '--weight', '100')).stderr, '')
    t.match(await run('set', 'node', 'host-c', '--weight', 'heavy'), { code: 2 })
    t.match(await run('set', 'node', 'host-c', '--weight', '0'), {
      code: 1,
      stderr: /node_weight_is_between/,
    })
    t.match(await run('delete', 'node', 'host-a'), {
      code: 1,
      stderr: /is live\nhint: .*mooring drain host-a --wait/,
    })
    t.match(await run('delete', 'node', '-l', 'rack=c'), {
      code: 2,
      stderr: /delete the node host-c needs a yes.*\nhint: add --yes/,
    })
    t.match(await run('delete', 'node', '-l', 'rack=c', '--yes'), {
      code: 0,
      stdout: 'host-c is forgotten\n',
    })
    t.match(await sql`select count(*)::int as n from mooring.node`, [{ n: 2 }])
  },
)

t.test('Y CLI: delete: by name at once, by label only after a yes', async (t) => {
  const { run, parsed, sql } = await fleet(t)
  t.match(await run('delete', 'deployment', '-l', 'tier=back'), {
    code: 2,
    stderr: new RegExp(
      'delete 2 deployments: watch, odd needs a yes, and there is no terminal to ' +
        'ask\\nhint: add --yes',
    ),
  })
  t.match(await run('delete', 'deployment', '--all'), { code: 2, stderr: /3 deployments/ })
  t.equal((await sql`select from mooring.deployment`).length, 3)
  t.match(await parsed('delete', 'deployments', '-l', 'tier=back', '--yes'), [
    { name: 'watch', stopping: 1 },
    { name: 'odd', stopping: 0 },
  ])
  t.match(await run('delete', 'deployment', 'web'), {
    code: 0,
    stdout: /^web is deleted; 2 still to stop: `mooring events -f --deployment \d+`\n$/,
  })
  t.equal((await sql`select from mooring.deployment`).length, 0)
  t.match(await sql`select distinct wanted from mooring.placement`, [{ wanted: 'stop' }])
})

t.test('scale sets replicas, and refuses a daemon with the reason and the way out', async (t) => {
  const { run, parsed, sql } = await fleet(t)
  t.match(await run('scale', 'deployment', 'web', '--replicas', '4'), {
    code: 0,
    stdout: 'web goes from 2 to 4\n',
  })
  t.match(await parsed('scale', 'deployment', 'web', '--replicas', '4'), [
    { name: 'web', replicas: 4, was: 4 },
  ])
  t.match(await run('scale', 'deployment', 'web', 'watch', '--replicas', '1'), {
    code: 1,
    stderr: new RegExp(
      'watch is a daemon and is not scaled: it runs once on every permitted node.*\\nhint: ' +
        '.*selector.*mooring disable deployment watch',
    ),
  })
  t.match(
    await sql`select replicas from mooring.deployment where name = 'web'`,
    [{ replicas: 4 }],
    'nothing of it',
  )
  const tooMany = await run('scale', 'deployment', 'web', '--replicas', '999999999')
  t.equal(tooMany.code, 1)
  t.notMatch(tooMany.stderr, /hunter2/, 'the server would show the failing row')
})

t.test(
  '--watch prints what changes: rows on a pipe, one object a line with --json, and ends with 0',
  async (t) => {
    const { start, sql } = await fleet(t)
    const [text, json] = [
      start('get', 'deployments', '--watch'),
      start('get', 'deployments', '-w', '--json'),
    ]
    await Promise.all([text.said('left-pad'), json.said('left-pad')])
    t.equal(json.stdout().trim().split('\n').length, 3)
    await sql`update mooring.deployment set replicas = 3 where name = 'web'`
    await text.said(/\d\d:\d\d:\d\d \d+ +web.*2\/3 +1 waiting/)
    await sql`delete from mooring.deployment where name = 'odd'`
    await text.said(/\d+ is gone/)
    await json.said('"gone":true')
    t.match(
      JSON.parse(json.stdout().trim().split('\n')[3]!),
      { name: 'web', replicas: 3 },
      'only what changed',
    )
    for (const program of [text, json]) {
      program.kill('SIGINT')
      t.equal((await program.exited).code, 0)
    }
  },
)

t.test('watching nodes, a beat is no news', async (t) => {
  const { start, sql, host } = await fleet(t)
  const watcher = start('get', 'nodes', '--watch', '--json')
  await waitFor(() => watcher.stdout().trim().split('\n').length === 2, { label: 'both nodes' })
  await sql`select from mooring.heartbeat('host-a', ${host.session}, 50, 100)`
  await sql`select from mooring.set_node_enabled('host-b', false)`
  await waitFor(() => watcher.stdout().trim().split('\n').length >= 3, { label: 'the change' })
  t.match(
    watcher
      .stdout()
      .trim()
      .split('\n')
      .slice(2)
      .map((line) => JSON.parse(line) as unknown),
    [{ node: 'host-b', health: 'DISABLED' }],
  )
})

t.test(
  'events are filtered by kind, node, deployment and age, and -f follows the filter',
  async (t) => {
    const { run, parsed, start, sql, web } = await fleet(t)
    const kinds = async (...args: string[]) => [
      ...new Set((await parsed('events', ...args)).map(({ kind }) => kind)),
    ]
    t.same(await kinds('--kind', 'claimed'), ['claimed'])
    t.same(
      (await parsed('events', '--deployment', 'web')).map(({ deployment_id }) => deployment_id),
      [web, web, web],
    )
    t.same(await parsed('events', '--node', 'host-b', '--kind', 'claimed,reaped'), [])
    t.match(await run('events', '--node', 'host-x'), {
      code: 1,
      stderr: /no node host-x\nhint: did you mean host-a/,
    })
    for (const args of [['987654'], ['id:987654'], ['987654', '-f']])
      t.match(
        await run('events', '--deployment', ...args),
        {
          code: 1,
          stderr: new RegExp(
            '^error: neither a deployment nor any event of the id 987654 is known\\nhint: ' +
              'see `mooring get deployments`',
          ),
        },
        args.join(' '),
      )
    await sql`
      insert into mooring.deployment (name, package_name, enabled)
      values ('987655', 'http-server', false)
    `
    t.match(
      await run('events', '--deployment', '987655', '--kind', 'reaped'),
      { code: 0, stdout: 'nothing of the kind has happened\n' },
      'a name is not taken for an id',
    )
    await sql`
      insert into mooring.event (at, kind, deployment_id, reason)
      values (now() - interval '3 h', 'released', 777, 'its deployment is gone')
    `
    t.match(
      await run('events', '--deployment', '777'),
      { code: 0, stdout: /its deployment is gone/ },
      'what was deleted has its history',
    )
    await sql`insert into mooring.deployment (name, package_name) values ('shop', 'http-server')`
    await sql`delete from mooring.deployment where name = 'shop'`
    t.match(
      await run('events', '--deployment', 'shop'),
      {
        code: 0,
        stdout: /deployment_added .*\n.*deployment_deleted deployment \d+ - shop: .* by \w+ \(/,
      },
      'and is found by its name, with the actor',
    )
    await sql`
      insert into mooring.deployment (package_name, enabled)
      select 'http-server', false from generate_series(1, 1001)`
    t.match(
      await run('events', '--deployment', String(Number(web) + 900)),
      { code: 0, stdout: /deployment_added - 1001 at once, ids/ },
      'one of very many is found in the event of all',
    )
    await sql`delete from mooring.deployment where name is null`
    t.match(await run('events', '--assignment', '9999'), {
      code: 1,
      stderr: /no assignment 9999\nhint: list them with `mooring get assignments`/,
    })
    t.match(await run('events', '-f', '--assignment', '9999', '--json'), {
      code: 1,
      stderr: /"code":"MR003"/,
    })
    await sql`
      insert into mooring.event (at, kind, assignment_id, reason)
      values (now() - interval '3 h', 'released', 8888, 'long gone')
    `
    t.match(await run('events', '--assignment', '8888'), { code: 0, stdout: /long gone/ })
    t.match(await run('events', '--assignment', '8888', '--kind', 'claimed'), {
      code: 0,
      stdout: 'nothing of the kind has happened\n',
    })
    t.match(await run('events', '-n', '0'), { code: 0, stdout: '' })
    await sql`update mooring.event set at = now() - interval '2 h' where kind <> 'claimed'`
    t.same(await kinds('--since', '1h'), ['claimed'])
    const follower = start('events', '-f', '--node', 'host-b', '--json', '-n', '0')
    const late = await sql.reserve()
    await late`begin`
    await late`
      insert into mooring.event (kind, node, reason)
      values ('a_test', 'host-b', 'written first, committed last')
    `
    await waitFor(
      async () => {
        await sql`
          insert into mooring.event (kind, node, reason)
          values ('a_test', 'host-b', 'on time'), ('a_test', 'host-a', 'of another')
        `
        return follower.stdout().includes('on time')
      },
      { label: 'it follows', show: () => follower.stderr() },
    )
    await late`commit`
    late.release()
    await follower.said('committed last')
    t.notMatch(follower.stdout(), 'of another')
  },
)
