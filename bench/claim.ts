/**
 * claim() of 100,000 rows on 1,000 nodes: alone, against a bare update, with a hundred listeners,
 * with a snapshot that keeps every dead row, without history.
 *
 * Each run has a database of its own, and the rows were inserted a moment before: no vacuum and no
 * analyze has read them. Balance and events are checked after each run, because a fast claim that
 * forgot something is an error, not a figure.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Sql } from 'postgres'
import {
  assertEqual,
  elapsedMs,
  repeat,
  type Bench,
  type Benchmark,
  type Figure,
} from './benchmark.js'
import { addDeployments, addNodes, balance, claim, claimInWindows, countEvents } from './fleet.js'
import type { Database } from './server.js'

const LISTENERS = 100
const PATIENCE_MS = 30_000

export const benchmarks: Benchmark[] = [
  { name: 'claim/all', run: againstBareUpdate },
  { name: 'claim/listeners', run: withListeners },
  { name: 'claim/snapshot', run: withIdleSnapshot },
  { name: 'claim/one', run: oneAmongMany },
  { name: 'claim/history', run: priceOfHistory },
  { name: 'claim/policies', run: byPolicy },
]

interface Sizes {
  rows: number
  nodes: number
}

const sizes = (bench: Bench): Sizes => ({
  rows: bench.size(100_000, 2_000),
  nodes: bench.size(1_000, 20),
})

interface Circumstances {
  /** claim() in one transaction, or in the worker's windows. */
  place?: (sql: Sql) => Promise<number>
  /** Before the rows are inserted: may keep something open. */
  before?: (database: Database) => Promise<void>
  /** After the clock has stopped. */
  after?: () => Promise<void>
}

/** Rows per second of one claim of everything. */
async function claimAll(
  bench: Bench,
  { place = claim, before, after }: Circumstances = {},
): Promise<number> {
  const { rows, nodes } = sizes(bench)
  return bench.inDatabase(async (database) => {
    const { sql } = database
    await addNodes(sql, nodes)
    await before?.(database)
    await addDeployments(sql, rows)
    let placed = 0
    const ms = await elapsedMs(async () => (placed = await place(sql)))
    await after?.()
    assertEqual(placed, rows, 'rows that claim() returned')
    const { least, most } = await balance(sql)
    assertEqual(`${least}..${most}`, `${rows / nodes}..${rows / nodes}`, 'assignments per node')
    assertEqual(await countEvents(sql, 'claimed'), rows, 'events')
    return (rows * 1000) / ms
  })
}

async function againstBareUpdate(bench: Bench): Promise<Figure[]> {
  const { rows, nodes } = sizes(bench)
  const pairs = await repeat(bench, async (run) => {
    bench.say(`claim of ${rows}, run ${run}`)
    return {
      claim: await claimAll(bench),
      bare: await bareUpdates(bench, 'lean'),
      same: await bareUpdates(bench, 'same'),
    }
  })
  return [
    {
      what: `claim() of ${rows} on ${nodes} nodes, exact balance, events written`,
      unit: '/s',
      asked: { atLeast: 20_000 },
      floor: '110,000 bare update',
      values: pairs.map((pair) => pair.claim),
      note: 'aim 40,000/s',
    },
    {
      what: 'the same per row, against bare updates of a lean queue table',
      unit: 'x',
      asked: { atLeast: 0.4 },
      floor: '1',
      values: pairs.map((pair) => pair.claim / pair.bare),
      note:
        'lean: id, node, epoch, two times and the queue index; no triggers, no events, ' +
        '100 updates of 1,000 in one transaction',
    },
    {
      what: 'the same, against bare updates of a table like mooring.assignment',
      unit: 'x',
      values: pairs.map((pair) => pair.claim / pair.same),
      note: 'all its columns, checks and indexes, no triggers',
    },
    { what: 'bare updates of the lean table', unit: '/s', values: pairs.map((pair) => pair.bare) },
    {
      what: 'bare updates of the table like mooring.assignment',
      unit: '/s',
      values: pairs.map((pair) => pair.same),
    },
  ]
}

/**
 * The statement that issue trackers recommend for queues, a thousand rows at a time, to the same
 * node.
 */
