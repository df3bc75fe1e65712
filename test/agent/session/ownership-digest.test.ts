import t from 'tap'
import { digestOf } from '../../../agent/session/ownership-digest.js'
import type { OwnedAssignment } from '../../../agent/rows.js'
import { createAgentDb } from '../../../agent/session/verbs.js'
import { beat, deployment, node } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'

const row = {
  assignment_id: '1',
  epoch: '1',
  generation: '1',
  wanted: 'run',
  on_lost: 'stop',
  stop_grace_ms: 10_000,
} as const satisfies Partial<OwnedAssignment>

t.test(
  'agent and database digest a set alike, in order of the number and not of its text',
  async (t) => {
    const { sql } = await testDatabase(t)
    const rows = (['9', '10', '9007199254740993', '2'] as const).map((assignment_id) => ({
      ...row,
      assignment_id,
      epoch: '3',
    }))
    for (const set of [[], rows.slice(0, 1), rows]) {
      const [theirs] = await sql<{ digest: string }[]>`
      select mooring_internal.ownership_digest(array_agg(
          r.assignment_id || ':' || r.epoch || ':' || r.generation || ':' || r.wanted || ':'
            || r.on_lost || ':' || r.stop_grace_ms order by r.assignment_id)) as digest
        from jsonb_to_recordset(${JSON.stringify(set)}::text::jsonb) r (
            assignment_id bigint, epoch bigint, generation bigint, wanted text, on_lost text,
            stop_grace_ms int)`
      t.equal(digestOf(set), theirs?.digest, `${set.length} rows`)
    }
  },
)

t.test(
  'a beat answers the digest of what assignments_of reads, also when a deployment is deleted',
  async (t) => {
    const { sql, url } = await testDatabase(t)
    const host = await node(sql, { name: 'host-a' })
    await deployment(sql, { on_lost: 'keep', stop_grace: '1500.4 ms' })
    const gone = await deployment(sql, { on_lost: 'keep', stop_grace: '1 s' })
    await deployment(sql, { type: 'daemon' })
    await sql`select from mooring.claim()`
    await sql`delete from mooring.deployment where id = ${gone}`
    const db = createAgentDb({ databaseUrl: url, node: 'host-a' })
    t.teardown(() => db.close())
    const rows = await db.assignmentsOf('host-a', host.session)
    t.equal(rows.length, 3)
    t.equal(digestOf(rows), (await beat(sql, host)).digest)
    // an edit of just one of these, and its hint is lost: the next beat tells
    for (const edit of ["on_lost = 'stop'", "stop_grace = '2 s'"]) {
      await sql.unsafe(`update mooring.deployment set ${edit} where type = 'deployment'`)
      const { digest } = await beat(sql, host)
      t.not(digest, digestOf(rows), edit)
      rows.splice(0, rows.length, ...(await db.assignmentsOf('host-a', host.session)))
      t.equal(digest, digestOf(rows), `${edit}, read`)
    }
    // a digest of what restarts and stops things alone
    await sql`
      create or replace function mooring_internal.ownership_line(
        assignment mooring.assignment, deployment mooring.deployment)
      returns text language sql stable
      return assignment.id || ':' || assignment.epoch || ':'
        || coalesce(deployment.generation, 0) || ':' || assignment.wanted`
    const { digest } = await beat(sql, host)
    await sql`update mooring.deployment set on_lost = 'keep', stop_grace = '3 s'`
    t.equal((await beat(sql, host)).digest, digest, 'would never tell')
  },
)

t.test(
  'a stop order, a new generation, a new epoch, and what is done at the end each change the digest',
  (t) => {
    const sets = [
      row,
      { ...row, wanted: 'stop' as const },
      { ...row, generation: '2' },
      { ...row, epoch: '2' },
      { ...row, on_lost: 'keep' as const },
      { ...row, stop_grace_ms: 1 },
    ]
    t.equal(new Set(sets.map((each) => digestOf([each]))).size, sets.length)
    t.end()
  },
)
