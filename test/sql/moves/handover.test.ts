// Start-first moves: the way they should go. What goes wrong on the way is in
// handover-ends.test.ts.
import t from 'tap'
import { assignments, beat, deployment, node, report } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { arriving, instances, fleet, says, shape, START_FIRST } from '../overlap.js'
import { claim, events, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story('start-first is accepted only where two instances may run at once', async (t, sql) => {
  await refused(t, sql, (sql) => deployment(sql, { handover: 'start-first' }), {
    code: '23514',
    constraint_name: 'deployment_start_first_is_only_for_on_lost_keep',
  })
  await refused(t, sql, (sql) => deployment(sql, { ...START_FIRST, type: 'daemon' }), {
    code: '23514',
    constraint_name: 'deployment_start_first_is_not_for_daemons',
  })
  await refused(t, sql, (sql) => deployment(sql, { handover: 'both' }), {
    code: '23514',
    constraint_name: 'deployment_handover_is_stop_first_or_start_first',
  })
  const id = await deployment(sql, START_FIRST)
  await refused(
    t,
    sql,
    (sql) => sql`update mooring.deployment set on_lost = 'stop' where id = ${id}`,
    { code: '23514', constraint_name: 'deployment_start_first_is_only_for_on_lost_keep' },
  )
  t.match(
    await sql`select handover from mooring.deployment where id = ${await deployment(sql)}`,
    [{ handover: 'stop-first' }],
    'not said',
  )
})

story(
  'D19: a drained host runs on until the successor runs, and is empty after the predecessor',
  async (t, sql) => {
    const made = await fleet(sql)
    const { hosts } = made
    await sql`select from mooring.drain_node('host-a')`
    await claim(sql)
    t.match(await instances(sql), [
      { node: 'host-a', handover: null, wanted: 'run', epoch: '1' },
      { node: 'host-b', handover: 'arriving', wanted: 'run', epoch: '1', ordinal: 0 },
    ])
    const [old, successor] = await instances(sql)
    t.same(await loads(sql), { 'host-a': 1, 'host-b': 1 }, 'both take a place')
    t.match(await sql`select total, "left", moving, blocked, done from mooring.drain_progress`, [
      { total: 1, left: 1, moving: 1, blocked: 0, done: false },
    ])
    t.match(await sql`select assigned, waiting from mooring.fleet`, [{ assigned: 2, waiting: 0 }])

    await says(sql, made, successor!.id, 'starting')
    await claim(sql)
    t.same(
      await shape(sql),
      [
        ['host-a', null, 'run'],
        ['host-b', 'arriving', 'run'],
      ],
      'it does not run yet',
    )
    await says(sql, made, successor!.id, 'running', { pid: 2 })
    await claim(sql)
    t.match(
      await instances(sql),
      [
        {
          node: 'host-a',
          handover: 'leaving',
          wanted: 'stop',
          epoch: '1',
          run_state: 'running',
          stop_reason: `handed over to assignment ${successor!.id} on host-b`,
        },
        { node: 'host-b', handover: null, wanted: 'run', epoch: '1', run_state: 'running' },
      ],
      'no epoch has changed: both keep the right they were given',
    )
    t.match(
      await sql`select "left", moving, blocked, done from mooring.drain_progress`,
      [{ left: 1, moving: 1, blocked: 0, done: false }],
      'done is said when its processes are gone',
    )

    t.equal(await says(sql, made, old!.id, 'stopped'), true)
    await claim(sql)
    t.match(await instances(sql), [
      { id: successor!.id, node: 'host-b', handover: null, wanted: 'run' },
    ])
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 1 })
    t.match(await sql`select "left", moving, done from mooring.drain_progress`, [
      { left: 0, moving: 0, done: true },
    ])

    const detail = {
      from: { assignment: Number(old!.id), node: 'host-a' },
      to: { assignment: Number(successor!.id), node: 'host-b' },
    }
    t.match(await events(sql, 'move_wanted'), [
      { assignment_id: old!.id, node: 'host-a', detail: { ...detail, handover: 'start-first' } },
    ])
    t.match(await events(sql, 'handed_over'), [
      { assignment_id: old!.id, node: 'host-a', reason: 'its successor runs', detail },
    ])
    t.match(await sql`select node, ended_why from mooring.history(${old!.id}::bigint)`, [
      { node: 'host-a', ended_why: `handed over to assignment ${successor!.id} on host-b` },
    ])
    t.match(await sql`select node, why, until from mooring.history(${successor!.id}::bigint)`, [
      { node: 'host-b', why: 'moved: host-a is drained', until: null },
    ])
    t.equal((await beat(sql, hosts['host-a']!)).owned, 0)
  },
)

