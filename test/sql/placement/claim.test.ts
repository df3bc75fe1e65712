import t from 'tap'
import type { TransactionSql } from 'postgres'
import { randomOf } from '../../../faults/plan.js'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, beat, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, events, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story(
  '21 deployments over two nodes are placed 11 and 10, in the order of the queue',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    const ids = await deployments(sql, 21)
    t.equal((await claim(sql)).length, 21)
    t.same(await loads(sql), { 'host-a': 11, 'host-b': 10 })
    const claimed = await events(sql, 'claimed')
    t.same(
      claimed.map((event) => event.deployment_id),
      ids,
      'one event for each, in queue order',
    )
    t.same(
      claimed.map((event) => event.node),
      ids.map((_, nr) => (nr % 2 === 0 ? 'host-a' : 'host-b')),
      'in turn',
    )
    t.ok((await assignments(sql)).every(({ epoch, wanted }) => epoch === '1' && wanted === 'run'))
    t.same(await claim(sql), [], 'and nothing is left')
  },
)

story('the queue goes by updated_at, then created_at, then id', async (t, sql) => {
  await node(sql)
  const [monday, tuesday, wednesday] = ['2026-01-05', '2026-01-06', '2026-01-07']
  const fourth = await deployment(sql, { updated_at: wednesday, created_at: monday })
  const second = await deployment(sql, { updated_at: monday, created_at: tuesday })
  const third = await deployment(sql, { updated_at: monday, created_at: tuesday })
  const first = await deployment(sql, { updated_at: monday, created_at: monday })
  await claim(sql)
  t.same(
    (await events(sql, 'claimed')).map((event) => event.deployment_id),
    [first, second, third, fourth],
  )
})

/**
 * 120 rows, most of which tie with others, are placed in several calls and windows, and some are
 * lost and placed again. It returns the order of the claims, and the order of a model.
 */
async function ties(sql: TransactionSql): Promise<{ claimed: string[]; model: string[] }> {
  const host = await node(sql, { name: 'host-a', max_assignments: 0 })
  await sql`update mooring.setting set claim_window = 16`
  const random = randomOf(20_261_121)
  const day = () => `2026-01-0${5 + Math.floor(random() * 3)}Z`
  for (let nr = 0; nr < 120; nr++)
    await deployment(sql, { id: 1 + ((nr * 77) % 1009), updated_at: day(), created_at: day() })
  const queue = async () => {
    const rows = await sql<
      { id: string; deployment_id: string; updated_us: string; created_us: string }[]
    >`
      select a.id, a.deployment_id,
             (extract(epoch from a.updated_at) * 1e6)::bigint::text as updated_us,
             (extract(epoch from a.created_at) * 1e6)::bigint::text as created_us
        from mooring.assignment a
       where a.node_id is null`
    const by = (a: string, b: string) =>
      BigInt(a) < BigInt(b) ? -1 : BigInt(a) > BigInt(b) ? 1 : 0
    return rows
      .sort(
        (a, b) =>
          by(a.updated_us, b.updated_us) || by(a.created_us, b.created_us) || by(a.id, b.id),
      )
      .map(({ deployment_id }) => deployment_id)
  }
  const first = (await queue()).slice(0, 50)
  await sql`update mooring.node set max_assignments = 50`
  await claim(sql, 31)
  await claim(sql)
  await age(sql, 'host-a', '1 minute ago')
  await sql`select count(*) from mooring.reap(17)`
  await beat(sql, host)
  const rest = await queue()
  await sql`update mooring.node set max_assignments = null`
  await claim(sql)
  return {
    claimed: (await events(sql, 'claimed')).map(({ deployment_id }) => deployment_id!),
    model: [...first, ...rest],
  }
}

story(
  'Y14: in all ties the order is updated_at, created_at, id, and a reaped row keeps its place',
  async (t, sql) => {
    const { claimed, model } = await ties(sql)
    t.equal(model.length, 50 + 70 + 17)
    t.same(claimed, model)
  },
)

story(
  'negative control: a claim that leaves out one of the three differs from the model',
  async (t, sql) => {
    const [{ source } = { source: '' }] = await sql<
      { source: string }[]
    >`select pg_get_functiondef('mooring.claim'::regproc) as source`
    const changed = source.replaceAll('l.updated_at, l.created_at, l.id', 'l.updated_at, l.id')
    t.not(changed, source)
    await sql.unsafe(changed)
    const { claimed, model } = await ties(sql)
    t.equal(claimed.length, model.length)
    t.notSame(claimed, model)
  },
)

