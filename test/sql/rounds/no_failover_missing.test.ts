/**
 * No failover may be missing: random fleets with hosts of every kind, which fall silent in random
 * order. Each step ages the fleet by rows, so that hours pass in a second.
 */
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { randomOf } from '../../../faults/plan.js'
import { testDatabase } from '../../helpers/postgres.js'
import { age, beat, deployments, node, type TestNode } from '../../helpers/factories.js'
import { claim, obeyOrders, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const FLEETS = 40
const STEPS = 12
/** Lease and margin of the settings as they come. */
const LOST_S = 15
/** A host that was reaped counts for four leases more. */
const REMEMBERED_S = 5 * 12 + 3

interface Host extends TestNode {
  silentFor: number | null
  /** How long ago it last owned something; null: never. */
  ownedAgo: number | null
}

const owners = async (sql: TransactionSql) =>
  new Set(
    (
      await sql<{ name: string }[]>`
        select distinct n.name
          from mooring.assignment a
          join mooring.node n on n.id = a.node_id
         where a.ordinal is not null`
    ).map(({ name }) => name),
  )

/** Drains a host that lives until it owns nothing. */
async function drain(sql: TransactionSql, host: TestNode) {
  await sql`select mooring.drain_node(${host.name}, max_moves => 100)`
  for (let round = 0; round < 20; round++) {
    await claim(sql)
    await obeyOrders(sql, [host], 'stop')
  }
}

/** One host as it may be when it falls silent; the last kinds own nothing. */
const KINDS = ['plain', 'plain', 'plain', 'disabled', 'drained', 'empty', 'left', 'never', 'full']

async function makeFleet(sql: TransactionSql, below: (n: number) => number): Promise<Host[]> {
  const hosts: Host[] = []
  const kinds: string[] = []
  // the first host lives on and takes everything, so that a place is always there
  const n = 2 + below(11)
  for (let nr = 0; nr < n; nr++) {
    const kind = nr === 0 ? 'plain' : KINDS[below(KINDS.length)]!
    const spec = { name: `${kind}-${nr}` }
    const made = await node(
      sql,
      kind === 'never'
        ? { ...spec, seen: 'never' }
        : { ...spec, ...(kind === 'empty' ? { max_assignments: 0 } : {}) },
    )
    kinds.push(kind)
    hosts.push({ ...made, silentFor: null, ownedAgo: null })
  }
  await deployments(sql, 3 * n)
  await claim(sql)
  for (const [nr, host] of hosts.entries()) {
    const kind = kinds[nr]
    if (kind === 'disabled') await sql`select mooring.set_node_enabled(${host.name}, false)`
    if (kind === 'drained') await drain(sql, host)
    if (kind === 'left') await sql`select mooring.leave(${host.name}, ${host.session})`
  }
  await claim(sql)
  return hosts.filter((_, nr) => kinds[nr] !== 'never' && kinds[nr] !== 'left')
}

for (let seed = 1; seed <= FLEETS; seed++)
  story(`fleet ${seed}`, async (t, sql) => {
    const random = randomOf(seed)
    const below = (n: number): number => Math.floor(random() * n)
    const hosts = await makeFleet(sql, below)
    let failovers = 0
    const missing: string[] = []
    for (let step = 0; step < STEPS; step++) {
      const passed = 1 + below(40)
      const now = await owners(sql)
      for (const host of hosts) {
        if (now.has(host.name)) host.ownedAgo = 0
        else if (host.ownedAgo !== null) host.ownedAgo += passed
      }
      for (const host of hosts) {
        if (host.silentFor !== null) host.silentFor += passed
        else if (host !== hosts[0] && below(5) === 0) host.silentFor = passed
        else await beat(sql, host)
        if (host.silentFor !== null) await age(sql, host.name, `${-host.silentFor} seconds`)
      }
      await sql`
        update mooring_internal.reap_pause
           set paused_at = paused_at - make_interval(secs => ${passed})`
      await sql`
        update mooring.heartbeat set reaped_at = reaped_at - make_interval(secs => ${passed})`
      const owned = hosts.filter(({ ownedAgo }) => ownedAgo !== null && ownedAgo <= REMEMBERED_S)
      const living = owned.filter(({ silentFor }) => (silentFor ?? 0) <= LOST_S)
      await sql`select from mooring.reap()`
      await claim(sql)
      const left = await owners(sql)
      const lost = hosts.filter(({ silentFor }) => (silentFor ?? 0) > LOST_S)
      failovers += lost.filter(({ name }) => now.has(name) && !left.has(name)).length
      if (living.length > owned.length / 2)
        for (const { name } of lost)
          if (left.has(name))
            missing.push(`step ${step}: ${name}, ${living.length} of ${owned.length} live`)
    }
    t.same(missing, [], `${failovers} failovers of ${hosts.length} hosts`)
    // an hour later a pause has ended without a person, whatever the share was
    for (const host of hosts) {
      if (host.silentFor === null) await beat(sql, host)
      else await age(sql, host.name, '-1 hour')
    }
    await sql`update mooring_internal.reap_pause set paused_at = paused_at - interval '1 hour'`
    await sql`select from mooring.reap()`
    const left = await owners(sql)
    t.same(
      hosts.filter(({ silentFor, name }) => silentFor !== null && left.has(name)),
      [],
      'in the end nothing is left on a silent host',
    )
  })

story(
  'negative control: a pause that counts every silent host misses failovers',
  async (t, sql) => {
    const [definition] = await sql<{ text: string }[]>`
    select pg_get_functiondef('mooring_internal.update_reap_pause'::regproc) as text`
    const counted = definition!.text.replace(/ or n\.reaped_lately;/, ' or true;')
    t.not(counted, definition!.text)
    await sql.unsafe(counted)
    const hosts: TestNode[] = []
    for (let nr = 1; nr <= 7; nr++)
      hosts.push(await node(sql, { name: `host-${nr}`, ...(nr > 3 ? { max_assignments: 0 } : {}) }))
    await deployments(sql, 6)
    await claim(sql)
    for (const { name } of hosts.slice(2)) await age(sql, name, '-20 seconds')
    t.equal((await sql`select from mooring.reap()`).length, 0)
  },
)
