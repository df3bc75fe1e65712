/**
 * A verb that frees work decides with one statement and frees with a later one. In between the work
 * may have been reaped, and even given to the next owner. An agent that was cut off reports
 * "stopped" of its former instance, and the report frees the running instance of another node. A
 * third node starts it while the second still runs it, although no lease has ended anywhere.
 *
 * What is freed is therefore named by assignment and epoch, never by assignment alone.
 */
import t from 'tap'
import { age, assignments, beat, deployment, node, report } from '../helpers/factories.js'
import { gateBefore, rewrite, stage, waitsFor } from './stage.js'

/**
 * host-a was silent for a minute, and runs one assignment that was refused or has to stop. Its
 * agent is about to report that. host-b is there.
 */
async function aLateReporter(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql)
  await pg.sql`select mooring.claim()`
  const [first] = await assignments(pg.sql, id)
  t.equal(await report(pg.sql, hostA, first!, 'running', { pid: 4711 }), true)
  const hostB = await node(pg.sql, { name: 'host-b' })
  await age(pg.sql, 'host-a', '61 seconds ago')
  return {
    pg,
    hostA,
    hostB,
    id,
    first: first!,
    agent: await pg.session('agent of host-a'),
    rounds: await pg.session('rounds'),
  }
}

for (const [state, toStop] of [
  ['stopped', true],
  ['refused', false],
] as const) {
  t.test(
    `defect 13: "${state}" after the work was reaped and claimed frees nothing of the new owner`,
    async (t) => {
      const { pg, hostA, hostB, id, first, agent, rounds } = await aLateReporter(t)
      if (toStop) {
        // off and on again: host-a is to stop its instance, and afterwards it shall run on some
        // node
        await pg.sql`update mooring.deployment set enabled = false where id = ${id}`
        await pg.sql`update mooring.deployment set enabled = true where id = ${id}`
      }
      const gate = await gateBefore(pg, 'report', 'select array_agg(f.id) into freed')
      await gate.stopHere(agent)
      const reporting = agent.start(
        (sql) => sql<{ accepted: boolean }[]>`
          select accepted
            from mooring.report(
              ${hostA.name}, ${hostA.session},
              ${sql.json([
                {
                  assignment_id: first.id,
                  epoch: first.epoch,
                  generation: '1',
                  state,
                },
              ])}
            )`,
      )
      await waitsFor(t, pg, agent, gate.session)
      // the report has read that it owns the row, and frees it in a moment
      t.equal((await rounds.sql`select * from mooring.reap()`).length, 1)
      t.equal((await rounds.sql`select * from mooring.claim()`).length, 1)
      t.match((await assignments(pg.sql, id))[0], { node: 'host-b', epoch: '3' })
      await gate.open()
      t.equal((await reporting.done)[0]!.accepted, false, 'the report came too late')
      t.match(
        (await assignments(pg.sql, id))[0],
        { node: 'host-b', epoch: '3', wanted: 'run' },
        'host-b keeps it',
      )
      t.equal((await beat(pg.sql, hostB)).owned, 1)
    },
  )
}

t.test(
  'agents reap and claim in one transaction: a report behind it is too late as well',
  async (t) => {
    const { pg, hostA, id, first, agent, rounds } = await aLateReporter(t)
    await rounds.begin()
    const [tick] = await rounds.sql<
      { rounds: string[] }[]
    >`select rounds from mooring.tick('agent host-b', inline => true)`
    t.ok(tick!.rounds.includes('reap') && tick!.rounds.includes('place'))
    const reporting = agent.start(
      (sql) => sql<{ accepted: boolean }[]>`
        select accepted
          from mooring.report(
            ${hostA.name}, ${hostA.session},
            ${sql.json([
              {
                assignment_id: first.id,
                epoch: first.epoch,
                generation: '1',
                state: 'refused',
              },
            ])}
          )`,
    )
    await waitsFor(t, pg, agent, rounds)
    await rounds.commit()
    t.equal((await reporting.done)[0]!.accepted, false)
    t.match((await assignments(pg.sql, id))[0], { node: 'host-b', epoch: '3' })
  },
)

t.test('a reap frees only what the silent node owned when it was judged', async (t) => {
  const { pg, hostA, id, first, agent, rounds } = await aLateReporter(t)
  const gate = await gateBefore(
    pg,
    'reap',
    'select array_agg(l.id), array_agg(l.epoch), array_agg(distinct l.node_id)',
  )
  await gate.stopHere(rounds)
  const reaping = rounds.start((sql) => sql`select * from mooring.reap()`)
  await waitsFor(t, pg, rounds, gate.session)
  // host-a is silent but not dead: its agent says in this moment that it will not run it, and
  // host-b gets it
  t.equal(await report(agent.sql, hostA, first, 'refused'), true)
  t.equal((await pg.sql`select * from mooring.claim()`).length, 1)
  await gate.open()
  t.equal((await reaping.done).length, 0, 'nothing is reaped')
  t.match((await assignments(pg.sql, id))[0], { node: 'host-b', epoch: '3' }, 'host-b keeps it')
})

t.test('what a reap has chosen no other verb frees before it does', async (t) => {
  const { pg, hostA, id, first, agent, rounds } = await aLateReporter(t)
  const gate = await gateBefore(pg, 'reap', 'return query\n      select r.*')
  await gate.stopHere(rounds)
  const reaping = rounds.start((sql) => sql`select * from mooring.reap()`)
  await waitsFor(t, pg, rounds, gate.session)
  t.equal(await report(agent.sql, hostA, first, 'refused'), null, 'to be repeated')
  await gate.open()
  t.equal((await reaping.done).length, 1)
  t.equal(await report(agent.sql, hostA, first, 'refused'), false)
  t.match((await assignments(pg.sql, id))[0], { node: null, epoch: '2' })
})

t.test('negative control: without the epoch the late report robs the new owner', async (t) => {
  const { pg, hostA, hostB, id, first, agent, rounds } = await aLateReporter(t)
  await rewrite(pg.sql, 'release', [' and a.epoch = o.epoch', ''])
  const gate = await gateBefore(pg, 'report', 'select array_agg(f.id) into freed')
  await gate.stopHere(agent)
  const reporting = agent.start(
    (sql) => sql`
      select accepted
        from mooring.report(
          ${hostA.name}, ${hostA.session},
          ${sql.json([
            {
              assignment_id: first.id,
              epoch: first.epoch,
              generation: '1',
              state: 'refused',
            },
          ])}
        )`,
  )
  await waitsFor(t, pg, agent, gate.session)
  await rounds.sql`select * from mooring.reap()`
  await rounds.sql`select * from mooring.claim()`
  t.equal((await beat(pg.sql, hostB)).owned, 1, 'host-b is ordered to run it')
  await gate.open()
  await reporting.done
  t.match(
    (await assignments(pg.sql, id))[0],
    { node: null, epoch: '4' },
    'and it is freed from host-b, whose lease runs, for the next node to start',
  )
})
