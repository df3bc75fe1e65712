/**
 * Queues as fleets really have them: fifty kinds of work at once, and very many rows that no node
 * may run in front of the one row that a node may run.
 */
import {
  assertEqual,
  elapsedMs,
  repeat,
  type Bench,
  type Benchmark,
  type Figure,
} from './benchmark.js'
import { addDeployments, addNodes, balance, claim, countEvents, keepAlive } from './fleet.js'

export const benchmarks: Benchmark[] = [
  { name: 'claim/signatures', run: manySignatures },
  { name: 'claim/unplaceable', run: behindUnplaceable },
]

/**
 * Ten packages by five selectors, a fiftieth of each pinned to one of ten nodes; three trust
 * patterns, five zones, two kinds of disk.
 */
async function manySignatures(bench: Bench): Promise<Figure[]> {
  const rows = bench.size(100_000, 2_000)
  const nodes = bench.size(1_000, 60)
  let signatures = 0
  const values = await repeat(bench, async (run) => {
    bench.say(`claim of ${rows} with many signatures, run ${run}`)
    return bench.inDatabase(async ({ sql }) => {
      await sql`
        insert into mooring.node (name, trusts, labels)
        select 'node-' || g, (array['^pkg', '^(pkg|other)', '^pkg[0-4]@'])[g % 3 + 1],
               jsonb_build_object('zone', g % 5, 'disk', (array['ssd', 'hdd'])[g % 2 + 1])
          from generate_series(1, ${nodes}::int) g`
      await keepAlive(sql)
      await sql`
        insert into mooring.deployment (package_name, package_version, selector, pinned_node)
        select 'pkg' || g % 10, '1.0.0',
               (
                 array[
                   '{}', '{"zone": 1}', '{"disk": "ssd"}', '{"zone": 2, "disk": "hdd"}',
                   '{"zone": 3}'
                 ]
               )[g / 10 % 5 + 1]::jsonb,
               case when g / 10 % 50 = 5 then 'node-' || (g % 10 + 1) * 3 end
          from generate_series(1, ${rows}::int) g`
      const [distinct] = await sql<
        { n: number }[]
      >`select count(distinct d.signature)::int as n from mooring.deployment d`
      signatures = distinct!.n
      let placed = 0
      const ms = await elapsedMs(async () => (placed = await claim(sql)))
      assertEqual(placed, rows, 'rows that claim() returned')
      assertEqual((await balance(sql)).placed, rows, 'rows with an owner')
      assertEqual(await countEvents(sql, 'claimed'), rows, 'events')
      return (rows * 1000) / ms
    })
  })
  return [
    {
      what:
        `claim() of ${rows} with ${signatures} signatures (selector, package, pin) on ` +
        `${nodes} nodes, events written`,
      unit: '/s',
      asked: { atLeast: 15_000 },
      floor: '34,000/s',
      values,
    },
  ]
}

async function behindUnplaceable(bench: Bench): Promise<Figure[]> {
  const rows = bench.size(100_000, 2_000)
  const nodes = bench.size(1_000, 20)
  return bench.inDatabase(async ({ sql, connect }) => {
    await addNodes(sql, nodes)
    await addDeployments(sql, rows, 'untrusted')
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
        what: `claim() of 1 placeable behind ${rows} unplaceable`,
        unit: 'ms',
        asked: { atMost: 50 },
        values,
      },
    ]
  })
}
