/** docs/policies.md is followed to the letter: its SQL is run as it stands there. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { beat, deployment, node } from '../../helpers/factories.js'
import { ROOT } from '../../helpers/root.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const DOC = readFileSync(join(ROOT, 'docs', 'policies.md'), 'utf8')
const [memory = '', distance = '', use = ''] = [...DOC.matchAll(/^```sql\n(.*?)^```/gms)].map(
  ([, block]) => block,
)

story('a policy of kind load is one function and one row', async (t, sql) => {
  const a = await node(sql, { name: 'host-a' })
  const b = await node(sql, { name: 'host-b' })
  await sql.unsafe(memory)
  const cache = await deployment(sql, { name: 'cache' })
  await beat(sql, a, { memory_mb: 2048 })
  await beat(sql, b, { memory_mb: 1024 })
  await sql.unsafe(use)
  t.match(await sql`select node, verdict, cost from mooring.explain(${cache})`, [
    { node: 'host-b', verdict: 'next: cheapest by memory', cost: 1280 },
    { node: 'host-a', cost: 2304 },
  ])
  for (let nr = 0; nr < 5; nr++) await deployment(sql)
  await claim(sql)
  t.same(
    await loads(sql),
    { 'host-a': 1, 'host-b': 5 },
    '2048 + 256 k against 1024 + 256 k: the fifth place of host-b costs the first of host-a',
  )
})

story(
  'a private function of a policy goes on counting: it is called with the rights of claim()',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await sql.unsafe(memory)
    const [, revoke = 'select no revoke in the page'] =
      /`(revoke execute on function [^`]*)`/.exec(DOC) ?? []
    const everybody = async () =>
      (
        await sql`
          select exists (
            select
              from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
             where p.proname = 'policy_memory' and a.grantee = 0
          ) as may`
      )[0]!.may
    t.equal(await everybody(), true)
    await sql.unsafe(revoke)
    t.equal(await everybody(), false)
    await deployment(sql, { policy: 'memory' })
    t.equal((await claim(sql)).length, 1)
  },
)

story('without figures its fallback decides', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await sql.unsafe(memory)
  for (let nr = 0; nr < 4; nr++) await deployment(sql, { policy: 'memory' })
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 2, 'host-b': 2 })
})

story('a policy of kind affinity is one function and one row too', async (t, sql) => {
  for (const name of ['host-a', 'host-b', 'host-c']) await node(sql, { name, max_assignments: 1 })
  await sql.unsafe(memory)
  await sql.unsafe(distance)
  const far = await deployment(sql, { policy: 'distance' })
  const near = await deployment(sql, { policy: 'distance' })
  await sql`
    insert into ops.distance
    values (${far}, 'host-a', 20), (${far}, 'host-b', 30), (${near}, 'host-a', 1),
           (${near}, 'host-b', 9)`
  await claim(sql)
  t.same(
    (await events(sql, 'claimed')).map(({ deployment_id, node, reason }) => [
      deployment_id,
      node,
      reason,
    ]),
    [
      [far, 'host-a', 'cheapest by distance'],
      [near, 'host-b', 'cheapest by distance'],
    ],
    'first come, first served; the node that no distance is known to comes last',
  )
})

story('the policies the page lists are those that are registered', async (t, sql) => {
  const listed = [...DOC.matchAll(/^\| `(\w+)` \| (\w+) \|.* \|(.*)\|$/gm)].map(
    ([, name, kind]) => ({ name, kind }),
  )
  const rows = await sql<
    { name: string; kind: string }[]
  >`select name, kind from mooring.policy order by name`
  t.same(
    listed.sort((a, b) => (a.name! < b.name! ? -1 : 1)),
    [...rows],
  )
})
