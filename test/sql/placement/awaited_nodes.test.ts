import t from 'tap'
import type { TransactionSql } from 'postgres'
import { age, deployments, node } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { claim, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** Two hosts with eleven and ten deployments, both away: left, or lost and reaped. */
async function allAway(sql: TransactionSql, how: 'left' | 'lost'): Promise<void> {
  const both = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  await deployments(sql, 21)
  await claim(sql)
  // everything at one time, as where the power fails
  if (how === 'left')
    for (const { name, session } of both) await sql`select mooring.leave(${name}, ${session})`
  for (const { name } of both) await age(sql, name, '1 minute ago')
  if (how === 'lost') await sql`select mooring.reap()`
  // however slow the machine is
  await sql`update mooring.setting set return_wait = '5 min'`
}

for (const how of ['left', 'lost'] as const) {
  story(
    `after all hosts have ${how}, work waits for the second to return, and each finds its own`,
    async (t, sql) => {
      await allAway(sql, how)
      await node(sql, { name: 'host-a', came: '0 s' })
      t.same(await claim(sql), [])
      t.match(await sql`select distinct reason from mooring.unplaced`, [
        {
          reason:
            'all nodes were away; until host-b is back it waits for setting.return_wait ' +
            '(00:05:00) from the first that came',
        },
      ])
      await node(sql, { name: 'host-b', came: '0 s' })
      t.equal((await claim(sql)).length, 21)
      t.same(await loads(sql), { 'host-a': 11, 'host-b': 10 })
      t.match(
        await sql`select count(*)::int as n from mooring.placement p where p.node <> p.last_node`,
        [{ n: 0 }],
        'each where it was',
      )
    },
  )
}

story(
  'also where the hosts were stopped one after the other, and the last had been given everything',
  async (t, sql) => {
    await allAway(sql, 'left')
    await sql`
      update mooring.assignment
         set last_node_id = (select id from mooring.node where name = 'host-a')`
    await node(sql, { name: 'host-a', came: '0 s' })
    t.same(await claim(sql), [])
    await node(sql, { name: 'host-b', came: '0 s' })
    await claim(sql)
    const { 'host-a': a, 'host-b': b } = await loads(sql)
    t.ok(a! <= 12 && b! >= 9, `${a} and ${b}`)
  },
)

story('it is waited for so long and no longer: then the first takes everything', async (t, sql) => {
  await allAway(sql, 'left')
  await node(sql, { name: 'host-a', came: '301 s' })
  t.equal((await claim(sql)).length, 21)
})

story('0 waits for no node', async (t, sql) => {
  await allAway(sql, 'left')
  await node(sql, { name: 'host-a', came: '0 s' })
  t.same(await claim(sql), [])
  await sql`update mooring.setting set return_wait = '0'`
  t.equal((await claim(sql)).length, 21)
})

story('new work does not wait', async (t, sql) => {
  await allAway(sql, 'left')
  await node(sql, { name: 'host-a', came: '0 s' })
  await deployments(sql, 2)
  t.equal((await claim(sql)).length, 2)
})

for (const [what, edit] of Object.entries({
  closed: 'update mooring.node set enabled = false where name = $1',
  drained: 'update mooring.node set draining_since = now() where name = $1',
  forgotten: 'select mooring.forget_node($1)',
})) {
  story(`a host that is ${what} is not waited for`, async (t, sql) => {
    await allAway(sql, 'left')
    await node(sql, { name: 'host-a', came: '0 s' })
    await sql.unsafe(edit, ['host-b'])
    t.equal((await claim(sql)).length, 21)
  })
}

story(
  'a host that is lost while another one is there is not waited for, however new that one is',
  async (t, sql) => {
    await sql`update mooring.setting set return_wait = '5 min'`
    for (const name of ['host-a', 'host-b']) await node(sql, { name, came: '2 min' })
    await deployments(sql, 2)
    await claim(sql)
    await age(sql, 'host-b', '1 minute ago')
    await sql`select mooring.reap()`
    t.equal((await claim(sql)).length, 1)
    t.same(await loads(sql), { 'host-a': 2, 'host-b': 0 })
  },
)

story('where one node was there all the time no node is awaited', async (t, sql) => {
  await allAway(sql, 'left')
  await node(sql, { name: 'host-c' })
  await node(sql, { name: 'host-a', came: '0 s' })
  t.equal((await claim(sql)).length, 21)
})

story(
  'an agent that registers again because the answer was lost has come at its first call',
  async (t, sql) => {
    const { session } = await node(sql, { name: 'host-a', came: '1 hour' })
    const came = async () =>
      (
        await sql`
          select extract(epoch from clock_timestamp() - h.session_at)::float8 as seconds
            from mooring.heartbeat h`
      )[0]!.seconds as number
    await sql`select mooring.register_node('host-a', ${session})`
    t.ok((await came()) > 3000, `${await came()} s ago`)
    await sql`select mooring.register_node('host-a', gen_random_uuid(), replaces => ${session})`
    t.ok((await came()) < 600, `${await came()} s ago`)
  },
)
