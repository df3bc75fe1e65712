import t from 'tap'
import { digestOf } from '../../agent/digest.js'
import { testDatabase } from '../helpers/postgres.js'

t.test('the agent and the database digest the same set alike, in order of the number and not of its text', async (t) => {
  const { sql } = await testDatabase(t)
  const rows = (['9', '10', '9007199254740993', '2'] as const).map((assignment_id) => ({ assignment_id, epoch: '3', generation: '1', wanted: 'run' as const }))
  for (const set of [[], rows.slice(0, 1), rows]) {
    const [theirs] = await sql<{ digest: string }[]>`
      select mooring.ownership_digest(array_agg(r.assignment_id || ':' || r.epoch || ':' || r.generation || ':' || r.wanted order by r.assignment_id)) as digest
        from jsonb_to_recordset(${JSON.stringify(set)}::text::jsonb) r (assignment_id bigint, epoch bigint, generation bigint, wanted text)`
    t.equal(digestOf(set), theirs?.digest, `${set.length} rows`)
  }
})

t.test('a stop order, a new generation and a new epoch each change the digest', (t) => {
  const row = { assignment_id: '1', epoch: '1', generation: '1', wanted: 'run' as const }
  const digests = [row, { ...row, wanted: 'stop' as const }, { ...row, generation: '2' }, { ...row, epoch: '2' }].map((each) => digestOf([each]))
  t.equal(new Set(digests).size, 4)
  t.end()
})
