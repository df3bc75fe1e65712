/**
 * A workload writes to the same database what must be written once. Its host is cut off or paused
 * in the middle of the transaction, and comes back after another instance has started elsewhere.
 * The transaction goes on where it stopped, and writes beside the new owner.
 *
 * So the workload asserts its ownership inside the transaction, and the assertion holds: a change
 * of epoch waits for the transaction. But then the zombie could hold up the failover for ever.
 * Therefore the transaction may sit idle only as long as its lease runs. Meanwhile reap passes the
 * row by and names the holder. Nothing but a change of epoch waits: reports, stop orders and the
 * user's own delete go through.
 */
import t from 'tap'
import { waitFor } from '../helpers/wait-for.js'
import { age, assignments, beat, deployment, node, report } from '../helpers/factories.js'
import { activity, stage, waitsFor, type Stage } from './stage.js'

async function aWorkload(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql)
  await pg.sql`select mooring.claim()`
  const [row] = await assignments(pg.sql, id)
  await pg.sql`create table public.ledger (entry text, epoch bigint)`
  return {
    pg,
    hostA,
    id,
    row: row!,
    zombie: await pg.session('workload'),
    rounds: await pg.session('rounds'),
  }
}

const lastReapBlocked = async (pg: Stage) =>
  (
    await pg.sql<
      { assignment_id: string; reason: string; detail: { pid: number; pids: number[] } }[]
    >`
      select assignment_id, reason, detail
        from mooring.event
       where kind = 'reap_blocked'
       order by id desc
       limit 1`
  )[0]

t.test(
  'a reap passes by what a workload holds, names it, and takes it when the transaction is over',
  async (t) => {
    const { pg, id, row, zombie, rounds } = await aWorkload(t)
    await zombie.begin()
    await zombie.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
    await zombie.sql`insert into public.ledger values ('written once', ${row.epoch})`
    await age(pg.sql, 'host-a', '61 seconds ago')
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 0, 'it does not wait')
    t.match(await lastReapBlocked(pg), {
      assignment_id: row.id,
      reason: `the row is locked by pid ${zombie.pid}`,
      detail: { pid: zombie.pid },
    })
    t.match(await assignments(pg.sql, id), [{ node: 'host-a', epoch: '1' }])
    await zombie.commit()
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 1)
    t.match(
      await pg.sql`select * from public.ledger`,
      [{ epoch: '1' }],
      'what it wrote, it wrote as the owner',
    )
  },
)

t.test('of several connections of one workload each is named', async (t) => {
  const { pg, row, zombie, rounds } = await aWorkload(t)
  const second = await pg.session('second connection of the workload')
  for (const { sql } of [zombie, second]) {
    await sql`begin`
    await sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
  }
  await age(pg.sql, 'host-a', '61 seconds ago')
  t.equal((await rounds.sql`select * from mooring.reap()`).length, 0)
  t.same(new Set((await lastReapBlocked(pg))!.detail.pids), new Set([zombie.pid, second.pid]))
  await zombie.commit()
  t.equal((await rounds.sql`select * from mooring.reap()`).length, 0, 'the second still holds it')
  await second.commit()
  t.equal((await rounds.sql`select * from mooring.reap()`).length, 1)
})

t.test(
  'a forgotten prepared transaction is named as such, and a blocker is reported once a minute',
  async (t) => {
    const { pg, row, zombie, rounds } = await aWorkload(t)
    await zombie.begin()
    await zombie.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
    await zombie.sql.unsafe(`prepare transaction 'forgotten in ${pg.name}'`)
    await age(pg.sql, 'host-a', '61 seconds ago')
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 0)
    t.match(await lastReapBlocked(pg), {
      reason: 'the row is locked by a prepared transaction: see pg_prepared_xacts',
    })
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 0)
    t.equal((await pg.sql`select from mooring.event where kind = 'reap_blocked'`).length, 1)
    await pg.sql`update mooring.event set at = at - interval '61 s'`
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 0)
    t.equal((await pg.sql`select from mooring.event where kind = 'reap_blocked'`).length, 2)
    await pg.sql.unsafe(`rollback prepared 'forgotten in ${pg.name}'`)
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 1)
  },
)