story(
  'one that fails at once has not run: it has to run for setting.handover_settle',
  async (t, sql) => {
    const made = await arriving(sql)
    await sql`update mooring.setting set handover_settle = '1 min'`
    await says(sql, made, made.successor, 'running', { pid: 2 })
    await claim(sql)
    t.same(await shape(sql), [
      ['host-a', null, 'run'],
      ['host-b', 'arriving', 'run'],
    ])
    await sql`
      update mooring.run
         set last_active_at = last_active_at - interval '1 min'
       where assignment_id = ${made.successor}`
    await claim(sql)
    t.same(await shape(sql), [
      ['host-a', 'leaving', 'stop'],
      ['host-b', null, 'run'],
    ])
  },
)

story(
  'both instances are the same replica, with one spec and ordinal, and each owner has its own row',
  async (t, sql) => {
    const made = await arriving(sql, { args: ['--port'] })
    const seenBy = async (name: string) =>
      await sql`
        select ordinal, type, wanted, args
          from mooring.assignments_of(${name}, ${made.hosts[name]!.session})`
    t.same(await seenBy('host-a'), await seenBy('host-b'))
    await sql`select mooring.assert_owner(${made.old}, 1)`
    await sql`select mooring.assert_owner(${made.successor}, 1)`
    await says(sql, made, made.successor, 'running', { pid: 2 })
    await claim(sql)
    await sql`select mooring.assert_owner(${made.old}, 1)`
    await says(sql, made, made.old, 'stopped')
    await refused(
      t,
      sql,
      (sql) => sql`select mooring.assert_owner(${made.old}, 1)`,
      { code: 'MR005' },
      'gone is gone',
    )
  },
)

story(
  'D19: of ten replicas no more than max_moves arrive at a time, and never fewer than ten run',
  async (t, sql) => {
    const made = await fleet(sql, { replicas: 10 })
    const all = () => sql`select from mooring.placement where run_state = 'running'`
    await sql`select from mooring.drain_node('host-a', max_moves => 3)`
    for (
      let round = 0;
      round < 30 && !(await sql`select from mooring.drain_progress where done`).length;
      round++
    ) {
      await claim(sql)
      const now = await instances(sql)
      t.ok(now.filter((row) => row.handover === 'arriving').length <= 3, 'so many arrive at a time')
      t.ok((await all()).length >= 10)
      for (const row of now)
        await says(sql, made, row.id, row.wanted === 'stop' ? 'stopped' : 'running', { pid: 3 })
      t.ok((await all()).length >= 10)
    }
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 10 })
    t.same(
      (await instances(sql)).map((row) => row.ordinal).sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    )
    t.equal((await events(sql, 'handed_over')).length, 10)
  },
)

story('a predecessor that stops slowly delays no other work: its row is unused', async (t, sql) => {
  const made = await fleet(sql, { replicas: 2 })
  await sql`select from mooring.drain_node('host-a', max_moves => 1)`
  await claim(sql)
  const [first] = (await instances(sql)).filter((row) => row.handover === 'arriving')
  await says(sql, made, first!.id, 'running', { pid: 2 })
  await claim(sql)
  t.same(
    (await instances(sql)).map((row) => row.handover).sort(),
    ['arriving', 'leaving', null, null],
    'the second is on its way',
  )
})

story(
  'what does not run has nothing to keep up and is moved stop-first, so that a drain ends',
  async (t, sql) => {
    const made = await fleet(sql)
    const [row] = await instances(sql)
    await says(sql, made, row!.id, 'backoff', { restarts: 7 })
    await sql`select from mooring.drain_node('host-a')`
    await claim(sql)
    t.match(await sql`select wanted, handover, move_to from mooring.placement`, [
      { wanted: 'stop', handover: null, move_to: 'host-b' },
    ])
  },
)

