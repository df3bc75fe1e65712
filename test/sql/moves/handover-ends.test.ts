// Start-first moves: each way in which a handover ends early. In all of them the replica has one
// row, is pending only when no instance is left, and nothing is lost.
import t from 'tap'
import { assignments, deployment, node } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { brokenLaws, snapshot } from '../invariants.js'
import { arriving, instances, dies, fleet, says, shape, START_FIRST } from '../overlap.js'
import { claim, events, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story(
  'a refused successor is deleted, the predecessor runs on, and the next one goes elsewhere',
  async (t, sql) => {
    const made = await arriving(sql, {}, ['host-b', 'host-c'])
    const before = (await instances(sql))[0]
    const to = (await instances(sql))[1]!.node!
    t.equal(await says(sql, made, made.successor, 'refused', { error: 'not trusted' }), true)
    t.same(await instances(sql), [before])
    t.match(await events(sql, 'handover_failed'), [
      {
        assignment_id: made.old,
        node: 'host-a',
        reason: 'its successor is given up: the agent will not run it',
        detail: { from: { node: 'host-a' }, to: { node: to } },
      },
    ])
    await claim(sql)
    t.same(
      (await instances(sql)).map((row) => [row.node, row.handover]),
      [
        ['host-a', null],
        [to === 'host-b' ? 'host-c' : 'host-b', 'arriving'],
      ],
    )
    const [next] = (await instances(sql)).filter((row) => row.handover)
    await says(sql, made, next!.id, 'refused')
    await claim(sql)
    t.match(
      await sql`select blocked, why from mooring.drain_progress`,
      [{ blocked: 1, why: /its agent refused it/ }],
      'nobody is left',
    )
  },
)

story('the host of a successor dies: another one is started elsewhere', async (t, sql) => {
  const made = await arriving(sql, {}, ['host-b', 'host-c'])
  const to = (await instances(sql))[1]!.node!
  await dies(sql, to)
  t.same(await shape(sql), [['host-a', null, 'run']])
  t.match(await events(sql, 'handover_failed'), [
    { reason: 'its successor is given up: the lease of its node is over' },
  ])
  await claim(sql)
  t.same(await shape(sql), [
    ['host-a', null, 'run'],
    [to === 'host-b' ? 'host-c' : 'host-b', 'arriving', 'run'],
  ])
  t.match(await sql`select node, ended_why from mooring.history(${made.successor}::bigint)`, [
    { ended_why: 'the lease of its node is over' },
  ])
})

story(
  'the host of a successor is drained or its agent stops: the successor is given up at once',
  async (t, sql) => {
    const made = await arriving(sql, {}, ['host-b', 'host-c'])
    const to = (await instances(sql))[1]!.node!
    await sql`select from mooring.drain_node(${to})`
    await claim(sql)
    t.same((await shape(sql))[1], [to, 'arriving', 'stop'])
    t.match(await sql`select "left", moving from mooring.drain_progress where node = ${to}`, [
      { left: 1, moving: 1 },
    ])
    await says(sql, made, made.successor, 'stopped')
    await claim(sql)
    const third = (await instances(sql))[1]!
    t.not(third.node, to)
    await sql`select from mooring.begin_leave(${third.node}, ${made.hosts[third.node!]!.session})`
    await claim(sql)
    t.match((await instances(sql))[1], {
      id: third.id,
      wanted: 'stop',
      stop_reason: 'its node is draining or its agent is stopping',
    })
    await sql`select mooring.leave(${third.node}, ${made.hosts[third.node!]!.session})`
    t.same(await shape(sql), [['host-a', null, 'run']])
  },
)

story(
  'a successor that crashes is given up, its replica rests, and a drain goes on with the others',
  async (t, sql) => {
    const made = await fleet(sql, { replicas: 2 })
    await sql`select from mooring.drain_node('host-a', max_moves => 1)`
    await claim(sql)
    const first = (await instances(sql)).find((row) => row.handover)!
    await says(sql, made, first.id, 'backoff', { restarts: 2, error: 'exited with code 1' })
    await claim(sql)
    t.match(
      (await instances(sql)).find((row) => row.id === first.id),
      { handover: 'arriving', wanted: 'run' },
      'twice is nothing',
    )
    await says(sql, made, first.id, 'backoff', { restarts: 3, error: 'exited with code 1' })
    await claim(sql)
    t.match(
      (await instances(sql)).find((row) => row.id === first.id),
      {
        handover: 'arriving',
        wanted: 'stop',
        stop_reason: 'it does not stay up there: exited with code 1',
      },
    )
    await says(sql, made, first.id, 'stopped')
    await claim(sql)
    const second = (await instances(sql)).find((row) => row.handover)!
    t.not(second.ordinal, first.ordinal, 'the other one has its turn')
    const [resting] = (await instances(sql)).filter((row) => row.ordinal === first.ordinal)
    t.match(await sql`select "left", moving, blocked, why from mooring.drain_progress`, [
      {
        left: 2,
        moving: 1,
        blocked: 1,
        why: new RegExp(
          `assignment ${resting!.id}: its successor on host-b: it does not stay up ` +
            'there: exited with code 1 .tried again after',
        ),
      },
    ])
    t.match(await sql`select assignment_id, to_node from mooring.simulate_drain('host-a')`, [
      { assignment_id: resting!.id, to_node: null },
    ])
    await says(sql, made, second.id, 'running', { pid: 2 })
    await claim(sql)
    t.same(
      (await instances(sql)).filter((row) => row.ordinal === first.ordinal).length,
      1,
      'it rests',
    )

    await sql`
      update mooring.assignment
         set handover_failed_at = handover_failed_at - interval '5 min'
       where handover_failed_at is not null`
    await sql`update mooring_internal.round set done_at = '-infinity' where name = 'place'`
    await claim(sql)
    t.equal(
      (await instances(sql)).filter((row) => row.ordinal === first.ordinal).length,
      2,
      'and is tried again',
    )
  },
)

story('an edit of the spec lets a handover that failed be tried again at once', async (t, sql) => {
  const made = await arriving(sql)
  await says(sql, made, made.successor, 'backoff', { restarts: 3 })
  await claim(sql)
  await says(sql, made, made.successor, 'stopped')
  await claim(sql)
  t.same(await shape(sql), [['host-a', null, 'run']])
  await sql`update mooring.deployment set package_version = '14.1.0' where id = ${made.id}`
  await sql`update mooring_internal.round set done_at = '-infinity' where name = 'place'`
  await claim(sql)
  t.same(await shape(sql), [
    ['host-a', null, 'run'],
    ['host-b', 'arriving', 'run'],
  ])
})

story(
  'a successor that is not observed running within setting.handover_timeout is given up',
  async (t, sql) => {
    const made = await arriving(sql)
    await says(sql, made, made.successor, 'installing')
    await sql`
      update mooring.assignment
         set assigned_at = assigned_at - interval '6 min'
       where id = ${made.successor}`
    await claim(sql)
    t.match((await instances(sql))[1], {
      wanted: 'stop',
      stop_reason: 'it does not run there after 00:05:00',
    })
    t.match(await events(sql, 'handover_failed'), [
      { reason: 'its successor is given up: it does not run there after 00:05:00' },
    ])
  },
)

story(
  'a successor that is no longer permitted stops, and the permitted predecessor runs on',
  async (t, sql) => {
    const made = await arriving(sql)
    await sql`update mooring.node set labels = '{"zone": "a"}' where name = 'host-a'`
    await sql`update mooring.deployment set selector = '{"zone": "a"}' where id = ${made.id}`
    t.same(await shape(sql), [
      ['host-a', null, 'run'],
      ['host-b', 'arriving', 'stop'],
    ])
    await says(sql, made, made.successor, 'stopped')
    await claim(sql)
    t.same(await shape(sql), [['host-a', null, 'run']])
  },
)

story(
  'what is no longer permitted where it leaves is stopped, and its successor takes over',
  async (t, sql) => {
    const made = await arriving(sql)
    await sql`update mooring.node set labels = '{"zone": "b"}' where name = 'host-b'`
    await sql`update mooring.deployment set selector = '{"zone": "b"}' where id = ${made.id}`
    t.same(await shape(sql), [
      ['host-a', null, 'stop'],
      ['host-b', 'arriving', 'run'],
    ])
    t.equal(await says(sql, made, made.old, 'stopped'), true)
    t.match(await instances(sql), [
      { id: made.successor, node: 'host-b', handover: null, wanted: 'run', epoch: '1' },
    ])
  },
)

story(
  'the old host dies: the successor takes over at once, whatever it has reported so far',
  async (t, sql) => {
    const made = await arriving(sql)
    await dies(sql, 'host-a')
    t.match(
      await instances(sql),
      [{ id: made.successor, node: 'host-b', handover: null, wanted: 'run', epoch: '1' }],
      'nothing waits',
    )
    t.match(await events(sql, 'handed_over'), [
      {
        assignment_id: made.old,
        node: 'host-a',
        reason: 'the lease of its node is over',
        detail: { to: { assignment: Number(made.successor), node: 'host-b' } },
      },
    ])
    t.match(await sql`select ended_why from mooring.history(${made.old}::bigint)`, [
      { ended_why: 'the lease of its node is over' },
    ])
    await says(sql, made, made.successor, 'running', { pid: 2 })
    await claim(sql)
    t.match(await sql`select done, moving from mooring.drain_progress`, [{ done: true, moving: 0 }])
  },
)

story(
  'both hosts die at once: the replica waits like any other, and is started once',
  async (t, sql) => {
    const made = await arriving(sql, {}, ['host-b'])
    await sql`update mooring.heartbeat set beat_at = clock_timestamp() - interval '61 seconds'`
    await node(sql, { name: 'host-d' })
    await sql`select from mooring.reap()`
    t.match(await instances(sql), [{ id: made.old, node: null, handover: null, wanted: 'run' }])
    await claim(sql)
    t.match(await instances(sql), [{ id: made.old, node: 'host-d', epoch: '3' }])
  },
)

story(
  'the new host dies while the predecessor still stops: the replica starts again after it',
  async (t, sql) => {
    const made = await arriving(sql, {}, ['host-b', 'host-c'])
    await says(sql, made, made.successor, 'running', { pid: 2 })
    await claim(sql)
    const to = (await instances(sql)).find((row) => row.id === made.successor)!.node!
    await dies(sql, to)
    t.match(
      await instances(sql),
      [{ id: made.old, node: 'host-a', handover: null, wanted: 'stop' }],
      'never a third',
    )
    await says(sql, made, made.old, 'stopped')
    await claim(sql)
    t.match(await instances(sql), [
      {
        id: made.old,
        node: to === 'host-b' ? 'host-c' : 'host-b',
        handover: null,
        wanted: 'run',
        epoch: '3',
      },
    ])
  },
)

for (const [what, end] of [
  ['disabled', 'update mooring.deployment set enabled = false'],
  ['deleted', 'delete from mooring.deployment'],
  ['scaled down', 'update mooring.deployment set replicas = 0'],
] as const) {
  for (const first of ['old', 'successor'] as const) {
    story(`${what} in the middle, both end, the ${first} first`, async (t, sql) => {
      const made = await arriving(sql)
      await sql.unsafe(end)
      t.same(await shape(sql), [
        ['host-a', null, 'stop'],
        ['host-b', 'arriving', 'stop'],
      ])
      await claim(sql)
      t.equal(await says(sql, made, made[first], 'stopped'), true)
      const [left] = await instances(sql)
      t.match(
        await instances(sql),
        [{ handover: null, wanted: 'stop', node: first === 'old' ? 'host-b' : 'host-a' }],
        'what is left is the replica',
      )
      await says(sql, made, left!.id, 'stopped')
      t.same(await shape(sql), what === 'disabled' ? [[null, null, 'stop']] : [])
      t.same(await loads(sql), { 'host-a': 0, 'host-b': 0 })
      t.same(await events(sql, 'handed_over'), [])
    })
  }
}

for (const first of ['old', 'successor'] as const) {
  story(`deleted and inserted again it waits for both, the ${first} first`, async (t, sql) => {
    const made = await arriving(sql)
    await sql`delete from mooring.deployment`
    await deployment(sql, { id: made.id })
    await claim(sql)
    t.same(await shape(sql), [
      ['host-a', null, 'stop'],
      ['host-b', 'arriving', 'stop'],
    ])
    await says(sql, made, made[first], 'stopped')
    await sql`update mooring.node set draining_since = null`
    t.equal((await claim(sql)).length, 0, 'one of them still runs')
    const [left] = await instances(sql)
    await says(sql, made, left!.id, 'stopped')
    t.same(await claim(sql), [left!.id])
    t.equal((await instances(sql)).length, 1)
  })
}

story(
  'said to be stop-first in the middle, the successor ends, because two are no longer allowed',
  async (t, sql) => {
    const made = await arriving(sql)
    await says(sql, made, made.successor, 'running', { pid: 2 })
    await sql`
      update mooring.deployment set handover = 'stop-first', on_lost = 'stop' where id = ${made.id}`
    await claim(sql)
    t.match(await instances(sql), [
      { node: 'host-a', handover: null, wanted: 'run' },
      {
        node: 'host-b',
        handover: 'arriving',
        wanted: 'stop',
        stop_reason: 'its deployment is stop-first now',
      },
    ])
    await claim(sql)
    t.equal((await instances(sql))[0]!.wanted, 'run', 'and is not moved before it is gone')
    await says(sql, made, made.successor, 'stopped')
    await sql`update mooring_internal.round set done_at = '-infinity' where name = 'place'`
    await claim(sql)
    t.same(await shape(sql), [['host-a', null, 'stop']])
  },
)

story('a drain that is ended lets what is on its way go on', async (t, sql) => {
  const made = await arriving(sql)
  await sql`select from mooring.undrain_node('host-a')`
  await says(sql, made, made.successor, 'running', { pid: 2 })
  await claim(sql)
  t.same(await shape(sql), [
    ['host-a', 'leaving', 'stop'],
    ['host-b', null, 'run'],
  ])
})

story(
  'the new host is drained while the predecessor still stops: never is there a third instance',
  async (t, sql) => {
    const made = await arriving(sql, {}, ['host-b', 'host-c'])
    await says(sql, made, made.successor, 'running', { pid: 2 })
    await claim(sql)
    const to = (await instances(sql)).find((row) => row.id === made.successor)!.node!
    await sql`select from mooring.drain_node(${to})`
    await claim(sql)
    t.equal((await instances(sql)).length, 2)
    await says(sql, made, made.old, 'stopped')
    await sql`update mooring_internal.round set done_at = '-infinity' where name = 'place'`
    await claim(sql)
    t.same(
      (await instances(sql)).map((row) => row.handover),
      [null, 'arriving'],
    )
  },
)

story('neither row is freed by hand', async (t, sql) => {
  const made = await arriving(sql)
  await sql`update mooring.heartbeat set beat_at = clock_timestamp() - interval '61 seconds'`
  for (const id of [made.old, made.successor]) {
    await refused(
      t,
      sql,
      (sql) => sql`update mooring.assignment set node_id = null where id = ${id}`,
      { code: 'MR006', message: /is being handed over/ },
    )
  }
})

story('the laws hold at every step of a few hundred at random', async (t, sql) => {
  await sql`update mooring.setting set handover_settle = '0'`
  const hosts: Record<string, Awaited<ReturnType<typeof node>>> = {}
  for (const name of ['host-a', 'host-b', 'host-c']) hosts[name] = await node(sql, { name })
  const ids = [
    await deployment(sql, { ...START_FIRST, replicas: 3 }),
    await deployment(sql, START_FIRST),
  ]
  const seed = Math.floor(Math.random() * 2 ** 31)
  let state = seed
  const below = (n: number) => (
    (state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff),
    Math.floor(state / 65536) % n
  )
  const any = <T>(of: readonly T[]) => of[below(of.length)]!
  const steps: Record<string, () => Promise<unknown>> = {
    claims: async () => {
      // as if the last round were long ago, and the last tick and all beats just now
      await sql`update mooring_internal.pulse set pulse_at = clock_timestamp()`
      await sql`update mooring.heartbeat set beat_at = clock_timestamp()`
      await sql`update mooring_internal.round set done_at = '-infinity' where name = 'place'`
      await claim(sql)
    },
    reports: async () => {
      const news = (await instances(sql)).filter(
        (row) => row.node !== null && (row.wanted === 'stop' || row.run_state !== 'running'),
      )
      if (news.length === 0) return
      const row = any(news)
      await says(
        sql,
        { hosts, id: '' },
        row.id,
        row.wanted === 'stop'
          ? 'stopped'
          : any([
              ...Array<string>(12).fill('running'),
              'backoff',
              row.handover ? 'refused' : 'running',
            ]),
        { restarts: below(5) },
      )
    },
    drains: async () => {
      const name = any(Object.keys(hosts))
      await sql`update mooring.node set draining_since = null where name <> ${name}`
      await sql`select from mooring.drain_node(${name}, max_moves => ${1 + below(3)})`
    },
    drainsToo: () => sql`select from mooring.drain_node(${any(Object.keys(hosts))})`,
    dies: async () => {
      const name = any(Object.keys(hosts))
      await dies(sql, name)
      hosts[name] = await node(sql, { name })
    },
    edits: () =>
      sql.unsafe(
        any([
          `update mooring.deployment set enabled = false where id = ${any(ids)}`,
          `update mooring.deployment set enabled = true`,
          `update mooring.deployment set replicas = ${1 + below(3)} where id = ${any(ids)}`,
          `update mooring.deployment set handover = 'stop-first' where id = ${any(ids)}`,
          `update mooring.deployment set handover = 'start-first'`,
          `update mooring.deployment set generation = generation + 1 where id = ${any(ids)}`,
          `delete from mooring.deployment where id = ${any(ids)}`,
          `
            insert into mooring.deployment (id, package_name, on_lost, handover, replicas)
            select u.id, 'http-server', 'keep', 'start-first', 2
              from unnest('{${ids.join(',')}}'::bigint[]) u (id)
            on conflict do nothing`,
        ]),
      ),
  }
  const ended = new Set<string>()
  const taken: string[] = []
  let before = await snapshot(sql)
  for (let n = 0; n < 300; n++) {
    const step = any([
      ...Array<string>(6).fill('claims'),
      ...Array<string>(12).fill('reports'),
      'drains',
      'drains',
      'drainsToo',
      'dies',
      'edits',
    ])
    taken.push(step)
    await steps[step]!()
    const now = await snapshot(sql)
    const broken = await brokenLaws(sql, before, now, ended)
    if (broken.length > 0) {
      t.fail(`seed ${seed}, step ${n}: ${broken.join('; ')}`, {
        taken: taken.slice(-10),
        rows: await assignments(sql),
      })
      return
    }
    before = now
  }
  // a walk at random need not hand over: when all is calm, the next drain does
  const endedBefore = (await events(sql, 'handed_over')).length
  await sql`
    insert into mooring.deployment (id, package_name, on_lost, handover, replicas)
    select u.id, 'http-server', 'keep', 'start-first', 2
      from unnest(${ids}::bigint[]) u (id)
    on conflict do nothing`
  await sql`
    update mooring.deployment
       set enabled = true,
           handover = 'start-first',
           generation = generation + 1`
  await sql`update mooring.node set draining_since = null`
  const calm = async () => {
    await steps.claims!()
    for (const row of await instances(sql)) {
      if (row.node === null) continue
      if (row.wanted === 'stop') await says(sql, { hosts, id: '' }, row.id, 'stopped')
      else if (row.run_state !== 'running') {
        await says(sql, { hosts, id: '' }, row.id, 'running', { restarts: 0 })
      }
    }
  }
  for (let n = 0; n < 10; n++) await calm()
  const [owner] = (await instances(sql)).filter((row) => row.node !== null)
  await sql`select from mooring.drain_node(${owner!.node})`
  for (let n = 0; n < 10; n++) await calm()
  const handedOver = (await events(sql, 'handed_over')).length
  t.ok(handedOver > endedBefore, `seed ${seed}: ${endedBefore} handovers, then ${handedOver}`)
})
