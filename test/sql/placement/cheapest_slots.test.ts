import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

interface State {
  id: number
  weight?: number
  max_assignments?: number
  assigned?: number
  running?: number
  cpu_pct?: number
  memory_mb?: number
}

/** The pure choice: node ids, cheapest place first. */
async function choose(
  sql: TransactionSql,
  states: State[],
  policy: string,
  n: number,
  eligible = states.map(({ id }) => id),
): Promise<number[]> {
  const rows = states.map((state) => ({
    name: `host-${state.id}`,
    weight: 100,
    assigned: 0,
    ...state,
  }))
  const [row] = await sql<{ chosen: number[] }[]>`
    select mooring_internal.cheapest_slots(
      array(select s from jsonb_populate_recordset(null::mooring.node_state, ${sql.json(rows)}) s),
      ${eligible}::int[], ${policy}, ${n}
    ) as chosen`
  return row!.chosen
}

const tally = (ids: number[]) =>
  ids.reduce<Record<number, number>>((sum, id) => ({ ...sum, [id]: (sum[id] ?? 0) + 1 }), {})

story('equal nodes take turns, the smallest id first', async (t, sql) => {
  t.same(
    await choose(sql, [{ id: 3 }, { id: 1 }, { id: 2 }], 'deployment_count', 5),
    [1, 2, 3, 1, 2],
  )
})

story('the emptier node is filled up first', async (t, sql) => {
  t.same(
    await choose(sql, [{ id: 1, assigned: 3 }, { id: 2 }], 'deployment_count', 5),
    [2, 2, 2, 1, 2],
  )
})

story('a node of weight 200 takes twice what one of 100 takes', async (t, sql) => {
  t.same(
    tally(
      await choose(
        sql,
        [
          { id: 1, weight: 100 },
          { id: 2, weight: 200 },
        ],
        'deployment_count',
        30,
      ),
    ),
    { 1: 10, 2: 20 },
  )
  t.same(
    tally(
      await choose(
        sql,
        [
          { id: 1, weight: 0.001 },
          { id: 2, weight: 1e6 },
        ],
        'deployment_count',
        30,
      ),
    ),
    { 2: 30 },
    'extreme weights',
  )
})

story(
  'no node is filled above max_assignments, and fewer places than asked for come back',
  async (t, sql) => {
    t.same(
      tally(
        await choose(
          sql,
          [
            { id: 1, max_assignments: 3, assigned: 1 },
            { id: 2, max_assignments: 1 },
            { id: 3, max_assignments: 2, assigned: 5 },
          ],
          'deployment_count',
          10,
        ),
      ),
      { 1: 2, 2: 1 },
    )
    t.same(await choose(sql, [{ id: 1, max_assignments: 0 }], 'deployment_count', 3), [])
  },
)

story('only eligible nodes are looked at', async (t, sql) => {
  t.same(
    await choose(sql, [{ id: 1 }, { id: 2 }, { id: 3 }], 'deployment_count', 3, [2, 3]),
    [2, 3, 2],
  )
  t.same(await choose(sql, [{ id: 1 }], 'deployment_count', 3, []), [], 'none at all')
})

story(
  'a single empty node beside full ones takes as much as needed: the look is widened',
  async (t, sql) => {
    const full = Array.from({ length: 20 }, (_, nr) => ({ id: nr + 2, assigned: 1000 }))
    t.same(tally(await choose(sql, [{ id: 1 }, ...full], 'deployment_count', 500)), { 1: 500 })
  },
)

