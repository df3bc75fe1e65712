import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, events, storiesIn } from '../story.js'

// ../races/database-crash.test.ts shows what a real promotion does to the epochs.

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const next = async (sql: TransactionSql, epoch: string) =>
  (await sql<{ next: string }[]>`select mooring_internal.next_epoch(${epoch}) as next`)[0]!.next
const reap = (sql: TransactionSql) => sql`select from mooring.reap()`
const floor = (timeline: number) => BigInt(timeline - 1) << 40n

const [{ source }] = await pg.sql<
  [{ source: string }]
>`select pg_get_functiondef('mooring_internal.timeline'::regproc) as source`

/**
 * As if the database had been promoted so often: the function's own source, with another name for
 * the file of the log.
 */
async function onTimeline(sql: TransactionSql, timeline: number): Promise<void> {
  const changed = source.replace(
    /pg_walfile_name\(written\)/i,
    `'${timeline.toString(16).padStart(8, '0').toUpperCase()}0000000000000001'::text`,
  )
  if (changed === source) throw new Error('timeline() no longer reads the name of the log file')
  await sql.unsafe(changed)
}

story(
  'a server that does not tell its timeline is asked in every way it allows',
  async (t, sql) => {
    const timeline = async () =>
      (await sql<{ timeline: number | null }[]>`select mooring_internal.timeline() as timeline`)[0]!
        .timeline
    t.equal(await timeline(), 1)
    await sql`create role guest`
    await sql`grant usage on schema mooring_internal to guest`
    // a function of the owner asks with the rights of the owner
    await sql`alter function mooring_internal.timeline() owner to guest`
    for (const refused of [
      'pg_current_wal_lsn()',
      'pg_current_wal_insert_lsn()',
      'pg_current_wal_flush_lsn()',
    ]) {
      await sql.unsafe(`revoke execute on function ${refused} from public`)
      t.equal(await timeline(), 1, `without ${refused}`)
    }
    await sql`revoke execute on function pg_control_checkpoint() from public`
    t.equal(await timeline(), null)
    t.equal(await next(sql, '7'), '8', 'epochs count on')
  },
)

story('on the first timeline epochs are 1, 2, 3', async (t, sql) => {
  t.same([await next(sql, '0'), await next(sql, '1'), await next(sql, '2')], ['1', '2', '3'])
})

story(
  'on a later one they begin above everything an earlier one can have handed out, and go on by one',
  async (t, sql) => {
    for (const timeline of [2, 3, 255, 4096]) {
      await onTimeline(sql, timeline)
      const first = floor(timeline) + 1n
      t.equal(await next(sql, '0'), String(first))
      t.equal(await next(sql, '7'), String(first))
      t.equal(await next(sql, String(first)), String(first + 1n))
    }
  },
)

story(
  'a timeline that is lower than it was, as after pg_upgrade, takes nothing back',
  async (t, sql) => {
    const epoch = String(floor(9) + 5n)
    t.equal(await next(sql, epoch), String(floor(9) + 6n))
  },
)

story(
  'every writer raises the epoch above it: claim, reap, a row that ends, a daemon, a DBA',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    const [stays, ends, byHand] = await deployments(sql, 3)
    await claim(sql)
    await onTimeline(sql, 2)
    await age(sql, 'host-a', '1 minute ago')
    await sql`update mooring.assignment set node_id = null where deployment_id = ${byHand!}`
    await sql`delete from mooring.deployment where id = ${ends!}`
    await reap(sql)
    const first = String(floor(2) + 1n)
    t.same(
      (await events(sql, 'reaped')).map(({ epoch }) => epoch),
      [first, first],
    )
    t.same(
      (await assignments(sql)).map(({ deployment_id, epoch }) => [deployment_id, epoch]),
      [
        [stays, first],
        [byHand, first],
      ],
    )
    await onTimeline(sql, 3)
    await node(sql, { name: 'host-b' })
    await claim(sql)
    await deployment(sql, { type: 'daemon', pinned_node: 'host-b' })
    t.same(
      new Set((await assignments(sql)).map(({ epoch }) => epoch)),
      new Set([String(floor(3) + 1n)]),
    )
  },
)