t.test(
  'the server ends an idle zombie at the end of its lease, and the work goes on elsewhere',
  async (t) => {
    const { pg, id, row, zombie, rounds } = await aWorkload(t)
    await node(pg.sql, { name: 'host-b' })
    // No worker has ever ticked. Otherwise the silence of half a lease would be an outage, in which
    // a reap frees nothing.
    await pg.sql`update mooring_internal.pulse set pulse_at = null`
    await zombie.begin()
    // some seconds of the lease are left
    await age(pg.sql, 'host-a', '-7 seconds')
    // in one message: between two it would be idle
    await zombie.sql.unsafe(
      `
        select mooring.assert_owner(${row.id}, ${row.epoch});
        insert into public.ledger values ('written once', ${row.epoch})`,
    )
    await age(pg.sql, 'host-a', '61 seconds ago')
    await waitFor(async () => (await rounds.sql`select * from mooring.reap()`).length === 1, {
      label: 'the row is free',
      timeoutMs: 30_000,
      show: () => activity(pg.sql),
    })
    t.same(
      await pg.sql`select pid from pg_stat_activity where pid = ${zombie.pid}`,
      [],
      'the zombie was ended',
    )
    t.equal((await rounds.sql`select * from mooring.claim()`).length, 1)
    t.match(await assignments(pg.sql, id), [{ node: 'host-b', epoch: '3' }])
    t.same(await pg.sql`select * from public.ledger`, [], 'and what it had begun is undone')
  },
)

t.test(
  'the idle limit goes with the transaction, and a shorter one of the workload itself stays',
  async (t) => {
    const { row, zombie } = await aWorkload(t)
    const limit = async () =>
      (
        await zombie.sql<{ limit: string }[]>`
          select extract(
            epoch from current_setting('idle_in_transaction_session_timeout')::interval
          )::float8 as
           limit`
      )[0]!.limit
    await zombie.begin()
    await zombie.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
    t.ok(Number(await limit()) > 0 && Number(await limit()) <= 12)
    await zombie.commit()
    t.equal(Number(await limit()), 0)
    await zombie.sql`set idle_in_transaction_session_timeout = '5 s'`
    await zombie.begin()
    await zombie.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
    t.equal(Number(await limit()), 5)
  },
)

t.test(
  'a workload that asserts after the epoch has changed, or while it changes, is rejected',
  async (t) => {
    const { pg, row, zombie, rounds } = await aWorkload(t)
    await age(pg.sql, 'host-a', '61 seconds ago')
    const asserts = () =>
      zombie.start((sql) => sql`select mooring.assert_owner(${row.id}, ${row.epoch})`)
    await t.rejects(
      asserts().done,
      { code: 'MR005' },
      'its lease has ended, although no reap has come yet',
    )
    await rounds.begin()
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 1)
    const asserting = asserts()
    await waitsFor(t, pg, zombie, rounds)
    await rounds.commit()
    await t.rejects(asserting.done, { code: 'MR005' }, 'it waited for the reap, and lost')
    await node(pg.sql, { name: 'host-b' })
    t.equal((await rounds.sql`select * from mooring.claim()`).length, 1)
    await t.rejects(asserts().done, { code: 'MR005' }, "the work is another node's")
    await zombie.sql`select mooring.assert_owner(${row.id}, 3)`
    t.pass('the process whose token is good')
  },
)

t.test(
  'after a reap that is rolled back the lease decides: it is over until the next beat',
  async (t) => {
    const { pg, hostA, row, zombie, rounds } = await aWorkload(t)
    await age(pg.sql, 'host-a', '61 seconds ago')
    await rounds.begin()
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 1)
    const asserting = zombie.start(
      (sql) => sql`select mooring.assert_owner(${row.id}, ${row.epoch})`,
    )
    await waitsFor(t, pg, zombie, rounds)
    await rounds.rollback()
    await t.rejects(asserting.done, { code: 'MR005' })
    await beat(pg.sql, hostA)
    await zombie.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
  },
)

