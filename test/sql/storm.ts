import { randomUUID } from 'node:crypto'
import type { TransactionSql } from 'postgres'
import { age, assignments, beat, deployment, node, report } from '../helpers/factories.js'
import type { TestNode } from '../helpers/factories.js'
import { brokenLaws, snapshot } from './invariants.js'
import type { Snapshot } from './invariants.js'

// Random verbs and edits from a seed. The caller checks the laws after each.

export interface Storm {
  /** Nodes with a living agent. */
  living: Map<string, TestNode>
  /** Does one thing; its name. */
  next(): Promise<string>
}

export function storm(seed: number, sql: TransactionSql): Storm {
  let state = seed
  /** mulberry32: 0..n-1 */
  const random = (n: number) => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) % n
  }
  const one = <T>(all: readonly T[]): T | undefined => all[random(all.length || 1)]
  const living = new Map<string, TestNode>()
  const ids: string[] = []
  const zones = ['{"zone": "a"}', '{"zone": "b"}', '{}']
  const anyDeployment = async () =>
    one(await sql<{ id: string }[]>`select id from mooring.deployment order by id`)?.id ?? '0'
  const anyHost = () => one([...living.values()])
  /** What a guard may refuse is tried all the same. */
  const unlessRefused = (what: (sql: TransactionSql) => PromiseLike<unknown>) =>
    sql
      .savepoint(async (sql) => void (await what(sql)))
      .catch((error: { code: string }) => {
        if (error.code !== 'MR006') throw error
      })

  const spec = () => ({
    replicas: random(5),
    enabled: random(5) > 0,
    type: random(6) === 0 ? 'daemon' : 'deployment',
    ...(random(3) === 0 ? { selector: JSON.parse(one(zones)!) } : {}),
    ...(random(6) === 0 ? { pinned_node: `host-${random(5)}` } : {}),
    ...(random(8) === 0 ? { policy: one(['none', 'resource_usage', 'deployment_count'])! } : {}),
    ...(random(5) === 0 ? { package_name: 'left-pad' } : {}),
  })

  const steps: Record<string, () => Promise<unknown>> = {
    claim: () => sql`select from mooring.claim()`,
    'claim a few': () => sql`select from mooring.claim(${1 + random(3)})`,
    reap: () => sql`select from mooring.reap(${one([null, 1, 3])!})`,
    evict: () => sql`select from mooring.evict()`,
    'inline tick': async () => {
      await sql`update mooring_internal.round set due_at = '-infinity'`
      await sql`select from mooring.tick('storm', inline => true)`
    },
    insert: async () => ids.push(await deployment(sql, spec()), await deployment(sql, spec())),
    'insert again': async () => {
      const id = one(ids)
      const [there] = await sql`select from mooring.deployment where id = ${id ?? 0}`
      if (id && !there) await deployment(sql, { id, ...spec() })
    },
    delete: async () => sql`delete from mooring.deployment where id = ${await anyDeployment()}`,
    toggle: async () =>
      sql`update mooring.deployment set enabled = not enabled where id = ${await anyDeployment()}`,
    scale: async () =>
      sql`
        update mooring.deployment set replicas = ${random(5)} where id = ${await anyDeployment()}`,
    'edit the env': async () =>
      sql`
        update mooring.deployment
           set env = jsonb_build_object('A', ${String(random(100))}::text)
         where id = ${await anyDeployment()}`,
    'edit the selector': async () =>
      sql`
        update mooring.deployment
           set selector = ${one(zones)!}::text::jsonb
         where id = ${await anyDeployment()}`,
    'edit many': () =>
      sql`
        update mooring.deployment
           set enabled = not enabled
           or id % 2 = 0, replicas = (replicas + 1) % 4, selector = ${one(zones)!}::text::jsonb
         where id % 3 = ${random(3)}`,
    register: async () => {
      const name = `host-${random(5)}`
      if (!living.has(name))
        living.set(
          name,
          await node(sql, {
            name,
            session: randomUUID(),
            labels: JSON.parse(one(zones)!),
            trusts: one(['.', '^http-server@'])!,
          }),
        )
    },
    beat: async () => {
      const host = anyHost()
      if (host)
        await beat(sql, host, {
          cpu_pct: random(100),
          memory_mb: random(4000),
          running: random(10),
        })
    },
    die: async () => {
      const host = anyHost()
      if (!host) return
      living.delete(host.name)
      await age(sql, host.name, '1 day ago')
    },
    leave: async () => {
      const host = anyHost()
      if (!host) return
      living.delete(host.name)
      await sql`select mooring.leave(${host.name}, ${host.session})`
    },
    obey: async () => {
      for (const row of await assignments(sql)) {
        const host = row.node === null ? undefined : living.get(row.node)
        if (host && row.wanted === 'stop' && random(3) > 0) await report(sql, host, row, 'stopped')
      }
    },
    observe: async () => {
      for (const row of await assignments(sql)) {
        const host = row.node === null ? undefined : living.get(row.node)
        if (host && random(3) === 0)
          await report(
            sql,
            host,
            row,
            one(['starting', 'running', 'backoff', 'stopped', 'refused', 'failed'])!,
          )
      }
    },
    'report from the past': async () => {
      const [row, host] = [one(await assignments(sql)), anyHost()]
      if (row && host)
        await report(
          sql,
          host,
          { ...row, epoch: String(Math.max(0, Number(row.epoch) - 1 - random(2))) },
          one(['stopped', 'refused', 'running'])!,
        )
    },
    'edit a node': async () =>
      sql`
        update mooring.node
           set enabled = ${random(4) > 0},
               max_assignments = ${one([null, null, 2, 5])!},
               weight = ${one([50, 100, 200])!},
               labels = ${one(zones)!}::text::jsonb
         where name = ${`host-${random(5)}`}`,
    'trust less or more': async () =>
      sql`
        update mooring.node
           set trusts = ${one(['.', '^http-server@', null])!}
         where name = ${`host-${random(5)}`}`,
    'delete a node': async () => {
      const name = `host-${random(5)}`
      if (!living.has(name) || random(3) === 0)
        await unlessRefused((sql) => sql`delete from mooring.node where name = ${name}`)
      const [there] = await sql`select from mooring.node where name = ${name}`
      if (!there) living.delete(name)
    },
    'resume reaping': async () => {
      await sql`select mooring.resume_reaping()`
      await sql`select from mooring.reap()`
    },
    'set an epoch back': async () =>
      unlessRefused(
        async (sql) =>
          sql`
            update mooring.assignment
               set epoch = 0
             where id = ${one(await assignments(sql))?.id ?? 0}`,
      ),
    reassign: async () => {
      const row = one(await assignments(sql))
      await tried(
        sql,
        (sql) => sql`select from mooring.reassign(${row?.id ?? 0}, ${`host-${random(5)}`})`,
      )
    },
    restart: async () =>
      tried(
        sql,
        async (sql) => sql`select from mooring.restart(${one(await assignments(sql))?.id ?? 0})`,
      ),
    drain: async () =>
      tried(
        sql,
        (sql) =>
          sql`
            select
              from mooring.drain_node(
                ${`host-${random(5)}`}, ${one([null, null, null, `host-${random(5)}`])!},
                ${1 + random(3)}, ${one([null, null, null, '0'])!})`,
      ),
    undrain: async () =>
      tried(sql, (sql) => sql`select from mooring.undrain_node(${`host-${random(5)}`})`),
    forget: async () =>
      tried(sql, (sql) => sql`select from mooring.forget_node(${`host-${random(5)}`})`),
    'place or free by hand': async () =>
      unlessRefused(
        async (sql) => sql`
          update mooring.assignment a
             set node_id = case when a.node_id is null then (
               select n.node_id
                 from mooring_internal.eligibility(array[a.deployment_id]) n
                where n.permitted and n.node_id <> all (a.refused_by)
                order by n.node_id
                limit 1
             ) end
           where a.id = ${one(await assignments(sql))?.id ?? 0}
             and a.ordinal is not null
             and a.wanted = 'run'`,
      ),
  }
  const often = [
    'insert',
    'insert',
    'insert',
    'register',
    'register',
    'register',
    'register',
    'register',
    'register',
    'claim',
    'claim',
    'claim',
    'obey',
    'obey',
    'beat',
    'die',
    'delete a node',
    'delete a node',
    'reap',
    'resume reaping',
  ]
  const names = [...Object.keys(steps), ...often]
  return {
    living,
    async next() {
      const name = names[random(names.length)]!
      await steps[name]!()
      return name
    },
  }
}

