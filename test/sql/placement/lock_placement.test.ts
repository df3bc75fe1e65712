import t from 'tap'
import type { ISql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'
import { assignments, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, loads, patient } from '../story.js'

const waiting = (sql: ISql, n = 1) =>
  waitFor(
    async () =>
      (
        await sql`
          select 1
            from pg_locks
           where locktype = 'advisory'
             and not granted
             and database = (select oid from pg_database where datname = current_database())`
      ).length >= n,
    {
      label: `${n} wait for the placement lock`,
      show: () =>
        sql`select pid, state, query from pg_stat_activity where datname = current_database()`,
    },
  )

void t.test(
  'one places, one waits and observes what came meanwhile, every other session returns',
  async (t) => {
    const { sql, client } = await testDatabase(t)
    await patient(sql)
    await node(sql, { name: 'host-a' })
    await deployments(sql, 3)
    const [first, second] = [client(), client()]
    await first`begin`
    t.equal((await claim(first)).length, 3)
    const answer = claim(second)
    await waiting(sql)
    await deployments(sql, 2)
    t.same(await claim(sql), [], 'the third need not wait: the second will see its rows')
    await first`commit`
    t.equal((await answer).length, 2)
    t.same(await loads(sql), { 'host-a': 5 })
  },
)

void t.test('a psql that forgot its claim is named, and ended by the server', async (t) => {
  const { sql, client } = await testDatabase(t)
  await sql`update mooring.setting set placement_lock_timeout = '300 ms'`
  await node(sql, { name: 'host-a' })
  await deployment(sql)
  const waits = await deployment(sql, { policy: 'none' })
  const psql = client('forgotten psql')
  const [{ pid }] = (await psql`select pg_backend_pid() as pid`) as unknown as [{ pid: number }]
  await psql`begin`
  // else the server ends it before the other one loses its patience; in one message, for it may not
  // be idle in between either
  await psql.unsafe(
    'select from mooring.claim(); set local idle_in_transaction_session_timeout = 0',
  )
  const [fleet] = await sql`select placement_lock_holder from mooring.fleet`
  t.same(fleet, { placement_lock_holder: pid })
  await t.rejects(claim(sql), {
    code: 'MR004',
    detail: `pid ${pid} holds it`,
    hint: new RegExp(`pg_terminate_backend\\(${pid}\\)`),
  })
  await t.rejects(
    sql`
      update mooring.assignment
         set node_id = (select id from mooring.node)
       where deployment_id = ${waits}`,
    { code: 'MR004' },
    'a verb that places by hand waits too',
  )
  await psql`rollback`
  await psql`begin`
  await claim(psql)
  t.equal(
    await waitFor(async () => (await claim(sql)).length, {
      label: 'the server ended the forgotten transaction',
    }),
    1,
  )
  t.equal((await assignments(sql))[0]!.epoch, '1')
})

void t.test(
  'after a claim that waited the session has its own lock_timeout again, and no lock',
  async (t) => {
    const { sql, client } = await testDatabase(t)
    await patient(sql)
    const [first, second] = [client(), client()]
    await first`begin`
    await claim(first)
    await second`set lock_timeout = '7 s'`
    await second`begin`
    const answer = claim(second)
    await waiting(sql)
    await first`commit`
    await answer
    const [row] = await second`select current_setting('lock_timeout') as timeout`
    t.same(row, { timeout: '7s' })
    await second`commit`
    const held = await sql`
        select *
          from pg_locks
         where locktype = 'advisory'
           and database = (select oid from pg_database where datname = current_database())`
    t.same([...held], [])
  },
)

void t.test('a claim that gave up waiting leaves nothing behind', async (t) => {
  const { sql, client } = await testDatabase(t)
  await sql`update mooring.setting set placement_lock_timeout = '50 ms'`
  const [first, second] = [client(), client()]
  await first`begin`
  await first.unsafe(
    'select from mooring.claim(); set local idle_in_transaction_session_timeout = 0',
  )
  for (let n = 0; n < 3; n++)
    await t.rejects(claim(second), { code: 'MR004' }, 'not "another session waits already"')
  await first`rollback`
  await node(sql)
  await deployment(sql)
  t.equal((await claim(second)).length, 1)
})

void t.test(
  'a delete of a node waits for the claim, even behind a waiting one, and then is refused',
  async (t) => {
    const { sql, client } = await testDatabase(t)
    await patient(sql)
    await node(sql, { name: 'host-a' })
    await deployment(sql)
    const [first, second, third] = [client(), client(), client()]
    await first`begin`
    await claim(first)
    const answer = claim(second)
    await waiting(sql)
    const deleted = third`delete from mooring.node`.then(
      () => 'deleted',
      (error: { code: string }) => error.code,
    )
    await waiting(sql, 2)
    await first`commit`
    await answer
    t.equal(await deleted, 'MR006', 'it owns one now')
  },
)

void t.test(
  'a claim does not wait for locked rows, it leaves them for the next round',
  async (t) => {
    const { sql, client } = await testDatabase(t)
    await node(sql)
    const [held] = await deployments(sql, 3)
    const other = client()
    await other`begin`
    await other`select from mooring.assignment where deployment_id = ${held!} for update`
    t.equal((await claim(sql)).length, 2)
    await other`commit`
    t.equal((await claim(sql)).length, 1)
  },
)

void t.test(
  'a deployment edited or disabled while a long claim runs is not placed under its old spec',
  async (t) => {
    const { sql, client } = await testDatabase(t)
    await sql`update mooring.setting set claim_window = 50`
    await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b', labels: { zone: 'b' } })
    await sql`
      insert into mooring.deployment (package_name, selector, updated_at)
      select 'http-server', case i % 3 when 0 then '{"zone": "b"}'::jsonb else '{}' end,
             now() - interval '1 hour' + i * interval '1 ms'
        from generate_series(1, 3000) i`
    const ids = (
      await sql<{ id: string }[]>`select id from mooring.deployment order by id desc`
    ).map(({ id }) => id)
    const placing = claim(client())
    let over = false
    void placing.finally(() => (over = true)).catch(() => {})
    let edits = 0
    while (!over && edits < ids.length) {
      const id = ids[edits++]!
      if (edits % 2) await sql`update mooring.deployment set enabled = false where id = ${id}`
      else
        await sql`
          update mooring.deployment
             set selector = '{"zone": "b"}', env = '{"A": "1"}'
           where id = ${id}`
    }
    await placing // a row that changed its kind in the middle is no error
    await claim(sql)
    await sql`select from mooring.evict()`
    const wrong = await sql`
      select p.assignment_id
        from mooring.placement p
        join mooring.deployment d on d.id = p.deployment_id
       where p.wanted = 'run' and (not d.enabled or d.selector <> '{}' and p.node = 'host-a')`
    t.same([...wrong], [], `after ${edits} edits`)
  },
)

void t.test(
  'what was placed waits for the disk, whatever the session or the database prefers',
  async (t) => {
    const { sql, client, name } = await testDatabase(t)
    for (const [ofDatabase, placing] of [
      ['local', 'local'],
      ['off', 'on'],
    ] as const) {
      await sql.unsafe(`alter database ${name} set synchronous_commit = ${ofDatabase}`)
      const worker = client('worker')
      await worker`set synchronous_commit = off`
      await worker`begin`
      await worker`select mooring_internal.lock_placement()`
      t.same(
        [...(await worker`show synchronous_commit`)],
        [{ synchronous_commit: placing }],
        `of a database with ${ofDatabase}`,
      )
      await worker`commit`
      t.same(
        [...(await worker`show synchronous_commit`)],
        [{ synchronous_commit: 'off' }],
        'and no longer than for that transaction',
      )
    }
  },
)
