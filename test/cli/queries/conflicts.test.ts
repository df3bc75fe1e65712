// Two commands that change the same deployments: neither waits for the other for ever, and what
// lost to another session is tried again.
import t from 'tap'
import type { Test } from 'tap'
import { connect } from '../../../cli/database.js'
import { createQueriesWithDeadline } from '../../../cli/queries/with-deadline.js'
import type { Queries } from '../../../cli/queries/queries.js'
import { deployment } from '../../helpers/factories.js'
import { stage } from '../../races/stage.js'
import { waitFor } from '../../helpers/wait-for.js'

async function twoDeployments(t: Test) {
  const pg = await stage(t)
  // the ids are in the other order than the names
  const b = await deployment(pg.sql, { name: 'b' })
  const a = await deployment(pg.sql, { name: 'a' })
  const asked = createQueriesWithDeadline(() => connect(pg.url))
  t.teardown(() => asked.close())
  return { ...pg, a, b, db: asked.db }
}

const EDITS: Record<string, (db: Queries, ids: string[]) => Promise<unknown>> = {
  apply: (db) =>
    db.apply(
      ['b', 'a'].map((name) => ({ name, command: 'sleep 1' })),
      { dryRun: false },
    ),
  enable: (db, ids) => db.enableDeployments(ids, false),
  scale: (db, ids) => db.scaleDeployments(ids, 3),
  renew: (db, ids) => db.renewDeployments(ids),
  delete: (db, ids) => db.deleteDeployments(ids),
}

for (const [what, edit] of Object.entries(EDITS)) {
  t.test(`${what} locks the first name first, in whatever order it is told`, async (t) => {
    const { a, b, db, sql, session } = await twoDeployments(t)
    const other = await session('other')
    await other.begin()
    await other.sql`select from mooring.deployment d where d.name = 'a' for update`
    const editing = edit(db, [b, a])
    await waitFor(
      async () =>
        (
          await sql`
            select from pg_stat_activity s where ${other.pid} = any (pg_blocking_pids(s.pid))`
        ).length > 0,
      { label: 'it waits for a' },
    )
    await other.sql`select from mooring.deployment d where d.name = 'b' for update nowait`
    await other.commit()
    await editing
  })

  for (const code of ['40P01', '40001'])
    t.test(`${what} that ends with ${code} is tried again, five times in all`, async (t) => {
      const { a, b, db, sql } = await twoDeployments(t)
      await sql.unsafe(`
        create sequence tries;
        create function lose() returns trigger language plpgsql as $$
          begin
            if nextval('tries') % 6 <> 3 then
              raise exception using errcode = '${code}', message = 'it lost';
            end if;
            return null;
          end $$;
        create trigger lose after update or delete on mooring.deployment
          for each statement execute function lose()`)
      // one name: apply has a statement for each
      await (what === 'apply'
        ? db.apply([{ name: 'b', command: 'sleep 1' }], { dryRun: false })
        : edit(db, [b, a]))
      t.equal((await sql`select last_value from tries`)[0]!['last_value'], '3')
      await sql`select setval('tries', 3)`
      await t.rejects(edit(db, [b, a]), { code }, 'it ends some time')
      t.equal((await sql`select last_value from tries`)[0]!['last_value'], '8')
    })
}

t.test('applying what is so already uses up no id', async (t) => {
  const { b, db } = await twoDeployments(t)
  for (let time = 0; time < 5; time++)
    await db.apply([{ name: 'b', command: `sleep ${time}` }], { dryRun: false })
  const [known, made] = await db.apply(
    ['b', 'c'].map((name) => ({ name, command: 'sleep 4' })),
    { dryRun: false },
  )
  t.match(known, { id: b, name: 'b', outcome: 'unchanged' })
  t.match(made, { id: String(Number(b) + 2), name: 'c', outcome: 'created' })
})