async function bareUpdates(bench: Bench, table: 'lean' | 'same'): Promise<number> {
  const { rows } = sizes(bench)
  const BATCH = 1_000
  return bench.inDatabase(async ({ sql }) => {
    if (table === 'lean') {
      await sql`
        create table public.queue (
          id bigint primary key, node_id int, epoch bigint not null default 0,
          created_at timestamptz not null default now(),
          updated_at timestamptz not null default now()
        )`
      await sql`create index on public.queue (updated_at, created_at, id) where node_id is null`
      await sql`insert into public.queue (id) select g from generate_series(1, ${rows}::int) g`
    } else {
      await sql`create table public.queue (like mooring.assignment including all)`
      await sql`
        insert into public.queue (deployment_id, ordinal, signature, waiting_since)
        select g, 0, md5('one')::uuid, now()
          from generate_series(1, ${rows}::int) g`
    }
    const owned =
      table === 'lean'
        ? sql``
        : sql`, lease_ttl = '12 s', assigned_at = clock_timestamp(), waiting_since = null`
    const ofOneQueue =
      table === 'lean' ? sql`` : sql`and q.wanted = 'run' and q.signature = md5('one')::uuid`
    let updated = 0
    const ms = await elapsedMs(() =>
      sql.begin(async (tx) => {
        for (let batch = BATCH; batch === BATCH; updated += batch) {
          const result = await tx`
            update public.queue u
               set node_id = 1, epoch = u.epoch + 1 ${owned}
             where u.id = any (
               array(
                 select q.id
                   from public.queue q
                  where q.node_id is null ${ofOneQueue}
                  order by q.updated_at, q.created_at, q.id
                  for update skip locked
                  limit ${BATCH}
               )
             )`
          batch = result.count
        }
      }),
    )
    assertEqual(updated, rows, 'rows that the bare updates changed')
    return (rows * 1000) / ms
  })
}

async function withListeners(bench: Bench): Promise<Figure[]> {
  const { rows } = sizes(bench)
  const listeners = bench.size(LISTENERS, 5)
  const pairs = await repeat(bench, async (run) => {
    bench.say(`claim of ${rows} with ${listeners} listeners, run ${run}`)
    let heard = 0
    const without = await claimAll(bench)
    const listening = await claimAll(bench, {
      async before({ connect, sql }) {
        const nodes = await sql<
          { id: number }[]
        >`select n.id from mooring.node n order by n.id limit ${listeners}`
        await Promise.all(
          nodes.map(({ id }) =>
            connect(1, 'bench: listener').listen(`mooring_node_${id}`, () => heard++),
          ),
        )
      },
      // the last notifications arrive a moment after the commit
      async after() {
        for (
          const deadline = performance.now() + PATIENCE_MS;
          heard < listeners && performance.now() < deadline;
        )
          await pause(5)
        assertEqual(heard, listeners, 'notifications, one for each listening node')
      },
    })
    return { without, listening }
  })
  return [
    {
      what: `claim() of ${rows} again, with ${listeners} listening agents`,
      unit: '/s',
      asked: { atLeast: 10_000 },
      floor: '1,000/s if each row notified',
      values: pairs.map((pair) => pair.listening),
    },
    {
      what: 'with listeners against without',
      unit: 'x',
      values: pairs.map((pair) => pair.listening / pair.without),
    },
  ]
}

async function withIdleSnapshot(bench: Bench): Promise<Figure[]> {
  const { rows } = sizes(bench)
  const holdSnapshot = async ({ connect }: Database): Promise<void> => {
    const forgotten = connect(1, 'bench: idle snapshot')
    await forgotten`begin isolation level repeatable read`
    await forgotten`select count(*) from mooring.assignment`
  }
  const pairs = await repeat(bench, async (run) => {
    bench.say(`claim of ${rows} with an idle snapshot, run ${run}`)
    const without = await claimAll(bench, { place: claimInWindows })
    const idle = await claimAll(bench, { place: claimInWindows, before: holdSnapshot })
    return { without, idle }
  })
  return [
    {
      what: `claim() of ${rows} again, with an idle snapshot open: against without`,
      unit: 'x',
      asked: { atLeast: 0.5 },
      floor: '0.07 claimed one by one',
      values: pairs.map((pair) => pair.idle / pair.without),
      note: 'as the worker does it: a window of 10,000 per transaction',
    },
    {
      what: "without a snapshot, in the worker's windows",
      unit: '/s',
      values: pairs.map((pair) => pair.without),
    },
  ]
}

