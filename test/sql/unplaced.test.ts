import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../helpers/postgres.js'
import { assignments, deployment, deployments, node, report } from '../helpers/factories.js'
import type { DeploymentSpec } from '../helpers/factories.js'
import { claim, storiesIn } from './story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** Why it waits, after a claim had its chance. */
async function why(sql: TransactionSql, spec: DeploymentSpec = {}): Promise<string> {
  const id = await deployment(sql, spec)
  await claim(sql)
  const [row] = await sql<{ reason: string }[]>`select reason from mooring.unplaced where deployment_id = ${id}`
  await sql`delete from mooring.deployment where id = ${id}`
  return row?.reason ?? 'it does not wait'
}

story('without any node: start an agent', async (t, sql) => {
  t.match(await why(sql), /there is no node: start an agent/)
})

story('each rule that leaves no node is named, with the way out', async (t, sql) => {
  await node(sql, { name: 'host-a', trusts: '^http-server@', drivers: ['npm'], labels: { zone: 'a' } })
  await node(sql, { name: 'host-b', trusts: null, drivers: ['npm'] })
  t.match(await why(sql, { pinned_node: 'host-z' }), /no node host-z, to which it is pinned/)
  t.match(await why(sql, { selector: { zone: 'b' } }), /no node has the labels \{"zone": "b"\}: 2 nodes looked at/)
  t.match(await why(sql, { command: 'sleep' }), /custom commands: start an agent there with --allow-exec/)
  t.match(await why(sql, { package_name: 'left-pad' }), /no node trusts left-pad@latest: 1 node trusts \^http-server@, 1 node trusts nothing/)
  t.match(await why(sql, { needs_urls: true }), /both agent_base_url and gateway_base_url/)
  t.match(await why(sql, { policy: 'none' }), /policy none/)
  t.equal(await why(sql), 'it does not wait')
})

story('the first rule that leaves none is named, not the first that excludes some', async (t, sql) => {
  await node(sql, { name: 'host-a', labels: { ssd: true }, trusts: null })
  await node(sql, { name: 'host-b', trusts: '^http-server@' })
  t.match(await why(sql, { selector: { ssd: true } }), /no node trusts http-server@14.1.1/)
})

story('states of nodes are reasons too', async (t, sql) => {
  await node(sql, { name: 'dead', seen: '1 hour ago', labels: { is: 'dead' } })
  t.match(await why(sql), /none of the one node that may run it is live/)
  await node(sql, { name: 'off', enabled: false, labels: { is: 'off' } })
  t.match(await why(sql), /every live node that may run it is disabled/)
  await node(sql, { name: 'draining', draining: true, labels: { is: 'draining' } })
  t.match(await why(sql), /every live node that may run it is draining/)
  await node(sql, { name: 'full', max_assignments: 0, labels: { is: 'full' } })
  t.match(await why(sql), /max_assignments already/)
  await node(sql, { name: 'disk', sample: { disk_free_pct: 2 } })
  t.match(await why(sql), /less than 15 % of its disk free/)
})

story('a refusal and its error are shown', async (t, sql) => {
  const host = await node(sql)
  await deployment(sql, { name: 'site' })
  await claim(sql)
  await report(sql, host, (await assignments(sql))[0]!, 'refused', { error: 'no such version' })
  const [row] = await sql`select name, ordinal, reason, last_error from mooring.unplaced`
  t.match(row, { name: 'site', ordinal: 0, reason: /every node that may run it refused it/, last_error: 'no such version' })
})

story('in a hold the hold is the reason', async (t, sql) => {
  await node(sql)
  await sql`delete from mooring.outage_marker`
  t.match(await why(sql), /hold after an outage: the database crashed/)
})

story('what has just come is placed by the next round', async (t, sql) => {
  await node(sql)
  await deployment(sql)
  const [row] = await sql`select reason, waiting_since is not null as since, package_name from mooring.unplaced`
  t.same(row, { reason: 'it is placed by the next round', since: true, package_name: 'http-server' })
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
