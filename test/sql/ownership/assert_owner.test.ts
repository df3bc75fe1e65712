import t from 'tap'
import type { ISql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'
import { age, assignments, beat, deployment, node, report } from '../../helpers/factories.js'
import { claim, events, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const assertOwner = (sql: ISql, row: { id: string; epoch: string }) =>
  sql`select mooring.assert_owner(${row.id}, ${row.epoch})`

async function owned(sql: ISql) {
  const host = await node(sql, { name: 'host-a' })
  const id = await deployment(sql)
  await claim(sql)
  return { host, id, row: (await assignments(sql, id))[0]! }
}

story('the owner passes, and may sit idle only for what is left of its lease', async (t, sql) => {
  const { row } = await owned(sql)
  await age(sql, 'host-a', '5 seconds ago')
  await assertOwner(sql, row)
  const [idle] = await sql<{ ms: number }[]>`
    select extract(
      epoch from current_setting('idle_in_transaction_session_timeout')::interval
    ) * 1000 as ms`
  t.ok(Number(idle!.ms) > 0 && Number(idle!.ms) <= 7000, `${idle!.ms} ms`)
})

story("a shorter limit of the session's own stays", async (t, sql) => {
  const { row } = await owned(sql)
  const name = await timeLimit(sql)
  await sql`select set_config(${name}, '5 s', true)`
  await assertOwner(sql, row)
  await assertOwner(sql, row)
  const [limit] = await sql<{ fits: boolean }[]>`
    select current_setting(${name})::interval between '1 ms' and '5 s' as fits`
  t.equal(limit!.fits, true)
})

/** What bounds a statement: of this server the transaction's timeout, or each statement's. */
const timeLimit = async (sql: ISql) =>
  (
    await sql<{ name: string }[]>`
      select max(name) as name
        from pg_settings
       where name in ('transaction_timeout', 'statement_timeout')`
  )[0]!.name

story('its transaction lasts for what is left, and each call counts again', async (t, sql) => {
  const { host, row } = await owned(sql)
  const name = await timeLimit(sql)
  const limit = async () =>
    Number(
      (
        await sql<{ ms: number }[]>`
          select extract(epoch from current_setting(${name})::interval) * 1000 as ms`
      )[0]!.ms,
    )
  await age(sql, 'host-a', '5 seconds ago')
  await sql.savepoint(async (sql) => {
    await assertOwner(sql, row)
  })
  const first = await limit()
  t.ok(first > 0 && first <= 7000, `${first} ms`)
  await beat(sql, host)
  await assertOwner(sql, row)
  const second = await limit()
  t.ok(second > first, `${second} ms after ${first} ms`)
})

story('every other process is rejected: old epoch, lease ended, freed, unknown', async (t, sql) => {
  const { row } = await owned(sql)
  const no = { code: 'MR005', hint: /stop without writing/i }
  await refused(t, sql, (sql) => assertOwner(sql, { ...row, epoch: '0' }), no, 'an old epoch')
  await refused(t, sql, (sql) => assertOwner(sql, { ...row, epoch: '2' }), no, 'a future one')
  await refused(t, sql, (sql) => assertOwner(sql, { id: '999999999', epoch: '1' }), no, 'unknown')
  await age(sql, 'host-a', '12.1 seconds ago')
  await refused(t, sql, (sql) => assertOwner(sql, row), no, 'the lease is over, the margin is not')
  await age(sql, 'host-a', '1 minute ago')
  await sql`select from mooring.reap()`
  await refused(t, sql, (sql) => assertOwner(sql, row), no, 'reaped')
  await refused(
    t,
    sql,
    (sql) => assertOwner(sql, { ...row, epoch: '2' }),
    no,
    'the epoch of a pending row has no owner',
  )
})

story(
  'an instance that was ordered to stop still owns its work until it is gone',
  async (t, sql) => {
    const { id, row } = await owned(sql)
    await sql`delete from mooring.deployment where id = ${id}`
    await assertOwner(sql, row)
    t.pass()
  },
)

/**
 * No worker has ever ticked. Otherwise the silence of half a lease would be an outage, in which a
 * reap frees nothing.
 */
const nobodyTicks = (sql: ISql) => sql`update mooring_internal.pulse set pulse_at = null`

void t.test(
  'while it is held reports and orders to stop pass, and only a change of owner waits',
  async (t) => {
    const pg = await testDatabase(t)
    const workload = pg.client()
    const { host, id, row } = await owned(pg.sql)
    await workload`begin`
    await assertOwner(workload, row)
    t.equal(await report(pg.sql, host, row, 'running', { pid: 1 }), true)
    await pg.sql`update mooring.deployment set enabled = false where id = ${id}`
    t.equal(await report(pg.sql, host, row, 'stopped'), null, 'locked: report it again')
    t.match((await assignments(pg.sql, id))[0], { node: 'host-a', wanted: 'stop', epoch: '1' })
    await workload`commit`
    t.equal(await report(pg.sql, host, row, 'stopped'), true)
  },
)

void t.test('a zombie that was cut off in the middle cannot stop the failover', async (t) => {
  const pg = await testDatabase(t)
  const zombie = pg.client()
  const { row } = await owned(pg.sql)
  await pg.sql`create table public.outcome (written_once text)`
  await nobodyTicks(pg.sql)
  const [{ pid }] = await zombie<[{ pid: number }]>`select pg_backend_pid() as pid`
  await zombie`begin`
  await age(pg.sql, 'host-a', '7 seconds ago')
  // in one message: it may not be idle in between
  await zombie.unsafe(
    `
      select mooring.assert_owner(${row.id}, ${row.epoch});
      insert into public.outcome values ('by the zombie')`,
  )
  await age(pg.sql, 'host-a', '1 minute ago')
  t.same([...(await pg.sql`select * from mooring.reap()`)], [], 'the row is left alone')
  t.match(await events(pg.sql, 'reap_blocked'), [
    {
      assignment_id: row.id,
      node: 'host-a',
      reason: `the row is locked by pid ${pid}`,
      detail: { pid },
    },
  ])
  const freed = await waitFor(async () => (await pg.sql`select id from mooring.reap()`)[0], {
    label: 'the server has ended the zombie with its lease',
    timeoutMs: 30_000,
    show: () =>
      pg.sql`select pid, state, query from pg_stat_activity where datname = current_database()`,
  })
  t.match(freed, { id: row.id })
  t.same([...(await pg.sql`select * from public.outcome`)], [], 'and what it wrote is undone')
})

void t.test('a zombie in the middle of a long statement cannot stop it either', async (t) => {
  const pg = await testDatabase(t)
  const zombie = pg.client()
  const { row } = await owned(pg.sql)
  await nobodyTicks(pg.sql)
  await zombie`begin`
  await age(pg.sql, 'host-a', '8 seconds ago')
  await t.rejects(
    zombie.unsafe(
      `
        select mooring.assert_owner(${row.id}, ${row.epoch});
        select pg_sleep(600)`,
    ),
    'the server ends it with its lease',
  )
  await age(pg.sql, 'host-a', '1 minute ago')
  t.match([...(await pg.sql`select id from mooring.reap()`)], [{ id: row.id }])
})

void t.test(
  'without its limits the zombie holds the failover up for as long as it lives',
  async (t) => {
    const pg = await testDatabase(t)
    const zombie = pg.client()
    const { row } = await owned(pg.sql)
    await nobodyTicks(pg.sql)
    await zombie`begin`
    await age(pg.sql, 'host-a', '8 seconds ago')
    // in one message: it may not be idle in between
    await zombie.unsafe(
      `
        select mooring.assert_owner(${row.id}, ${row.epoch});
        set local idle_in_transaction_session_timeout = 0;
        set local ${await timeLimit(pg.sql)} = 0`,
    )
    await age(pg.sql, 'host-a', '1 hour ago')
    t.same([...(await pg.sql`select * from mooring.reap()`)], [])
    await waitFor(
      async () =>
        (
          await pg.sql`
            select clock_timestamp() - state_change > interval '4.1 s' as late
              from pg_stat_activity
             where datname = current_database() and application_name = 'test: another session'`
        )[0]?.late,
      { label: 'the time is over', timeoutMs: 30_000 },
    )
    t.same([...(await pg.sql`select * from mooring.reap()`)], [])
    await zombie`rollback`
  },
)

story('a beat renews what it asks about', async (t, sql) => {
  const { host, row } = await owned(sql)
  await age(sql, 'host-a', '12.1 seconds ago')
  await beat(sql, host)
  await assertOwner(sql, row)
  t.pass()
})