async function oneAmongMany(bench: Bench): Promise<Figure[]> {
  const { rows, nodes } = sizes(bench)
  return bench.inDatabase(async ({ sql, connect }) => {
    await addNodes(sql, nodes)
    await addDeployments(sql, rows)
    assertEqual(await claim(sql), rows, 'rows that claim() returned')
    // one session, as a worker keeps its own
    const worker = connect(1, 'bench: worker')
    const values: number[] = []
    for (let i = -5; i < bench.size(50, 3); i++) {
      await addDeployments(sql, 1)
      const ms = await elapsedMs(async () =>
        assertEqual(await claim(worker), 1, 'rows that claim() returned'),
      )
      if (i >= 0) values.push(ms)
    }
    return [
      {
        what: `claim() of 1 pending among ${nodes} nodes holding ${rows}`,
        unit: 'ms',
        asked: { atMost: 15 },
        values,
      },
    ]
  })
}

/** The same claims with a trigger that writes nothing into mooring.ownership. */
async function priceOfHistory(bench: Bench): Promise<Figure[]> {
  const { rows } = sizes(bench)
  const pairs = await repeat(bench, async (run) => {
    bench.say(`claim of ${rows} with and without history, run ${run}`)
    const without = await claimAll(bench, { before: ({ sql }) => keepNoHistory(sql) })
    return { without, kept: await claimAll(bench) }
  })
  return [
    {
      what: `history: its share of the time of claim() of ${rows}`,
      unit: '%',
      asked: { atMost: 25 },
      values: pairs.map((pair) => 100 * (1 - pair.kept / pair.without)),
    },
    {
      what: 'the same claim without history',
      unit: '/s',
      values: pairs.map((pair) => pair.without),
    },
  ]
}

async function keepNoHistory(sql: Sql): Promise<void> {
  const [trigger] = await sql<
    { source: string }[]
  >`select pg_get_functiondef('mooring_internal.tg_assignment__follow'::regproc) as source`
  const changed = trigger!.source.replace('where p.epoch <> p.epoch_before', 'where false')
  if (changed === trigger!.source)
    throw new Error('tg_assignment__follow no longer says which rows go into history')
  await sql.unsafe(changed)
}

/**
 * Each policy beside the default one, on a fleet whose nodes report figures. Then the return of all
 * work to its last nodes after an absence of the whole fleet.
 */
async function byPolicy(bench: Bench): Promise<Figure[]> {
  const { rows, nodes } = sizes(bench)
  const perSecond = (
    policy: string,
    { limit = null, home = false }: { limit?: number | null; home?: boolean } = {},
  ): Promise<number> =>
    bench.inDatabase(async ({ sql }) => {
      await addNodes(sql, nodes)
      await sql`
        update mooring.heartbeat
           set cpu_pct = node_id % 17,
               memory_mb = 100,
               disk_free_pct = 40 + node_id % 7,
               running = 0`
      await sql`update mooring.node set max_assignments = ${limit}`
      await sql`update mooring.setting set default_policy = ${policy}`
      await addDeployments(sql, rows)
      if (home) {
        await claim(sql)
        await sql`
          update mooring.assignment
             set node_id = null,
                 epoch = epoch + 1,
                 owner_reason = 'given back',
                 lease_ttl = null,
                 assigned_at = null,
                 waiting_since = now(),
                 last_node_id = node_id`
      }
      const ms = await elapsedMs(async () =>
        assertEqual(await claim(sql), rows, 'rows that claim() returned'),
      )
      if (home)
        assertEqual(
          (await sql`select from mooring.assignment where node_id <> last_node_id`).length,
          0,
          'rows that did not come home',
        )
      return (rows * 1000) / ms
    })
  const runs = await repeat(bench, async (run) => {
    bench.say(`claim of ${rows} by each policy, run ${run}`)
    return {
      count: await perSecond('deployment_count'),
      home: await perSecond('deployment_count', { home: true }),
      usage: await perSecond('resource_usage'),
      disk: await perSecond('disk_free'),
      hash: await perSecond('hash'),
      full: await perSecond('hash', { limit: Math.ceil(rows / nodes) }),
    }
  })
  const figure = (what: string, of: keyof (typeof runs)[number], note?: string): Figure => ({
    what: `claim() of ${rows} on ${nodes} nodes: ${what}`,
    unit: '/s',
    values: runs.map((run) => run[of]),
    ...(note ? { note } : {}),
  })
  return [
    figure('deployment_count', 'count'),
    figure('the same, all of it coming home', 'home', 'over the dead rows of the first claim'),
    figure('resource_usage', 'usage'),
    figure('disk_free', 'disk'),
    figure('hash', 'hash', `${rows} x ${nodes} costs`),
    figure('hash, every node full at the end', 'full'),
  ]
}
