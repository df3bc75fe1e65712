import t from 'tap'
import type { Test } from 'tap'
import type { Sql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'
import {
  age,
  assignments,
  beat,
  deployment,
  deployments,
  node,
  report,
} from '../../helpers/factories.js'
import type { TestNode } from '../../helpers/factories.js'
import { claim } from '../story.js'

// Notifications are sent at commit: everything here commits for real.

/**
 * Two nodes with a listener each; heard() returns what each was notified of since the call before.
 */
async function fleet(t: Test) {
  const { sql, url, client } = await testDatabase(t)
  t.ok(url)
  const hosts = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  const ear = client('ear')
  let told: string[] = []
  for (const host of hosts)
    await ear.listen(`mooring_node_${host.id}`, (payload) => void told.push(host.name + payload))
  await ear.listen('the end', () => void told.push('the end'))
  const heard = async () => {
    await sql`select pg_notify('the end', '')` // notifications arrive in the order of commits
    await waitFor(() => told.includes('the end'), {
      label: 'the mark behind all notifications has arrived',
    })
    const before = told.filter((name) => name !== 'the end').sort()
    told = []
    return before
  }
  return { sql, hosts: hosts as [TestNode, TestNode], heard }
}

const obey = async (sql: Sql, hosts: TestNode[]) => {
  for (const row of await assignments(sql))
    if (row.node && row.wanted === 'stop')
      await report(
        sql,
        hosts.find(({ name }) => name === row.node)!,
        row,
        'stopped',
      )
}

void t.test(
  'a claim of many rows notifies each chosen node once, also over many windows',
  async (t) => {
    const { sql, heard } = await fleet(t)
    await sql`update mooring.setting set claim_window = 5`
    await deployments(sql, 21)
    t.same(await heard(), [], 'an insert notifies no node')
    t.equal((await claim(sql)).length, 21)
    t.same(await heard(), ['host-a', 'host-b'])
    t.same(await claim(sql), [])
    t.same(await heard(), [], 'a claim of nothing notifies no node')
  },
)

void t.test('a node that got nothing is not notified', async (t) => {
  const { sql, heard } = await fleet(t)
  await deployment(sql, { pinned_node: 'host-b' })
  await claim(sql)
  t.same(await heard(), ['host-b'])
})

void t.test('defect 12: heartbeats and reports of what runs notify no node', async (t) => {
  const { sql, hosts, heard } = await fleet(t)
  await deployments(sql, 4)
  await claim(sql)
  await heard()
  for (const host of hosts)
    for (let n = 0; n < 5; n++) await beat(sql, host, { cpu_pct: n, memory_mb: n })
  for (const row of await assignments(sql))
    await report(
      sql,
      hosts.find(({ name }) => name === row.node)!,
      row,
      'running',
    )
  await sql`select * from mooring.tick('me')`
  t.same(await heard(), [])
})

void t.test('edits of what runs notify its owners once per transaction', async (t) => {
  const { sql, hosts, heard } = await fleet(t)
  const ids = await deployments(sql, 6)
  await claim(sql)
  await heard()
  await sql`update mooring.deployment set env = '{"A": "1"}'`
  t.same(await heard(), ['host-a', 'host-b'], 'env')
  await sql`update mooring.deployment set name = 'n' || id, labels = '{"a": 1}'`
  t.same(await heard(), [], 'a name and labels are nothing an agent acts on')
  await sql`update mooring.deployment set stop_grace = '2 s' where id = ${ids[0]!}`
  t.same(await heard(), ['host-a'], 'the grace is')
  await sql.begin(async (sql) => {
    await sql`update mooring.deployment set enabled = false where id = ${ids[1]!}`
    await sql`update mooring.deployment set replicas = 0 where id = ${ids[3]!}`
    await sql`delete from mooring.deployment where id = ${ids[5]!}`
  })
  t.same(await heard(), ['host-b'], 'three orders to stop')
  await obey(sql, hosts)
  await heard()
  await sql`update mooring.deployment set pinned_node = 'host-b' where id = ${ids[2]!}`
  t.same(await heard(), ['host-a'], 'an eviction')
})

void t.test('a reap notifies the node that lost its work, once', async (t) => {
  const { sql, heard } = await fleet(t)
  await deployments(sql, 10)
  await claim(sql)
  await heard()
  await age(sql, 'host-a', '1 minute ago')
  await sql`select from mooring.reap()`
  t.same(await heard(), ['host-a'])
})

void t.test('daemons: a node is notified when it gets one and when one has to stop', async (t) => {
  const { sql, heard } = await fleet(t)
  const id = await deployment(sql, { type: 'daemon' })
  t.same(await heard(), ['host-a', 'host-b'])
  await sql`update mooring.deployment set args = '["x"]' where id = ${id}`
  t.same(await heard(), ['host-a', 'host-b'])
  await sql`update mooring.deployment set enabled = false where id = ${id}`
  t.same(await heard(), ['host-a', 'host-b'])
})

void t.test('what is rolled back notifies no node', async (t) => {
  const { sql, heard } = await fleet(t)
  await deployments(sql, 2)
  await sql
    .begin(async (sql) => (await claim(sql), Promise.reject(new Error('no'))))
    .catch(() => {})
  t.same(await heard(), [])
})

void t.test(
  'an agent that hears nothing learns the same: its next beat differs and its set is complete',
  async (t) => {
    const { sql, hosts } = await fleet(t)
    const [host] = hosts
    const before = await beat(sql, host)
    await deployments(sql, 3)
    await claim(sql)
    const after = await beat(sql, host)
    t.not(after.digest, before.digest)
    t.equal(
      (await sql`select * from mooring.assignments_of('host-a', ${host.session})`).length,
      after.owned,
    )
    await sql`update mooring.deployment set env = '{"A": "1"}'`
    t.not((await beat(sql, host)).digest, after.digest, 'an edit as well')
  },
)
