import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const hosts = async (sql: TransactionSql, id: string) =>
  (await assignments(sql, id)).map(({ node }) => node).sort()

story('replicas of one deployment go to different nodes', async (t, sql) => {
  for (const name of ['host-a', 'host-b', 'host-c']) await node(sql, { name })
  const id = await deployment(sql, { replicas: 3 })
  await claim(sql)
  t.same(await hosts(sql, id), ['host-a', 'host-b', 'host-c'])
})

story('they do so when one node is empty and the others are full of other work', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await deployments(sql, 20)
  await claim(sql)
  await node(sql, { name: 'host-c' })
  const id = await deployment(sql, { replicas: 3 })
  await claim(sql)
  t.same(await hosts(sql, id), ['host-a', 'host-b', 'host-c'])
})

story('what has to share a node shares evenly', async (t, sql) => {
  for (const name of ['host-a', 'host-b', 'host-c']) await node(sql, { name })
  const id = await deployment(sql, { replicas: 8 })
  await claim(sql)
  t.same(
    (await hosts(sql, id)).join(' '),
    'host-a host-a host-a host-b host-b host-b host-c host-c',
  )
})

story('many deployments at once: each is spread and the loads stay exact', async (t, sql) => {
  for (let n = 0; n < 7; n++) await node(sql)
  await sql`
    insert into mooring.deployment (package_name, replicas)
    select 'http-server', 3
      from generate_series(1, 70)`
  t.equal((await claim(sql)).length, 210)
  const twins = await sql`
      select deployment_id
        from mooring.assignment
       group by deployment_id, node_id
       having count(*) > 1`
  t.same([...twins], [])
  t.same(new Set(Object.values(await loads(sql))), new Set([30]))
})

story('a replica added later avoids the nodes of its twins', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const id = await deployment(sql, { replicas: 1 })
  await claim(sql)
  await node(sql, { name: 'host-b' })
  await sql`
    insert into mooring.deployment (package_name, pinned_node)
    select 'http-server', 'host-b'
      from generate_series(1, 5)`
  await claim(sql)
  await sql`update mooring.deployment set replicas = 2 where id = ${id}`
  await claim(sql)
  t.same(await hosts(sql, id), ['host-a', 'host-b'], 'though host-b is fuller')
})

story('a replica that fails over goes where none of its twins is', async (t, sql) => {
  for (const name of ['host-a', 'host-b', 'host-c']) await node(sql, { name })
  const id = await deployment(sql, { replicas: 3 })
  await claim(sql)
  await node(sql, { name: 'host-d' })
  await sql`
    insert into mooring.deployment (package_name, pinned_node)
    select 'http-server', 'host-d'
      from generate_series(1, 9)`
  await claim(sql)
  await age(sql, 'host-b', '1 minute ago')
  await sql`select from mooring.reap()`
  await claim(sql)
  t.same(await hosts(sql, id), ['host-a', 'host-c', 'host-d'])
})

story('spreading never fills a node above max_assignments', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b', max_assignments: 1 })
  const ids = []
  for (let n = 0; n < 4; n++) ids.push(await deployment(sql, { replicas: 2 }))
  t.equal((await claim(sql)).length, 8)
  t.same(await loads(sql), { 'host-a': 7, 'host-b': 1 })
})

story('with a limit on each node every deployment that can be spread is', async (t, sql) => {
  for (let n = 0; n < 4; n++) await node(sql, { max_assignments: 5 })
  await sql`
    insert into mooring.deployment (package_name, replicas)
    select 'http-server', 2
      from generate_series(1, 10)`
  t.equal((await claim(sql)).length, 20)
  const twins = await sql`
      select deployment_id
        from mooring.assignment
       group by deployment_id, node_id
       having count(*) > 1`
  t.same([...twins], [])
})

story('replicas in different windows of one claim are spread too', async (t, sql) => {
  for (let n = 0; n < 4; n++) await node(sql)
  await sql`update mooring.setting set claim_window = 1`
  const id = await deployment(sql, { replicas: 4 })
  await claim(sql)
  t.equal(new Set(await hosts(sql, id)).size, 4)
})

story('two thousand replicas on three nodes are placed evenly and at once', async (t, sql) => {
  for (let n = 0; n < 3; n++) await node(sql)
  await deployment(sql, { replicas: 2000 })
  await sql`set local statement_timeout = '20 s'` // looking at every twin one by one took minutes
  t.equal((await claim(sql)).length, 2000)
  t.same(Object.values(await loads(sql)).sort(), [666, 667, 667])
})