story('stop-first work beside it is stopped first', async (t, sql) => {
  const made = await fleet(sql)
  await sql`update mooring.node set enabled = false where name = 'host-b'`
  await deployment(sql)
  await claim(sql)
  for (const row of await instances(sql)) await says(sql, made, row.id, 'running', { pid: 1 })
  await sql`update mooring.node set enabled = true where name = 'host-b'`
  await sql`select from mooring.drain_node('host-a')`
  await claim(sql)
  t.same(await shape(sql), [
    ['host-a', null, 'run'],
    ['host-a', null, 'stop'],
    ['host-b', 'arriving', 'run'],
  ])
})

story(
  'a deadline stops all at once, start-first or not, and a successor under way takes over',
  async (t, sql) => {
    const made = await fleet(sql, { replicas: 2 })
    await sql`select from mooring.drain_node('host-a', max_moves => 1)`
    await claim(sql)
    await sql`select from mooring.drain_node('host-a', deadline => '0')`
    await claim(sql)
    t.same(
      (await instances(sql)).filter((row) => row.node === 'host-a').map((row) => row.wanted),
      ['stop', 'stop'],
    )
    for (const row of (await instances(sql)).filter((copy) => copy.node === 'host-a'))
      t.equal(await says(sql, made, row.id, 'stopped'), true)
    await claim(sql)
    t.same(await shape(sql), [
      ['host-b', null, 'run'],
      ['host-b', null, 'run'],
    ])
    t.same((await instances(sql)).map((row) => row.ordinal).sort(), [0, 1])
  },
)

story(
  'a full node gets no successor: both instances count, also against max_assignments',
  async (t, sql) => {
    await fleet(sql, { replicas: 2 })
    await sql`update mooring.node set max_assignments = 1 where name = 'host-b'`
    await sql`select from mooring.drain_node('host-a')`
    await claim(sql)
    t.equal((await instances(sql)).filter((row) => row.handover === 'arriving').length, 1)
    await claim(sql)
    t.match(await sql`select "left", moving, blocked, why from mooring.drain_progress`, [
      { left: 2, moving: 1, blocked: 1, why: /max_assignments already/ },
    ])
  },
)

story(
  'D18: reassign starts the successor on the named node; a repeated call says what is under way',
  async (t, sql) => {
    const made = await fleet(sql, {}, ['host-b', 'host-c'])
    const [row] = await instances(sql)
    t.match(
      await sql`select id, node_id, handover from mooring.reassign(${row!.id}::bigint, 'host-c')`,
      [{ node_id: made.hosts['host-c']!.id, handover: 'arriving' }],
    )
    const [old, successor] = await instances(sql)
    await refused(t, sql, (sql) => sql`select mooring.reassign(${old!.id}::bigint, 'host-b')`, {
      code: 'MR006',
      message: new RegExp(`is being handed over to assignment ${successor!.id} on host-c`),
    })
    await refused(
      t,
      sql,
      (sql) => sql`select mooring.reassign(${successor!.id}::bigint, 'host-b')`,
      { code: 'MR006', message: new RegExp(`successor of assignment ${old!.id} on host-a`) },
    )
    for (const row of [old!, successor!])
      await refused(t, sql, (sql) => sql`select mooring.restart(${row.id}::bigint)`, {
        code: 'MR006',
        message: /is being handed over|is the successor/,
      })
    await says(sql, made, successor!.id, 'running', { pid: 2 })
    await claim(sql)
    await refused(t, sql, (sql) => sql`select mooring.reassign(${old!.id}::bigint, 'host-b')`, {
      code: 'MR006',
      hint: new RegExp(`Assignment ${successor!.id}`),
    })
    await refused(
      t,
      sql,
      (sql) => sql`select mooring.reassign(${successor!.id}::bigint, 'host-b')`,
      { code: 'MR006', message: /still stops on host-a/ },
    )
    await says(sql, made, old!.id, 'stopped')
    t.match(
      await sql`select handover from mooring.reassign(${successor!.id}::bigint, 'host-b')`,
      [{ handover: 'arriving' }],
      'and on to the next',
    )
  },
)

