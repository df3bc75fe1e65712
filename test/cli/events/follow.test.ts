import t from 'tap'
import { createDeploymentQueries } from '../../../cli/queries/deployments.js'
import { createEventQueries } from '../../../cli/queries/events.js'
import type { EventQueries } from '../../../cli/queries/events.js'
import { createEventFollower, WINDOW } from '../../../cli/events/follow.js'
import { testDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'

const add =
  "insert into mooring.event (kind, reason) select 'a_test', 'event ' || g " +
  'from generate_series(1, $1::int) g returning id'

t.test(
  'an event whose transaction ends long after later ones were told is told, and none twice',
  async (t) => {
    const pg = await testDatabase(t)
    const db = createEventQueries(pg.sql)
    let clock = 0
    const follower = createEventFollower({}, () => clock)
    const psql = pg.client()
    await pg.sql.unsafe(add, [3])
    t.same(await follower.next(db), [], 'what was before is known')
    await psql`begin`
    const [late] = await psql.unsafe<{ id: string }[]>(add, [1])
    const told: string[] = []
    for (let i = 0; i < 5; i++) {
      await pg.sql.unsafe(add, [700])
      clock += 60_000
      told.push(...(await follower.next(db)).map(({ id }) => id))
    }
    t.equal(told.length, 3500)
    t.notOk(told.includes(late!.id))
    await psql`commit`
    t.same(
      (await follower.next(db)).map(({ id }) => id),
      [late!.id],
    )
    clock += 60_000
    t.same(await follower.next(db), [])
    t.same(await follower.next(db), [])
  },
)

t.test('negative control: who asks for what is above the highest id loses it', async (t) => {
  const pg = await testDatabase(t)
  const db = createEventQueries(pg.sql)
  const psql = pg.client()
  await psql`begin`
  const [late] = await psql.unsafe<{ id: string }[]>(add, [1])
  await pg.sql.unsafe(add, [1])
  const seen = await db.events({}, 10)
  await psql`commit`
  t.notOk((await db.eventsAfter(BigInt(seen.at(-1)!.id), {}, 10)).some(({ id }) => id === late!.id))
})

t.test(
  'it looks back only as long as a transaction can still write there; then the looks are short',
  async (t) => {
    const pg = await testDatabase(t)
    const real = createEventQueries(pg.sql)
    let from = 0n
    const db: EventQueries = {
      ...real,
      eventsAfter: (id, filter, limit) => {
        from = id
        return real.eventsAfter(id, filter, limit)
      },
    }
    let clock = 0
    const follower = createEventFollower({}, () => clock)
    await follower.next(db)
    const ids = await pg.sql.unsafe<{ id: string }[]>(add, [50])
    const top = BigInt(ids.at(-1)!.id)
    // other tests of the server have transactions of their own
    await waitFor(
      async () => {
        clock += 3_000
        await follower.next(db)
        return from >= top
      },
      { label: 'it begins behind what is settled' },
    )
  },
)

t.test('more than a window at once is told whole', async (t) => {
  const pg = await testDatabase(t)
  const db = createEventQueries(pg.sql)
  const follower = createEventFollower({}, () => 0)
  await follower.next(db)
  await pg.sql.unsafe(add, [Number(WINDOW) + 10])
  t.equal((await follower.next(db)).length, Number(WINDOW) + 10)
})

t.test('a look that fails has told nothing', async (t) => {
  const pg = await testDatabase(t)
  const real = createEventQueries(pg.sql)
  let fail = true
  const db: EventQueries = {
    ...real,
    eventsAfter: (...args) =>
      fail ? Promise.reject(new Error('away')) : real.eventsAfter(...args),
  }
  const follower = createEventFollower()
  await pg.sql.unsafe(add, [2])
  await t.rejects(follower.next(db), /away/)
  fail = false
  t.same(await follower.next(db), [], 'the first look that succeeds takes the present for known')
  fail = true
  await pg.sql.unsafe(add, [1])
  await t.rejects(follower.next(db), /away/)
  fail = false
  t.equal((await follower.next(db)).length, 1)
})

t.test('filters are by kind, node, deployment, assignment and age', async (t) => {
  const pg = await testDatabase(t)
  const db = createEventQueries(pg.sql)
  await pg.sql`
    insert into mooring.event (at, kind, node, deployment_id, assignment_id)
    values (now() - interval '2 h', 'claimed', 'host-a', 1, 10),
      (now(), 'claimed', 'host-b', 2, 20),
      (now(), 'reaped', 'host-a', 1, 11)
  `
  const found = async (filter: Parameters<EventQueries['events']>[0]) =>
    (await db.events(filter, null)).map(({ kind, node }) => `${kind} ${node}`)
  t.same(await found({ kinds: ['reaped', 'released'] }), ['reaped host-a'])
  t.same(await found({ node: 'host-a' }), ['claimed host-a', 'reaped host-a'])
  t.same(await found({ deployment: '2' }), ['claimed host-b'])
  t.same(await found({ assignment: '10' }), ['claimed host-a'])
  t.same(await found({ since: '1 h' }), ['claimed host-b', 'reaped host-a'])
  t.same(await found({ kinds: ["x'; drop table mooring.event; --"] }), [])
})

t.test('labels are matched as text, and a requirement nothing says matches nothing', async (t) => {
  const pg = await testDatabase(t)
  const db = createDeploymentQueries(pg.sql)
  await pg.sql`
    insert into mooring.deployment (name, package_name, labels)
    values ('a', 'x', '{"tier": "front", "n": 5}'), ('b', 'x', '{"tier": "back"}'), ('c', 'x', '{}')
  `
  const found = async (
    ...labels: [key: string, op: 'is' | 'is_not' | 'exists' | 'absent', value?: string][]
  ) =>
    (
      await db.deployments({
        labels: labels.map(([key, op, value = null]) => ({ key, op, value })),
      })
    )
      .map(({ name }) => name)
      .join('')
  t.equal(await found(['tier', 'is', 'front']), 'a')
  t.equal(await found(['n', 'is', '5']), 'a')
  t.equal(await found(['tier', 'is_not', 'front']), 'bc')
  t.equal(await found(['tier', 'exists'], ['n', 'absent']), 'b')
  t.equal(await found(['tier', 'absent']), 'c')
  t.equal(await found(), '', 'an empty list is not everything')
})
