import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployments, node, report } from '../../helpers/factories.js'
import { claim, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story(
  'D17: pages of what a node owns, 200 rows by default and 2000 at most, with last_active_at',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    await deployments(sql, 2100)
    await claim(sql)
    const rows = await assignments(sql)
    await report(sql, host, rows[0]!, 'running', { pid: 7 })
    const page = async (...args: (number | null)[]) =>
      await sql<
        { assignment_id: string; last_active_at: Date | null }[]
      >`select * from mooring.placements_of('host-a', ${args[0] ?? 200}, ${args[1] ?? 0})`
    t.equal((await page()).length, 200)
    t.ok((await page())[0]!.last_active_at)
    t.same(
      (await page(3, 2)).map((row) => row.assignment_id),
      rows.slice(2, 5).map(({ id }) => id),
    )
    t.equal((await page(100_000)).length, 2000)
    t.equal((await page(2000, 2000)).length, 100)
    t.same([...(await page(-1, -1))], [])
    await refused(t, sql, (sql) => sql`select * from mooring.placements_of('host-b')`, {
      code: 'MR003',
      hint: /host-a/,
    })
  },
)