story('with max_rows only the head of the queue is placed', async (t, sql) => {
  await node(sql)
  const ids = await deployments(sql, 5)
  await claim(sql, 2)
  t.same(
    (await events(sql, 'claimed')).map((event) => event.deployment_id),
    ids.slice(0, 2),
  )
  t.equal((await claim(sql, 10)).length, 3)
})

story('max_rows below one is a mistake of the caller', async (t, sql) => {
  for (const rows of [0, -1])
    await refused(t, sql, (sql) => claim(sql, rows), { code: 'MR007', hint: /leave it out/i })
})

story('many small windows place exactly what one large window places', async (t, sql) => {
  for (const weight of [100, 200, 50]) await node(sql, { weight })
  await node(sql, { max_assignments: 3 })
  await deployments(sql, 40)
  const placedWith = async (window: number) => {
    let placed: unknown
    await sql
      .savepoint(async (sql) => {
        await sql`update mooring.setting set claim_window = ${window}`
        t.equal((await claim(sql)).length, 40)
        placed = (await events(sql, 'claimed')).map(({ deployment_id, node }) => [
          deployment_id,
          node,
        ])
        throw undone
      })
      .catch((error: unknown) => t.equal(error, undone))
    return placed
  }
  const whole = await placedWith(10_000)
  t.same(await placedWith(7), whole)
  t.same(await placedWith(1), whole)
})
const undone = new Error('only tried')

story('work that no node may run does not stop what stands behind it', async (t, sql) => {
  await node(sql)
  await sql`update mooring.setting set claim_window = 10`
  await sql`
    insert into mooring.deployment (package_name, selector)
    select 'http-server', '{"rack": "nowhere"}'
      from generate_series(1, 500)`
  const id = await deployment(sql)
  t.equal((await claim(sql)).length, 1)
  t.equal((await assignments(sql, id))[0]!.epoch, '1')
})

story('the tightest work is served first where room is short', async (t, sql) => {
  await node(sql, { name: 'host-a', max_assignments: 1 })
  await node(sql, { name: 'host-b', max_assignments: 1, labels: { ssd: true } })
  await deployment(sql)
  const tight = await deployment(sql, { selector: { ssd: true } })
  await claim(sql)
  t.equal((await assignments(sql, tight))[0]!.node, 'host-b', 'the one that can only go there')
  t.same(await loads(sql), { 'host-a': 1, 'host-b': 1 })
})

story(
  'a claim takes the lease from the deployment, else from setting, and later edits leave it alone',
  async (t, sql) => {
    await node(sql)
    const own = await deployment(sql, { lease_ttl: '40 s' })
    const common = await deployment(sql)
    await claim(sql)
    await sql`update mooring.setting set lease_ttl = '30 s'`
    await sql`update mooring.deployment set lease_ttl = '1 min'`
    const rows = await sql`
        select deployment_id as id, extract(epoch from lease_ttl)::int as seconds
          from mooring.assignment
         order by deployment_id`
    t.same(
      [...rows],
      [
        { id: own, seconds: 40 },
        { id: common, seconds: 12 },
      ],
    )
  },
)

story('a claim does not move a row in the queue', async (t, sql) => {
  await node(sql)
  await deployment(sql, { updated_at: '2026-01-05' })
  await claim(sql)
  const [row] = await sql`
      select updated_at = '2026-01-05 00:00Z' as kept, waiting_since,
             assigned_at is not null as stamped
        from mooring.assignment`
  t.same(row, { kept: true, waiting_since: null, stamped: true })
})

story('a deployment that was disabled before the claim is not placed', async (t, sql) => {
  await node(sql)
  const id = await deployment(sql, { enabled: false })
  t.same(await claim(sql), [])
  await sql`update mooring.deployment set enabled = true where id = ${id}`
  t.equal((await claim(sql)).length, 1)
})

story('Y logs: an event names the rule by which the node was chosen', async (t, sql) => {
  await node(sql, { sample: { cpu_pct: 1, memory_mb: 1 } })
  await deployment(sql)
  await deployment(sql, { policy: 'resource_usage' })
  await claim(sql)
  t.same((await events(sql, 'claimed')).map(({ reason, epoch }) => [reason, epoch]).sort(), [
    ['cheapest by deployment_count', '1'],
    ['cheapest by resource_usage', '1'],
  ])
})

void t.test('a claim in a transaction of another isolation level is refused', async (t) => {
  for (const level of ['isolation level repeatable read', 'isolation level serializable']) {
    await t.rejects(
      pg.sql.begin(level, (sql) => claim(sql)),
      { code: 'MR008' },
      level,
    )
  }
})
