import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, deployments, node, report } from '../../helpers/factories.js'
import type { DeploymentSpec } from '../../helpers/factories.js'
import { claim, pattern, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** Why it waits, after a claim had its chance. */
async function why(sql: TransactionSql, spec: DeploymentSpec = {}): Promise<string> {
  const id = await deployment(sql, spec)
  await claim(sql)
  const [row] = await sql<
    { reason: string }[]
  >`select reason from mooring.unplaced where deployment_id = ${id}`
  await sql`delete from mooring.deployment where id = ${id}`
  return row?.reason ?? 'it does not wait'
}

story('without any node: start an agent', async (t, sql) => {
  t.match(await why(sql), /there is no node: start an agent/)
})

story(
  'each rule that leaves no node is named, with the thing and the next step',
  async (t, sql) => {
    await node(sql, {
      name: 'host-a',
      trusts: '^http-server@',
      drivers: ['npm'],
      labels: { zone: 'a', disk: 'ssd' },
    })
    await node(sql, { name: 'host-b', trusts: null, drivers: ['npm'] })
    t.equal(
      await why(sql, { pinned_node: 'host-z' }),
      'there is no node host-z, to which it is pinned: start its agent, or change ' +
        'pinned_node (there are host-a, host-b)',
    )
    t.equal(
      await why(sql, { selector: { zone: 'b', disk: 'ssd' } }),
      'no node has the labels {"disk": "ssd", "zone": "b"}: 2 nodes looked at; label ' +
        'one (host-a lacks {"zone": "b"}) or change the selector',
    )
    t.equal(
      await why(sql, { command: 'sleep' }),
      'none of the 2 nodes that fit so far (host-a, host-b) runs custom commands: ' +
        'start an agent there with --allow-exec',
    )
    t.equal(
      await why(sql, { package_name: 'left-pad' }),
      'no node trusts left-pad@latest: 1 node trusts ^http-server@, 1 node trusts ' +
        'nothing; start the agent of one (host-a, host-b) with a wider --trust',
    )
    t.equal(
      await why(sql, { needs_urls: true }),
      'it needs a node with both agent_base_url and gateway_base_url, and the one ' +
        'node that fits so far does not have them: give them to host-a with ' +
        'upsert_node()',
    )
    t.equal(
      await why(sql, { policy: 'none' }),
      'policy none: nothing is placed automatically; reassign() it to a node, or ' +
        'choose another policy',
    )
    t.equal(await why(sql), 'it does not wait')
  },
)

story('only nodes that fit so far are named: what others trust is no way out', async (t, sql) => {
  for (const [name, labels] of [
    ['ssd-1', { disk: 'ssd' }],
    ['ssd-2', { disk: 'ssd' }],
    ['ssd-3', { disk: 'ssd' }],
    ['ssd-4', { disk: 'ssd' }],
  ] as const)
    await node(sql, { name, labels, trusts: '^@acme/' })
  await node(sql, { name: 'hdd', trusts: '^left-pad@' })
  t.equal(
    await why(sql, { package_name: 'left-pad', selector: { disk: 'ssd' } }),
    'no node trusts left-pad@latest: 4 nodes trust ^@acme/; start the agent of one ' +
      '(ssd-1, ssd-2, ssd-3 and 1 more) with a wider --trust',
  )
})

story('where nodes fall at several rules, the last that falls is named', async (t, sql) => {
  await node(sql, { name: 'npm-only', drivers: ['npm'], enabled: false })
  await node(sql, { name: 'exec-only', drivers: ['exec'] })
  t.match(
    await why(sql),
    pattern(
      /^every live node that may run it is disabled \(npm-only\): /,
      /set_node_enabled\('npm-only', true\)$/,
    ),
  )
  t.match(
    await why(sql, { package_name: 'left-pad', command: 'sleep' }),
    /^none of the 2 nodes that fit so far/,
    'a package and a command need both drivers',
  )
})

story(
  'the first rule that leaves none is named, not the first that excludes some',
  async (t, sql) => {
    await node(sql, { name: 'host-a', labels: { ssd: true }, trusts: null })
    await node(sql, { name: 'host-b', trusts: '^http-server@' })
    t.match(await why(sql, { selector: { ssd: true } }), /no node trusts http-server@14.1.1/)
  },
)

story('states of nodes are reasons too', async (t, sql) => {
  await node(sql, { name: 'dead', seen: '1 hour ago', labels: { is: 'dead' } })
  t.match(
    await why(sql),
    pattern(
      /^the one node that may run it is not live \(dead\): start its agent, or let /,
      /other nodes run it$/,
    ),
  )
  await node(sql, { name: 'off', enabled: false, labels: { is: 'off' } })
  t.match(
    await why(sql),
    /^every live node that may run it is disabled \(off\): set_node_enabled\('off', true\)$/,
  )
  await node(sql, { name: 'draining', draining: true, labels: { is: 'draining' } })
  t.match(
    await why(sql),
    pattern(
      /^every live node .* is draining or its agent is stopping \(draining\): /,
      /undrain_node\('draining'\), or add a node$/,
    ),
  )
  await node(sql, { name: 'full', max_assignments: 0, labels: { is: 'full' } })
  t.match(
    await why(sql),
    pattern(
      /max_assignments already \(full: 0\): add a node, or raise the limit with /,
      /upsert_node\('full', max_assignments => ...\)$/,
    ),
  )
  await node(sql, { name: 'disk', sample: { disk_free_pct: 2 } })
  t.match(
    await why(sql),
    pattern(
      /less than 15 % of its disk free \(disk: 2.0 %\): free some there, or lower /,
      /setting.disk_free_min_pct$/,
    ),
  )
})

story('a refusal and its error are shown', async (t, sql) => {
  const host = await node(sql)
  await deployment(sql, { name: 'site' })
  await claim(sql)
  await report(sql, host, (await assignments(sql))[0]!, 'refused', { error: 'no such version' })
  const [row] = await sql`select name, ordinal, reason, last_error from mooring.unplaced`
  t.match(row, {
    name: 'site',
    ordinal: 0,
    reason: pattern(
      /^every node that may run it refused it, or it failed there \(host-\d+; see last_error\): /,
      /edit its spec, or add 1 to its generation, and they try again$/,
    ),
    last_error: 'no such version',
  })
  await sql`update mooring.deployment set generation = generation + 1`
  t.equal((await claim(sql)).length, 1, 'and that is so')
})

story('in a hold the hold is the reason', async (t, sql) => {
  await node(sql)
  await sql`delete from mooring_internal.outage_marker`
  t.match(await why(sql), /hold after an outage: the database crashed/)
})

story('what has just come is placed by the next round', async (t, sql) => {
  await node(sql)
  await deployment(sql)
  const [row] =
    await sql`select reason, waiting_since is not null as since, package_name from mooring.unplaced`
  t.same(row, {
    reason: 'it is placed by the next round',
    since: true,
    package_name: 'http-server',
  })
})

story('with nobody to run the round it says so', async (t, sql) => {
  await node(sql)
  await deployment(sql)
  await sql`update mooring_internal.round set done_at = now() - interval '5 min'`
  t.match(
    [...(await sql`select reason from mooring.unplaced`)],
    [{ reason: /none has run in time: start a worker/ }],
  )
})

story('only what waits and is wanted is listed', async (t, sql) => {
  await node(sql, { max_assignments: 1 })
  await deployments(sql, 3)
  await deployment(sql, { enabled: false })
  await deployment(sql, { type: 'daemon', pinned_node: 'nowhere' })
  await claim(sql)
  t.equal((await sql`select * from mooring.unplaced`).length, 2)
})

story('quotes in a label or a pattern do no harm', async (t, sql) => {
  await node(sql, { trusts: "^it's%s@" })
  t.match(await why(sql, { selector: { "a'b": '%I %s"' } }), /no node has the labels/)
  t.match(await why(sql), /trusts \^it's%s@/)
})