/** A verb for people may say no, with a reason of its own. */
async function tried(
  sql: TransactionSql,
  verb: (sql: TransactionSql) => Promise<unknown>,
): Promise<void> {
  await sql
    .savepoint((sql) => verb(sql))
    .catch((error: { code?: string }) => {
      if (!/^MR00[367]$/.test(error.code ?? '')) throw error
    })
}

/**
 * Runs a storm until a law is broken or the steps are over; what was broken, and after which step.
 */
export async function weather(sql: TransactionSql, seed: number, steps: number): Promise<string[]> {
  // long leases: on a slow machine a storm takes a while, and no node shall die of that
  await sql`
    update mooring.setting
       set lease_ttl = '1 hour', reap_margin = '10 min', reap_pause_min_nodes = 3`
  const { living, next } = storm(seed, sql)
  const ended = new Set<string>()
  let before = await snapshot(sql)
  for (let step = 1; step <= steps; step++) {
    const eligible = await eligiblePairs(sql)
    const silence = await silenceOf(sql)
    const hosts = new Map(living)
    const name = await next()
    const now = await snapshot(sql)
    const broken = await brokenLaws(sql, before, now, ended)
    if (name === 'reap' || name === 'place or free by hand')
      broken.push(...robbed(before, now, living))
    if (name === 'reap') broken.push(...(await believed(sql, silence, before, now)))
    if (name === 'resume reaping')
      broken.push(...(await believed(sql, { ...silence, resumed: silence.paused }, before, now)))
    if (name === 'delete a node') broken.push(...robbed(before, now, hosts))
    if (name.startsWith('claim')) broken.push(...misplaced(await owners(sql), before, eligible))
    if (name === 'claim') broken.push(...(await forgotten(sql)))
    if (broken.length > 0)
      return broken.map((law) => `seed ${seed}, step ${step} (${name}): ${law}`)
    before = now
  }
  return []
}

