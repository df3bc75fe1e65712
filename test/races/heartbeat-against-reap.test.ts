/**
 * A host was away for longer than its lease and comes back while its work is being reaped. The reap
 * holds the node's heartbeat row, and the beat waits for it. Then the reap commits, and the beat is
 * written: the node is live again.
 *
 * The answer must not confirm what the reap freed. A beat that is one statement reads the owned
 * rows with the snapshot it had before it waited, and confirms them all. The agent then runs on
 * under a fresh lease, and a second node starts the same work.
 */
import { createHash } from 'node:crypto'
import t from 'tap'
import { age, assignments, beat, deployment, node } from '../helpers/factories.js'
import { stage, waitsFor } from './stage.js'

const digestOf = (...lines: string[]): string =>
  createHash('sha256').update(lines.join(',')).digest('hex')

async function anAgentThatComesBack(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql)
  await pg.sql`select mooring.claim()`
  const [owned] = await assignments(pg.sql, id)
  const confirmed = digestOf(`${owned!.id}:${owned!.epoch}:1:run:stop:10000`)
  t.equal((await beat(pg.sql, hostA)).digest, confirmed, 'what it owns is confirmed')
  await age(pg.sql, 'host-a', '61 seconds ago')
  return {
    pg,
    hostA,
    id,
    confirmed,
    reaper: await pg.session('reaper'),
    agent: await pg.session('agent'),
  }
}

t.test('a beat that waited for a reap confirms nothing of what was reaped', async (t) => {
  const { pg, hostA, id, reaper, agent } = await anAgentThatComesBack(t)
  await reaper.begin()
  t.equal((await reaper.sql`select * from mooring.reap()`).length, 1)
  const beating = agent.start(
    (sql) =>
      sql<
        { digest: string; owned: number }[]
      >`select * from mooring.heartbeat(${hostA.name}, ${hostA.session})`,
  )
  await waitsFor(t, pg, agent, reaper)
  await reaper.commit()
  const [answer] = await beating.done
  t.match(answer, { owned: 0, digest: digestOf() }, 'the answer is the empty set')
  t.match((await assignments(pg.sql, id))[0], { node: null, epoch: '2' })
})

t.test(
  'negative control: as one statement the beat confirms work that was reaped while it waited',
  async (t) => {
    const { pg, hostA, id, confirmed, reaper, agent } = await anAgentThatComesBack(t)
    await pg.sql`
    create function mooring.beat_in_one_statement(node text, session uuid)
      returns table (digest text, owned int) language sql as $$
    with beat as (
      update mooring.heartbeat h set beat_at = clock_timestamp()
       where h.node_id = (
               select n.id from mooring.node n where n.name = beat_in_one_statement.node)
         and h.session = beat_in_one_statement.session
      returning h.node_id
    )
    select mooring_internal.ownership_digest(
             array_agg(mooring_internal.ownership_line(a, d) order by a.id)),
           count(*)::int
      from beat
      join mooring.assignment a on a.node_id = beat.node_id
      join mooring.deployment d on d.id = a.deployment_id
  $$`
    await reaper.begin()
    t.equal((await reaper.sql`select * from mooring.reap()`).length, 1)
    const beating = agent.start(
      (sql) =>
        sql<
          { digest: string; owned: number }[]
        >`select * from mooring.beat_in_one_statement(${hostA.name}, ${hostA.session})`,
    )
    await waitsFor(t, pg, agent, reaper)
    await reaper.commit()
    const [answer] = await beating.done
    t.match(answer, { owned: 1, digest: confirmed }, 'it is confirmed and runs on')
    t.match(
      (await assignments(pg.sql, id))[0],
      { node: null },
      'while the work waits for another node',
    )
  },
)

t.test('a beat that came first makes the reap pass by: the node lives', async (t) => {
  const { pg, hostA, id, reaper, agent } = await anAgentThatComesBack(t)
  await agent.begin()
  await beat(agent.sql, hostA)
  t.equal(
    (await reaper.sql`select * from mooring.reap()`).length,
    0,
    'the row is passed by, not waited for',
  )
  await agent.commit()
  t.equal(
    (await reaper.sql`select * from mooring.reap()`).length,
    0,
    'and afterwards its lease runs',
  )
  t.match((await assignments(pg.sql, id))[0], { node: 'host-a', epoch: '1' })
})

t.test('a beat that was rolled back gave no lease', async (t) => {
  const { hostA, reaper, agent } = await anAgentThatComesBack(t)
  await agent.begin()
  await beat(agent.sql, hostA)
  await agent.rollback()
  t.equal((await reaper.sql`select * from mooring.reap()`).length, 1)
})

t.test(
  'a beat under repeatable read is refused: it would confirm what its old snapshot shows',
  async (t) => {
    const { hostA, agent } = await anAgentThatComesBack(t)
    await agent.sql`begin isolation level repeatable read`
    await t.rejects(beat(agent.sql, hostA), { code: 'MR008' })
    await agent.rollback()
  },
)