t.test(
  'during an assertion, reports, stop orders, evictions, edits and the delete go through',
  async (t) => {
    const { pg, hostA, id, row, zombie, rounds } = await aWorkload(t)
    await zombie.begin()
    await zombie.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
    await rounds.sql`select set_config('lock_timeout', '10 s', false)`
    t.equal(await report(rounds.sql, hostA, row, 'running', { pid: 4711 }), true)
    await rounds.sql`update mooring.deployment set env = '{"LEVEL": "debug"}' where id = ${id}`
    await rounds.sql`update mooring.node set trusts = 'nothing-of-the-kind' where name = 'host-a'`
    t.match(await assignments(pg.sql, id), [
      { wanted: 'stop', stop_reason: 'the node does not trust the package' },
    ])
    await rounds.sql`update mooring.deployment set enabled = false where id = ${id}`
    await rounds.sql`delete from mooring.deployment where id = ${id}`
    t.equal((await beat(rounds.sql, hostA)).owned, 1)
    t.equal(await report(rounds.sql, hostA, row, 'stopping'), true)
    t.equal(
      await report(rounds.sql, hostA, row, 'stopped'),
      null,
      'only the end of the ownership has to wait: to be reported again',
    )
    t.equal(
      await rounds.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`.then(
        () => 'still the owner',
      ),
      'still the owner',
    )
    await zombie.commit()
    t.equal(await report(rounds.sql, hostA, row, 'stopped'), true)
    t.same(await assignments(pg.sql, id), [])
  },
)

t.test(
  'an agent that leaves an open connection of its work leaves that row to the next reap',
  async (t) => {
    const { pg, hostA, id, row, zombie, rounds } = await aWorkload(t)
    await zombie.begin()
    await zombie.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
    t.match(await pg.sql`select mooring.leave(${hostA.name}, ${hostA.session})`, [{ leave: 0 }])
    t.match(await assignments(pg.sql, id), [{ node: 'host-a' }])
    await zombie.rollback()
    t.equal(
      (await rounds.sql`select * from mooring.reap()`).length,
      1,
      'at once: a node that has left runs nothing',
    )
  },
)

t.test(
  'negative control: an assertion that only reads lets the zombie write after the next owner began',
  async (t) => {
    const { pg, id, row, zombie, rounds } = await aWorkload(t)
    await node(pg.sql, { name: 'host-b' })
    await pg.sql
      .unsafe(`create or replace function mooring.assert_owner(assignment bigint, epoch bigint)
      returns void language plpgsql as $$
    begin
      if not exists (
        select from mooring.assignment a
         where a.id = assert_owner.assignment
           and a.epoch = assert_owner.epoch
           and a.node_id is not null) then
        raise exception using errcode = 'MR005', message = 'not the owner';
      end if;
    end; $$`)
    await zombie.begin()
    await zombie.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
    await age(pg.sql, 'host-a', '61 seconds ago')
    await rounds.sql`select * from mooring.reap()`
    await rounds.sql`select * from mooring.claim()`
    await rounds.sql`insert into public.ledger values ('written once', 3)`
    await zombie.sql`insert into public.ledger values ('written once', ${row.epoch})`
    await zombie.commit()
    t.match(await assignments(pg.sql, id), [{ node: 'host-b', epoch: '3' }])
    t.equal(
      (await pg.sql`select * from public.ledger`).length,
      2,
      'written twice, the second time by no owner',
    )
  },
)

t.test(
  'negative control: an assertion that holds without an end holds up the failover just as long',
  async (t) => {
    const { pg, row, zombie, rounds } = await aWorkload(t)
    await pg.sql
      .unsafe(`create or replace function mooring.assert_owner(assignment bigint, epoch bigint)
      returns void language plpgsql as $$
    begin
      perform from mooring.assignment a
        where a.id = assert_owner.assignment and a.epoch = assert_owner.epoch
          for key share;
    end; $$`)
    await zombie.begin()
    await zombie.sql`select mooring.assert_owner(${row.id}, ${row.epoch})`
    t.match(
      await zombie.sql`select current_setting('idle_in_transaction_session_timeout') as limit`,
      [{ limit: '0' }],
    )
    await age(pg.sql, 'host-a', '1 day ago')
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 0)
  },
)

t.test(
  'negative control: an assertion with a stronger lock makes a delete wait for the workload',
  async (t) => {
    const { pg, id, row, zombie } = await aWorkload(t)
    await zombie.begin()
    await zombie.sql`
      select from mooring.assignment where id = ${row.id} and epoch = ${row.epoch} for share`
    const psql = await pg.session('psql')
    const deleting = psql.start((sql) => sql`delete from mooring.deployment where id = ${id}`)
    await waitsFor(t, pg, psql, zombie)
    await zombie.commit()
    await deleting.done
  },
)