/** A place that is reserved for a move is used for all other work. */
const eligiblePairs = async (sql: TransactionSql) =>
  new Set(
    (
      await sql<{ pair: string }[]>`
        select e.deployment_id || ' ' || e.node_id as pair
          from mooring_internal.eligibility(array(select id from mooring.deployment)) e
         where e.eligible
            or e.permitted
              and e.live
              and e.enabled
              and e.not_draining
              and e.disk_ok
              and exists (
                select
                  from mooring.assignment a
                 where a.deployment_id = e.deployment_id and a.move_to = e.node_id
              )`
    ).map(({ pair }) => pair),
  )

const owners = (sql: TransactionSql) =>
  sql<{ id: string; pair: string }[]>`
    select id, deployment_id || ' ' || node_id as pair
      from mooring.assignment
     where node_id is not null`

const robbed = (before: Snapshot, now: Snapshot, living: Map<string, TestNode>) =>
  [...before.values()]
    .filter(
      ({ id, node_id }) =>
        [...living.values()].some((host) => host.id === node_id) &&
        now.get(id)?.node_id !== node_id,
    )
    .map(({ id }) => `a live node was robbed of ${id}`)

interface Silence {
  living: number
  owing: number
  paused: boolean
  resumed: boolean
}

/**
 * The nodes whose silence reap() judges. The dead ones of a storm have been silent for a day, and
 * count while they own something that can be reaped.
 */
