/**
 * A repeatable read session observes the rows as they were when it began, also inside Mooring's
 * triggers. A decision from that snapshot may be long out of date. A deployment that was placed a
 * moment ago looks pending, and switching it off would stop nothing.
 *
 * Where a decision has to be up to date, one of two holds. The row lock notices, and the user's
 * transaction fails to serialise, as any of its kind may. Or the verb refuses the level.
 */
import t from 'tap'
import { age, assignments, deployment, node, report } from '../helpers/factories.js'
import { stage } from './stage.js'

async function anOldSnapshot(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql)
  const psql = await pg.session('psql')
  await psql.sql`begin isolation level repeatable read`
  await psql.sql`select count(*) from mooring.deployment`
  return { pg, hostA, id, psql }
}

for (const [what, edit] of [
  ['switched off', 'update mooring.deployment set enabled = false'],
  ['scaled down', 'update mooring.deployment set replicas = 0'],
  ['deleted', 'delete from mooring.deployment'],
] as const) {
  t.test(
    `what was placed since the snapshot cannot be ${what} as if it still waited`,
    async (t) => {
      const { pg, id, psql } = await anOldSnapshot(t)
      t.equal((await pg.sql`select * from mooring.claim()`).length, 1)
      await t.rejects(psql.sql.unsafe(edit), { code: '40001' })
      await psql.rollback()
      await psql.sql.unsafe(edit)
      t.match(
        await assignments(pg.sql, id),
        [{ node: 'host-a', wanted: 'stop' }],
        'the second try sees it',
      )
    },
  )
}

t.test(
  'a replica that got a successor since the snapshot cannot be deleted as if it were alone',
  async (t) => {
    const { pg, hostA, id, psql } = await anOldSnapshot(t)
    await psql.rollback()
    await pg.sql`update mooring.deployment set on_lost = 'keep', handover = 'start-first'`
    await pg.sql`select * from mooring.claim()`
    await report(pg.sql, hostA, (await assignments(pg.sql, id))[0]!, 'running')
    await node(pg.sql, { name: 'host-b' })
    await psql.sql`begin isolation level repeatable read`
    await psql.sql`select count(*) from mooring.deployment`
    await pg.sql`select mooring.reassign(id, 'host-b') from mooring.assignment`
    t.equal((await assignments(pg.sql, id)).length, 2)
    await t.rejects(psql.sql`delete from mooring.deployment`, { code: '40001' })
    await psql.rollback()
    await psql.sql`delete from mooring.deployment`
    t.match(
      await assignments(pg.sql, id),
      [{ wanted: 'stop' }, { wanted: 'stop' }],
      'the second try sees both',
    )
  },
)

t.test('inserts are welcome at any level', async (t) => {
  const { pg, psql } = await anOldSnapshot(t)
  await deployment(psql.sql)
  await psql.commit()
  await psql.sql`begin isolation level serializable`
  await deployment(psql.sql)
  await psql.commit()
  t.equal((await pg.sql`select * from mooring.claim()`).length, 3)
})

t.test('verbs that decide from what they read refuse', async (t) => {
  const { pg, hostA, id, psql } = await anOldSnapshot(t)
  await pg.sql`select * from mooring.claim()`
  await pg.sql`update mooring.deployment set enabled = false where id = ${id}`
  const [row] = await assignments(pg.sql, id)
  await age(pg.sql, 'host-a', '61 seconds ago')
  for (const verb of [
    (sql: typeof psql.sql) => sql`select * from mooring.claim()`,
    (sql: typeof psql.sql) => sql`select * from mooring.reap()`,
    (sql: typeof psql.sql) => report(sql, hostA, row!, 'stopped'),
    (sql: typeof psql.sql) => sql`select mooring.leave(${hostA.name}, ${hostA.session})`,
    (sql: typeof psql.sql) => sql`select * from mooring.heartbeat(${hostA.name}, ${hostA.session})`,
  ]) {
    await psql.rollback()
    await psql.sql`begin isolation level repeatable read`
    await t.rejects(Promise.resolve(verb(psql.sql)), { code: 'MR008' })
  }
})

t.test('an assertion under repeatable read holds, or fails to serialise', async (t) => {
  const { pg, psql, id } = await anOldSnapshot(t)
  t.equal((await pg.sql`select * from mooring.claim()`).length, 1)
  await psql.rollback()
  const [row] = await assignments(pg.sql, id)
  await psql.sql`begin isolation level repeatable read`
  await psql.sql`select count(*) from mooring.deployment`
  await psql.sql`select mooring.assert_owner(${row!.id}, ${row!.epoch})`
  await psql.commit()
  await psql.sql`begin isolation level repeatable read`
  await psql.sql`select count(*) from mooring.deployment`
  await age(pg.sql, 'host-a', '61 seconds ago')
  t.equal((await pg.sql`select * from mooring.reap()`).length, 1)
  await t.rejects(psql.sql`select mooring.assert_owner(${row!.id}, ${row!.epoch})`, {
    code: '40001',
  })
})