story(
  'rebalance moves start-first work start-first, and counts it until it has taken over',
  async (t, sql) => {
    const made = await fleet(sql, { replicas: 4 })
    await sql`update mooring.setting set rebalance_cooldown = '0'`
    t.equal((await sql`select * from mooring.rebalance(1, dry_run => false)`).length, 1)
    t.same(
      (await instances(sql)).map((row) => row.wanted),
      ['run', 'run', 'run', 'run', 'run'],
    )
    t.same(await loads(sql), { 'host-a': 4, 'host-b': 1 })
    t.equal(
      (await sql`select * from mooring.rebalance(1, dry_run => false)`).length,
      0,
      'one is on its way',
    )
    const plan = await sql<{ assignment_id: string }[]>`select * from mooring.rebalance(10)`
    const before = await instances(sql)
    const successor = before.find((row) => row.handover === 'arriving')!
    t.equal(plan.length, 0, '3 and 1 to be, with replicas of one deployment kept apart')
    await says(sql, made, successor.id, 'running', { pid: 2 })
    await claim(sql)
    for (const row of await instances(sql))
      if (row.wanted === 'stop') await says(sql, made, row.id, 'stopped')
    t.same(await loads(sql), { 'host-a': 3, 'host-b': 1 })
  },
)

story(
  'a restart in the middle is one of both, and the successor takes over when it runs',
  async (t, sql) => {
    const made = await arriving(sql)
    await sql`update mooring.deployment set generation = generation + 1 where id = ${made.id}`
    await claim(sql)
    t.same(await shape(sql), [
      ['host-a', null, 'run'],
      ['host-b', 'arriving', 'run'],
    ])
    t.same(
      (await assignments(sql)).map((row) => row.generation),
      ['2', '2'],
    )
    await says(sql, made, made.successor, 'running', { pid: 2 })
    await claim(sql)
    t.same(await shape(sql), [
      ['host-a', 'leaving', 'stop'],
      ['host-b', null, 'run'],
    ])
  },
)

story(
  'what is looked at with a handover under way: explain, what-if and the spreading of replicas',
  async (t, sql) => {
    const made = await arriving(sql, {}, ['host-b', 'host-c'])
    const verdicts = async () =>
      Object.fromEntries(
        (
          await sql<
            { node: string; verdict: string }[]
          >`select node, verdict from mooring.explain(${made.id}::bigint)`
        ).map((row) => [row.node, row.verdict]),
      )
    t.match(await verdicts(), { 'host-a': /^runs here/, 'host-b': /^starts here, as a successor/ })
    t.match(
      await sql`select assignment_id, to_node, reason from mooring.simulate_node_loss('host-a')`,
      [{ assignment_id: made.old, to_node: 'host-b', reason: 'its successor is there already' }],
    )
    t.same(
      await sql`select * from mooring.simulate_node_loss('host-b')`,
      [],
      'a successor that is lost leaves nothing to be placed',
    )
    t.same(await sql`select * from mooring.simulate_drain('host-a')`, [])
    t.same(await sql`select * from mooring.unplaced`, [])
    await says(sql, made, made.successor, 'running', { pid: 2 })
    await claim(sql)
    t.same(await sql`select * from mooring.simulate_node_loss('host-a')`, [], 'nor a predecessor')
    t.match(await sql`select assignment_id from mooring.simulate_node_loss('host-b')`, [
      { assignment_id: made.successor },
    ])
    t.same(
      (await sql`select handover from mooring.placement order by handover`).map(
        (row) => row['handover'],
      ),
      ['leaving', null],
    )
    t.match(await sql`select assignments, running from mooring.node_status order by node`, [
      { assignments: 1, running: 1 },
      { assignments: 1, running: 1 },
      { assignments: 0 },
    ])
  },
)

story(
  'a host that joins and a deployment that grows in the middle get what they get otherwise',
  async (t, sql) => {
    const made = await arriving(sql)
    made.hosts['host-c'] = await node(sql, { name: 'host-c' })
    await sql`update mooring.deployment set replicas = 2 where id = ${made.id}`
    t.equal((await claim(sql)).length, 1)
    t.same(
      (await instances(sql)).map((row) => [row.ordinal, row.node, row.handover]),
      [
        [0, 'host-a', null],
        [0, 'host-b', 'arriving'],
        [1, 'host-c', null],
      ],
    )
    t.equal(
      await report(sql, made.hosts['host-c']!, (await instances(sql))[2]!, 'running', { pid: 1 }),
      true,
    )
  },
)
