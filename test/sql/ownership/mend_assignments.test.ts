// Rounds find what no trigger saw to: each fault is what switched-off triggers, a partial restore
// or an edit by hand leaves behind.
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, node, report } from '../../helpers/factories.js'
import { claim, events, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const astray = async (sql: TransactionSql) =>
  (await sql<{ ids: string[] }[]>`select mooring_internal.inconsistent_deployments() as ids`)[0]!
    .ids
const short = async (sql: TransactionSql, id: string) =>
  (await assignments(sql, id))
    .sort((a, b) => a.ordinal! - b.ordinal!)
    .map(({ ordinal, node, wanted }) => `${ordinal} ${node ?? 'waits'} ${wanted}`)

async function behindTheTriggers(sql: TransactionSql, statement: string) {
  await sql`alter table mooring.deployment disable trigger user`
  await sql.unsafe(statement)
  await sql`alter table mooring.deployment enable trigger user`
}

/**
 * [what, what happens behind the triggers, replicas 0 and 1 afterwards, and after the round].
 * host-a has room for one: replica 0 runs, replica 1 is pending.
 */
const faults: [what: string, edit: string, before: string[], after: string[]][] = [
  [
    'a deployment that was disabled',
    'update mooring.deployment set enabled = false',
    ['0 host-a run', '1 waits run'],
    ['0 host-a stop', '1 waits stop'],
  ],
  [
    'a deployment that was deleted',
    'delete from mooring.deployment',
    ['0 host-a run', '1 waits run'],
    ['0 host-a stop'],
  ],
  [
    'a deployment that was scaled down',
    'update mooring.deployment set replicas = 0',
    ['0 host-a run', '1 waits run'],
    ['0 host-a stop'],
  ],
  [
    'a deployment that was scaled up',
    'update mooring.deployment set replicas = 3',
    ['0 host-a run', '1 waits run'],
    ['0 host-a run', '1 waits run', '2 waits run'],
  ],
  [
    'a row that was lost',
    'delete from mooring.assignment where ordinal = 1',
    ['0 host-a run'],
    ['0 host-a run', '1 waits run'],
  ],
  [
    'rows that were lost, and a scale-up',
    `
      delete from mooring.assignment where node_id is null;
      update mooring.deployment set replicas = 3`,
    ['0 host-a run'],
    ['0 host-a run', '1 waits run', '2 waits run'],
  ],
  [
    'a pending row that is ordered to stop',
    `update mooring.assignment set wanted = 'stop' where ordinal = 1`,
    ['0 host-a run', '1 waits stop'],
    ['0 host-a run', '1 waits run'],
  ],
]
for (const [what, edit, before, after] of faults) {
  story(`the evict round mends ${what}`, async (t, sql) => {
    await node(sql, { name: 'host-a', max_assignments: 1 })
    const id = await deployment(sql, { replicas: 2 })
    const healthy = await deployment(sql, { policy: 'none' })
    await claim(sql)
    t.same(await astray(sql), [], 'control')
    await behindTheTriggers(
      sql,
      edit
        .replace(/mooring.deployment( set [^;]*)?$/, (all) => `${all} where id = ${id}`)
        .replace(
          /mooring.assignment where (.*?)(;|$)/,
          `mooring.assignment where deployment_id = ${id} and $1$2`,
        ),
    )
    t.same(await short(sql, id), before)
    t.same(await astray(sql), [id])
    await sql`select from mooring.evict()`
    t.same(await short(sql, id), after)
    t.same(await astray(sql), [], 'once')
    t.same(await short(sql, healthy), ['0 waits run'])
  })
}

story('a row that is ordered to stop says why, and ends as usual', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const id = await deployment(sql)
  await claim(sql)
  await behindTheTriggers(sql, 'delete from mooring.deployment')
  await sql`select from mooring.evict()`
  t.match(await events(sql, 'stop_wanted'), [
    { reason: 'its deployment was deleted', node: 'host-a' },
  ])
  await report(sql, host, (await assignments(sql, id))[0]!, 'stopped')
  t.same(await assignments(sql), [])
})

story(
  'a spec that was edited behind the triggers decides where its work may run again',
  async (t, sql) => {
    const id = await deployment(sql)
    await behindTheTriggers(sql, `update mooring.deployment set pinned_node = 'host-b'`)
    t.same(await astray(sql), [id])
    await sql`select from mooring.evict()`
    await node(sql, { name: 'host-a' })
    t.same(await claim(sql), [], 'not to host-a')
  },
)

story(
  'a row that is moved, handed over, refused or leaving is not inconsistent',
  async (t, sql) => {
    const hosts = { 'host-a': await node(sql, { name: 'host-a' }) } as Record<
      string,
      Awaited<ReturnType<typeof node>>
    >
    await deployment(sql, { replicas: 2 })
    await deployment(sql, { on_lost: 'keep', handover: 'start-first' })
    const ending = [
      await deployment(sql),
      await deployment(sql),
      await deployment(sql, { replicas: 2 }),
    ]
    const refused = await deployment(sql)
    await deployment(sql, { type: 'daemon' })
    await claim(sql)
    for (const row of await assignments(sql))
      await report(
        sql,
        hosts[row.node!]!,
        row,
        row.deployment_id === refused ? 'refused' : 'running',
      )
    hosts['host-b'] = await node(sql, { name: 'host-b' })
    await sql`delete from mooring.deployment where id = ${ending[0]!}`
    await sql`update mooring.deployment set enabled = false where id = ${ending[1]!}`
    await sql`update mooring.deployment set replicas = 1 where id = ${ending[2]!}`
    await sql`select from mooring.drain_node('host-a')`
    await claim(sql)
    t.equal((await sql`select from mooring.assignment where handover = 'arriving'`).length, 1)
    t.ok((await sql`select from mooring.assignment where move_to is not null`).length > 1)
    t.same(await astray(sql), [])
  },
)

void t.test(
  'the round waits for no lock: a locked row is left for the next one, the rest is mended',
  async (t) => {
    const pg = await testDatabase(t)
    const [held, edited, free] = [
      await deployment(pg.sql),
      await deployment(pg.sql),
      await deployment(pg.sql),
    ]
    await pg.sql`update mooring.assignment set wanted = 'stop'`
    const psql = pg.client('psql')
    await psql`begin`
    await psql`select from mooring.assignment where deployment_id = ${held} for update`
    await psql`update mooring.deployment set name = 'edited' where id = ${edited}`
    await pg.sql`select from mooring.evict()`
    const wanted = async () =>
      Object.fromEntries((await assignments(pg.sql)).map((row) => [row.deployment_id, row.wanted]))
    t.same(await wanted(), { [held]: 'stop', [edited]: 'stop', [free]: 'run' })
    await psql`rollback`
    await pg.sql`select from mooring.evict()`
    t.same(await wanted(), { [held]: 'run', [edited]: 'run', [free]: 'run' })
  },
)
