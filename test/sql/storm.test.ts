import t from 'tap'
import { testDatabase } from '../helpers/postgres.js'
import { storiesIn } from './story.js'
import { calm, weather } from './storm.js'

// A few hundred random verbs and edits; after each of them everything that must always hold is
// looked at (invariants.ts).

const STEPS = Number(process.env.STORM_STEPS ?? 250)
const SEEDS = process.env.STORM_SEEDS?.split(',').map(Number) ?? [1, 2, 3]

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

for (const seed of SEEDS) {
  story(
    `whatever comes in whatever order, the laws hold, and afterwards all is placed (seed ${seed})`,
    async (t, sql) => {
      t.same(await weather(sql, seed, STEPS), [])
      await calm(sql)
      const left = await sql`
          select p.*, u.reason
            from mooring.placement p
            left join mooring.unplaced u using (assignment_id)
           where p.node is not null and p.wanted = 'stop'
              or u.reason = 'it is placed by the next round'`
      t.same([...left], [])
      const [seen] = await sql`
          select (select count(*) > 50 from mooring.event where kind = 'claimed') as claimed,
                 (select count(*) > 0 from mooring.assignment) as there`
      t.same(seen, { claimed: true, there: true }, 'it was a storm')
    },
  )
}
