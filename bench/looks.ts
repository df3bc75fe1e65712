/**
 * What an operator's queries cost on a fleet of 1,000 nodes: they lock nothing, but an operator
 * waits for them. Each runs in a session that has run it before.
 */
import type { Sql } from 'postgres'
import {
  assertEqual,
  elapsedMs,
  repeat,
  type Bench,
  type Benchmark,
  type Figure,
} from './benchmark.js'
import { addDeployments, addNodes, claim, observeAll } from './fleet.js'

export const benchmarks: Benchmark[] = [{ name: 'looks', run: looks }]

const ON_THE_LARGE_NODE = { full: 1_000, quick: 50 }

interface Look {
  what: string
  asked?: { atMost: number }
  rows: (answer: readonly Record<string, unknown>[]) => boolean
  ask: (sql: Sql) => Promise<readonly Record<string, unknown>[]>
}

async function looks(bench: Bench): Promise<Figure[]> {
  const nodes = bench.size(1_000, 20)
  const rows = bench.size(10_000, 200)
  const onLarge = bench.size(ON_THE_LARGE_NODE.full, ON_THE_LARGE_NODE.quick)
  return bench.inDatabase(async ({ sql, connect }) => {
    await addNodes(sql, nodes)
    await sql`
      update mooring.node
         set labels = jsonb_build_object('zone', id % 3),
             max_assignments = 2000,
             version = '0.1.0',
             containment = 'pid-namespace'`
    // the first node alone takes its share before the others are open
    await sql`update mooring.node set enabled = name = 'node-1'`
    await addDeployments(sql, onLarge)
    assertEqual(await claim(sql), onLarge, 'rows on the large node')
    await sql`update mooring.node set enabled = true`
    await addDeployments(sql, rows - onLarge)
    assertEqual(await claim(sql), rows - onLarge, 'rows on the others')
    await observeAll(sql)
    await sql`vacuum (analyze)`
    const [one] = await sql<{ id: string }[]>`select min(id) as id from mooring.deployment`
    const [waits] = await sql<{ id: string }[]>`
      insert into mooring.deployment (package_name, selector)
      values ('other', '{"zone": 1}')
      returning id`
    const exactly = (n: number) => (answer: readonly unknown[]) => answer.length === n
    const all: Look[] = [
      {
        what: 'explain() of what runs',
        asked: { atMost: 100 },
        rows: exactly(nodes),
        ask: (sql) => sql`select * from mooring.explain(${one!.id})`,
      },
      {
        what: 'explain() of what nobody may run',
        asked: { atMost: 100 },
        rows: exactly(nodes),
        ask: (sql) => sql`select * from mooring.explain(${waits!.id})`,
      },
      {
        what: `simulate_node_loss() of a node with ${onLarge}`,
        asked: { atMost: 1_000 },
        rows: (answer) =>
          answer.length === onLarge && answer.every((row) => row['to_node'] !== null),
        ask: (sql) => sql`select * from mooring.simulate_node_loss('node-1')`,
      },
      {
        what: `simulate_drain() of a node with ${onLarge}`,
        rows: (answer) =>
          answer.length === onLarge && answer.every((row) => row['to_node'] !== null),
        ask: (sql) => sql`select * from mooring.simulate_drain('node-1')`,
      },
      {
        what: 'simulate_insert() of 100 replicas',
        rows: exactly(bench.size(100, 10)),
        ask: (sql) =>
          sql`
            select *
              from mooring.simulate_insert(
                ${sql.json({ package_name: 'pkg', replicas: bench.size(100, 10) })}
              )`,
      },
      {
        what: 'doctor()',
        rows: (answer) =>
          answer.length > 30 &&
          !answer.some((row) => String(row['found']).includes('could not be looked at')),
        ask: (sql) => sql`select * from mooring.doctor()`,
      },
      {
        what: 'view unplaced',
        rows: exactly(1),
        ask: (sql) => sql`select * from mooring.unplaced`,
      },
      {
        what: 'view node_status',
        rows: exactly(nodes),
        ask: (sql) => sql`select * from mooring.node_status`,
      },
      {
        what: 'view placement',
        rows: exactly(rows + 1),
        ask: (sql) => sql`select * from mooring.placement`,
      },
      { what: 'view fleet', rows: exactly(1), ask: (sql) => sql`select * from mooring.fleet` },
    ]
    const asker = connect(1, 'bench: operator')
    const figures: Figure[] = []
    for (const { what, asked, rows: right, ask } of all) {
      bench.say(what)
      const values = await repeat(bench, () =>
        elapsedMs(async () => {
          if (!right(await ask(asker))) throw new Error(`${what}: not what was to be seen`)
        }),
      )
      figures.push({
        what: `${what}, ${nodes} nodes with ${rows}`,
        unit: 'ms',
        values,
        ...(asked ? { asked } : {}),
      })
    }
    return figures
  })
}
