import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { mooring, tempDir } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'
import { fleet, run } from '../fleet.js'

/**
 * Notes in the state directory the session that holds the name in the database, as the agent does:
 * what is there is then read from there.
 */
async function agentOfThisHost(
  place: Awaited<ReturnType<typeof fleet>>,
  node = 'host-a',
): Promise<string> {
  const folder = join(place.state, 'agents', node)
  mkdirSync(join(folder, 'logs'), { recursive: true })
  const [{ session } = { session: '' }] = await place.sql<
    { session: string }[]
  >`select n.session from mooring.node_status n where n.node = ${node}`
  writeFileSync(join(folder, 'session.json'), JSON.stringify({ session }))
  return join(folder, 'logs')
}

t.test(
  'Y CLI: logs shows what an assignment wrote, and the prefixed lines of several',
  async (t) => {
    const place = await fleet(t, 'web')
    await place.sql`
      insert into mooring.deployment (name, package_name, package_version, replicas, labels)
      values ('pair', 'http-server', '14.1.1', 2, '{"app": "pair"}')
    `
    await place.sql`select count(*) from mooring.claim()`
    const pair = await place.sql<
      { assignment_id: string }[]
    >`select p.assignment_id from mooring.placement p where p.name = 'pair' order by p.ordinal`
    const folder = await agentOfThisHost(place)
    const web = place.ids['web']!.assignment_id
    writeFileSync(join(folder, `${web}.log`), 'one\ntwo\nthree\n')
    pair.forEach(({ assignment_id }, i) => {
      writeFileSync(join(folder, `${assignment_id}.log`), `replica ${i}\n`)
    })

    const shown: Promise<unknown>[] = []
    const both = pair
      .map(({ assignment_id }, i) => `[${assignment_id}@host-a] replica ${i}\n`)
      .join('')
    for (const [args, stdout] of [
      [[web], 'one\ntwo\nthree\n'],
      [['web', '--tail', '1'], 'three\n'],
      [['web', '--tail', 'all'], 'one\ntwo\nthree\n'],
      [['web', '--tail', '0'], ''],
      [['web', '--tail', '1', '--prefix'], `[${web}@host-a] three\n`],
      [['pair'], both],
      [['--selector', 'app=pair'], both],
      [['pair', '--no-prefix'], 'replica 0\nreplica 1\n'],
      [[web, '--node', 'host-a', '--tail', '2'], 'two\nthree\n'],
    ] as const)
      shown.push(
        run(t, place, ['logs', ...args]).then((done) =>
          t.equal(done.stdout, stdout, args.join(' ')),
        ),
      )
    await Promise.all(shown)
    t.same(JSON.parse((await run(t, place, ['logs', 'web', '--json', '--tail', '1'])).stdout), {
      assignment_id: web,
      node: 'host-a',
      line: 'three',
    })
    t.same(
      await place.sql`select from mooring_internal.log_request`,
      [],
      'none of it went through the database',
    )

    const follower = mooring(t, ['logs', 'web', '-f', '--tail', '1'], {
      databaseUrl: place.url,
      env: { MOORING_STATE_DIR: place.state },
    })
    await follower.said('three')
    appendFileSync(join(folder, `${web}.log`), 'fo')
    appendFileSync(join(folder, `${web}.log`), 'ur\n')
    await follower.said('four')
    t.equal(follower.stdout(), 'three\nfour\n')
  },
)

t.test('logs says what is missing and what to type', async (t) => {
  const place = await fleet(t, 'web')
  t.match(
    (await run(t, place, ['logs', 'odd'])).stderr,
    /runs nowhere yet.*\nhint: `mooring explain \d+`/,
  )
  await agentOfThisHost(place)
  const web = place.ids['web']!.assignment_id
  const silent = await run(t, place, ['logs', 'web'])
  t.equal(silent.code, 1)
  t.match(
    silent.stderr,
    new RegExp(
      `assignment ${web} on host-a has written nothing yet\\nhint: ` +
        `\`mooring logs ${web} -f\` once it runs; ` +
        `\`mooring history ${web}\` shows where it ran`,
    ),
  )
  t.match(
    (await run(t, place, ['logs', 'nothing'])).stderr,
    /there is no assignment or deployment nothing/,
  )
  t.match(
    (await run(t, place, ['logs', '987654'])).stderr,
    /there is no assignment or deployment 987654/,
  )
  t.match(
    (await run(t, place, ['logs', '--selector', 'app=none'])).stderr,
    /no deployment has the labels app=none\nhint: .*mooring get deployments --wide/,
  )
  await place.sql`
    insert into mooring.deployment (name, package_name, replicas)
    values ('wide', 'http-server', 51)
  `
  t.match(
    (await run(t, place, ['logs', 'wide'])).stderr,
    /these are 51 logs, and at most 50 are shown at once/,
  )
  for (const args of [
    [],
    ['web', '--selector', 'app=web'],
    ['web', '--tail', '1000001'],
    ['web', '--tail', '-1'],
    ['--selector', 'app==,'],
  ])
    t.equal((await run(t, place, ['logs', ...args])).code, 2, `logs ${args.join(' ')}`)
})

t.test(
  'the state directory of another fleet is not read as the log: the node is asked, and named',
  async (t) => {
    const place = await fleet(t, 'web')
    const folder = await agentOfThisHost(place)
    const web = place.ids['web']!.assignment_id
    writeFileSync(join(folder, `${web}.log`), 'of another fleet\n')
    writeFileSync(
      join(folder, '..', 'session.json'),
      JSON.stringify({ session: '00000000-0000-4000-8000-000000000000' }),
    )
    const program = mooring(t, ['logs', web, '--state-dir', place.state], {
      databaseUrl: place.url,
    })
    await waitFor(
      async () =>
        (
          await place.sql`
            update mooring_internal.log_request
            set requested_at = clock_timestamp() - interval '11 s'
            returning id
          `
        ).length > 0,
      { label: 'the node is asked' },
    )
    t.equal((await program.exited).code, 1)
    t.equal(program.stdout(), '')
    t.match(
      program.stderr(),
      new RegExp(
        'error: node host-a does not answer, and the log is there: it is HEALTHY, its last ' +
          `beat was [\\d.]+ s ago\\nhint: .*mooring logs ${web} --node NAME`,
      ),
    )
  },
)

t.test('an agent that was stopped has left its logs here', async (t) => {
  const place = await fleet(t, 'web')
  const folder = await agentOfThisHost(place)
  const web = place.ids['web']!.assignment_id
  writeFileSync(join(folder, `${web}.log`), 'last words\n')
  await place.sql`select mooring.leave('host-a', n.session) from mooring.node_status n`
  const { code, stdout, stderr } = await run(t, place, ['logs', web])
  t.equal(code, 0)
  t.equal(stdout, 'last words\n')
  t.match(
    stderr,
    new RegExp(
      'node host-a does not answer, and the log is there: it is LEFT.*; this is the log ' +
        'that host-a wrote here',
    ),
  )
})

t.test('logs of this host are shown while the database is away', async (t) => {
  const state = tempDir(t)
  mkdirSync(join(state, 'agents', 'host-a', 'logs'), { recursive: true })
  writeFileSync(join(state, 'agents', 'host-a', 'logs', '7.log'), 'still here\n')
  const { code, stdout } = await run(t, { url: 'postgres://x@127.0.0.1:1/x', state }, ['logs', '7'])
  t.equal(code, 0)
  t.equal(stdout, 'still here\n')
})