story('the choice equals a model that hands out one place after the other', async (t, sql) => {
  let seed = 7
  const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n
  for (let round = 0; round < 15; round++) {
    const states = Array.from({ length: 1 + random(8) }, (_, nr) => ({
      id: nr + 1,
      assigned: random(30),
      weight: [50, 100, 200][random(3)]!,
      ...(random(3) === 0 ? { max_assignments: random(40) } : {}),
    }))
    const n = 1 + random(60)
    const model: number[] = []
    const load = new Map(states.map(({ id, assigned }) => [id, assigned]))
    while (model.length < n) {
      const cost = (state: State) => ((load.get(state.id)! + 1) * 100) / state.weight!
      const [next] = states
        .filter(
          (state) =>
            load.get(state.id)! <
            (('max_assignments' in state ? state.max_assignments : undefined) ?? Infinity),
        )
        .sort((a, b) => cost(a) - cost(b) || a.id - b.id)
      if (!next) break
      model.push(next.id)
      load.set(next.id, load.get(next.id)! + 1)
    }
    t.same(await choose(sql, states, 'deployment_count', n), model, JSON.stringify({ n, states }))
  }
})

story(
  'resource_usage: least cpu and memory first, one point for each further assignment',
  async (t, sql) => {
    const states = [
      { id: 1, cpu_pct: 40, memory_mb: 1024 },
      { id: 2, cpu_pct: 10, memory_mb: 1024 },
    ]
    t.same(
      tally(await choose(sql, states, 'resource_usage', 10)),
      { 2: 10 },
      '5.5 + k stays below 20.5',
    )
    t.same(tally(await choose(sql, states, 'resource_usage', 25)), { 1: 5, 2: 20 })
  },
)

story('resource_usage: a node with an unknown figure sorts last', async (t, sql) => {
  const states = [
    { id: 1 },
    { id: 2, cpu_pct: 90, memory_mb: 65536, assigned: 50 },
    { id: 3, cpu_pct: 0 },
  ]
  t.same(tally(await choose(sql, states, 'resource_usage', 21)), { 2: 21 })
  t.same(
    await choose(
      sql,
      [{ id: 1 }, { id: 2, cpu_pct: 90, memory_mb: 1, max_assignments: 1 }],
      'resource_usage',
      3,
    ),
    [2, 1, 1],
    'it is used when the known ones are full',
  )
})

story('resource_usage: where no figure is known the count decides', async (t, sql) => {
  t.same(await choose(sql, [{ id: 1, assigned: 2 }, { id: 2 }], 'resource_usage', 4), [2, 2, 1, 2])
})

story(
  'resource_usage: assigned, not yet observed work counts, so no node is flooded between samples',
  async (t, sql) => {
    const states = [
      { id: 1, cpu_pct: 1, memory_mb: 0, assigned: 20, running: 0 },
      { id: 2, cpu_pct: 5, memory_mb: 0, assigned: 20, running: 20 },
    ]
    t.same(tally(await choose(sql, states, 'resource_usage', 5)), { 2: 5 })
    t.same(
      tally(await choose(sql, [{ ...states[0]!, running: 20 }, states[1]!], 'resource_usage', 2)),
      { 1: 2 },
      'once observed only its usage counts',
    )
  },
)

story(
  'resource_usage: the weights of cpu and memory are settings, normalised to one',
  async (t, sql) => {
    const states = [
      { id: 1, cpu_pct: 30, memory_mb: 0 },
      { id: 2, cpu_pct: 0, memory_mb: 40 * 1024 },
    ]
    t.same(await choose(sql, states, 'resource_usage', 1), [1])
    await sql`update mooring.setting set cpu_weight = 3, memory_weight = 1`
    t.same(await choose(sql, states, 'resource_usage', 1), [2])
    t.same(tally(await choose(sql, states, 'resource_usage', 13)), { 2: 13 }, '22.5 against 10 + k')
  },
)

story('resource_usage: the weight of the node scales the cost', async (t, sql) => {
  t.same(
    await choose(
      sql,
      [
        { id: 1, cpu_pct: 20, memory_mb: 0 },
        { id: 2, cpu_pct: 30, memory_mb: 0, weight: 200 },
      ],
      'resource_usage',
      1,
    ),
    [2],
  )
})

story('a policy that is not registered is an error', async (t, sql) => {
  await refused(t, sql, (sql) => choose(sql, [{ id: 1 }], 'no-such-policy', 1), { code: 'P0002' })
})