const silenceOf = async (sql: TransactionSql) =>
  (
    await sql<Silence[]>`
      select (count(*) filter (where not h.dead))::int as living,
             (count(*) filter (where h.dead and h.owes))::int as owing,
             p.paused_at is not null as paused, p.resumed_at is not null as resumed
        from (
          select h.beat_at < clock_timestamp() - interval '70 min' as dead,
                 exists (
                   select
                     from mooring.assignment a
                    where a.node_id = h.node_id and (a.ordinal is not null or a.wanted = 'stop')
                 ) as owes
            from mooring.heartbeat h
           where h.session is not null
        ) h
        right join mooring_internal.reap_pause p on true
       group by p.only_row`
  )[0]!

/** What a reap did against what it should have made of the silence. */
async function believed(
  sql: TransactionSql,
  { living, owing, resumed }: Silence,
  before: Snapshot,
  now: Snapshot,
): Promise<string[]> {
  const tooMany = living + owing >= 3 && owing > 0.5 * (living + owing)
  const ofSilent = await sql<{ node_id: number }[]>`
    select h.node_id
      from mooring.heartbeat h
     where h.session is not null and h.beat_at < clock_timestamp() - interval '70 min'`
  const silent = new Set(ofSilent.map(({ node_id }) => node_id))
  const taken = [...before.values()].filter(
    ({ id, node_id }) =>
      node_id !== null && silent.has(node_id) && now.get(id)?.node_id !== node_id,
  ).length
  const [fleet] = await sql<[{ reap_paused: string | null; forgotten: boolean }]>`
    select f.reap_paused, p.paused_at is null as forgotten
      from mooring.fleet f, mooring_internal.reap_pause p`
  const shown = JSON.stringify({ living, owing, resumed, taken, ...fleet })
  return [
    ...(tooMany && !resumed && taken > 0
      ? [`work was taken though so many are silent: ${shown}`]
      : []),
    ...((tooMany && !resumed) !== (fleet.reap_paused !== null)
      ? [`fleet does not say what reap thinks of the silence: ${shown}`]
      : []),
    ...(!tooMany && !fleet.forgotten ? [`the silence is over and not forgotten: ${shown}`] : []),
    ...((!tooMany || resumed) && owing > 0 && taken === 0
      ? [`nothing was taken though the silence is believed: ${shown}`]
      : []),
  ]
}

const misplaced = (
  rows: readonly { id: string; pair: string }[],
  before: Snapshot,
  eligible: Set<string>,
) =>
  rows
    .filter(({ id, pair }) => before.get(id)?.node_id === null && !eligible.has(pair))
    .map(({ id, pair }) => `${id} went where it was not eligible: ${pair}`)

const forgotten = async (sql: TransactionSql) =>
  (
    await sql<{ id: string }[]>`
      select a.id
        from mooring.assignment a
        join mooring_internal.eligibility(
          array(select id from mooring.deployment where policy is distinct from 'none')
        ) e
          on e.deployment_id = a.deployment_id
       where a.node_id is null
         and a.wanted = 'run'
         and e.eligible
         and e.node_id <> all (a.refused_by)`
  ).map(({ id }) => `${id} waits though it has somewhere to go`)

/** After the storm: every node has an agent, every agent obeys, the rounds run. */
export async function calm(sql: TransactionSql): Promise<void> {
  await sql`update mooring.node set enabled = true, max_assignments = null, draining_since = null`
  for (let round = 0; round < 3; round++) {
    const hosts = await sql<
      { name: string; session: string | null }[]
    >`select n.name, h.session from mooring.node n join mooring.heartbeat h on h.node_id = n.id`
    for (const host of hosts) {
      const agent = { name: host.name, session: host.session ?? randomUUID() }
      if (host.session) await beat(sql, agent, { disk_free_pct: 90 })
      else await sql`select from mooring.register_node(${agent.name}, ${agent.session}, '.')`
      for (const row of await assignments(sql))
        if (row.node === agent.name && row.wanted === 'stop')
          await report(sql, agent, row, 'stopped')
    }
    await sql`select from mooring.evict()`
    await sql`select from mooring.claim()`
  }
}
