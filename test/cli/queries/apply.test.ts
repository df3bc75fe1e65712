// What apply says it changes, in a dry run as in earnest, and what it deletes.
import t from 'tap'
import type { Test } from 'tap'
import { createQueries } from '../../../cli/queries/queries.js'
import type { Requirement } from '../../../cli/queries/labels.js'
import { assignments, deployment, node, report } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'

const SHOP: Requirement[] = [{ key: 'app', op: 'is', value: 'shop' }]
const WEB = {
  name: 'web',
  package_name: 'http-server',
  package_version: '14.1.1',
  labels: { app: 'shop', team: 'x' },
  env: { TOKEN: 'hunter2', PORT: '80', OLD: '1' },
}

/** Three of web and one of old run on two nodes; rack a is host-a's. */
async function shop(t: Test) {
  const pg = await testDatabase(t)
  await pg.sql`update mooring.setting set lease_ttl = '1 hour'`
  const hosts = [
    await node(pg.sql, { name: 'host-a', labels: { rack: 'a' } }),
    await node(pg.sql, { name: 'host-b' }),
  ]
  const db = createQueries(pg.sql)
  await db.apply([{ ...WEB, replicas: 3 }], { dryRun: false })
  await deployment(pg.sql, { name: 'old', labels: { app: 'shop' } })
  await pg.sql`select count(*) from mooring.claim()`
  for (const row of await assignments(pg.sql))
    await report(
      pg.sql,
      hosts.find(({ name }) => name === row.node)!,
      row,
      'running',
      { pid: 7 },
    )
  const names = async () =>
    (await pg.sql<{ name: string }[]>`select d.name from mooring.deployment d order by d.id`).map(
      (row) => row.name,
    )
  return { ...pg, db, names }
}

t.test('a dry run says what earnest says, and leaves everything as it is', async (t) => {
  const { sql, db } = await shop(t)
  const specs = [
    { name: 'new', command: 'sleep 1', replicas: 2 },
    { name: 'watch', command: 'sleep 1', type: 'daemon' as const },
    {
      ...WEB,
      package_version: '14.1.0',
      labels: { app: 'shop', tier: 'front' },
      env: { TOKEN: 'hunter3', PORT: '80', NEW: 'hunter4' },
      stop_grace: '5 s',
    },
  ]
  const everything = async () => [
    await sql`select to_jsonb(d) as row from mooring.deployment d order by d.id`,
    await sql`select to_jsonb(a) as row from mooring.assignment a order by a.id`,
    await sql`
      select pg_sequence_last_value(pg_get_serial_sequence('mooring.deployment', 'id')),
          pg_sequence_last_value(pg_get_serial_sequence('mooring.assignment', 'id'))`,
  ]
  const before = await everything()
  const told = await db.apply(specs, { dryRun: true })
  t.same(await everything(), before, 'no id is used up either')
  t.match(told, [
    { id: '', name: 'new', outcome: 'created', changes: [], restarts: 0, stops: 0 },
    { id: '', name: 'watch', outcome: 'created' },
    { name: 'web', outcome: 'changed', restarts: 3, stops: 0 },
  ])
  t.same(told[2]!.changes, [
    { field: 'labels.team', change: 'removed', from: 'x' },
    { field: 'labels.tier', change: 'added', to: 'front' },
    { field: 'package_version', change: 'changed', from: '14.1.1', to: '14.1.0' },
    { field: 'env.NEW', change: 'added' },
    { field: 'env.OLD', change: 'removed' },
    { field: 'env.TOKEN', change: 'changed' },
    { field: 'stop_grace', change: 'changed', from: '00:00:10', to: '00:00:05' },
  ])
  const done = await db.apply(specs, { dryRun: false })
  t.same(
    done.map((row) => ({ ...row, id: '' })),
    told.map((row) => ({ ...row, id: '' })),
  )
  t.match(await db.apply(specs, { dryRun: false }), [
    { outcome: 'unchanged', changes: [], restarts: 0 },
    { outcome: 'unchanged' },
    { outcome: 'unchanged' },
  ])
})

t.test(
  'what would stop is counted: fewer replicas, a disabled deployment, a deleted one',
  async (t) => {
    const { db } = await shop(t)
    const dry = async (spec: object, prune?: Requirement[]) =>
      (await db.apply([{ ...WEB, ...spec }], { dryRun: true, prune })).map(
        ({ name, outcome, restarts, stops }) => [name, outcome, restarts, stops],
      )
    t.same(await dry({ replicas: 1 }), [['web', 'changed', 0, 2]])
    t.same(await dry({ enabled: false }), [['web', 'changed', 0, 3]])
    t.same(
      await dry({ replicas: 1, args: ['x'] }),
      [['web', 'changed', 1, 2]],
      'what stops is not restarted',
    )
    t.same(await dry({}, SHOP), [
      ['web', 'unchanged', 0, 0],
      ['old', 'deleted', 0, 1],
    ])
  },
)

t.test('prune deletes by label what the file does not name, and nothing else', async (t) => {
  const { sql, db, names } = await shop(t)
  await deployment(sql, { name: 'other', labels: { app: 'blog' } })
  await deployment(sql, { labels: { app: 'shop' } })
  t.match(await db.apply([WEB], { dryRun: false, prune: SHOP }), [
    { name: 'web', outcome: 'unchanged' },
    { name: 'old', outcome: 'deleted', stops: 1 },
  ])
  t.same(await names(), ['web', 'other', null], 'what has no name came from no file')
  await t.rejects(
    db.apply([WEB, { name: 'bare', command: 'sleep 1' }], { dryRun: false, prune: SHOP }),
    { exitCode: 2, message: /bare of the file without the labels app=shop/ },
    'the next prune would delete it',
  )
  t.same(await names(), ['web', 'other', null], 'all of it or nothing')
})
