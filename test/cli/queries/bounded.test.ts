/**
 * A question about one node, deployment or assignment reads what it is about, not the table. The
 * statistics of the transaction count sequential scans, also those inside functions.
 */
import t from 'tap'
import type { Sql, TransactionSql } from 'postgres'
import { EVENTS_LOOKED_AT } from '../../../cli/queries/events.js'
import { createQueries } from '../../../cli/queries/queries.js'
import type { Queries } from '../../../cli/queries/queries.js'
import { testDatabase } from '../../helpers/postgres.js'

const EVENTS = 300_000
const ASSIGNMENTS = 50_000
const NODES = 100

const LARGE = ['event', 'ownership', 'assignment', 'run', 'deployment']

/** As they lie after a month; without triggers, because only the size counts. */
async function fill(sql: Sql): Promise<void> {
  await sql.begin(async (sql) => {
    await sql`set local session_replication_role = replica`
    await sql`
      insert into mooring.node (name, trusts)
      select 'host-' || g, '.' from generate_series(1, ${NODES}::int) g`
    await sql`
      insert into mooring.heartbeat (node_id, node, session, session_at, beat_at, lease_ttl)
      select n.id, n.name, gen_random_uuid(), now(), now(), '12 s' from mooring.node n`
    await sql`
      insert into mooring.deployment (name, package_name)
      select 'web-' || g, 'http-server' from generate_series(1, ${ASSIGNMENTS}::int) g`
    await sql`
      insert into mooring.assignment
        (deployment_id, ordinal, signature, node_id, epoch, lease_ttl, assigned_at)
      select d.id, 0, d.signature, 1 + d.id % ${NODES}::int, 1, '12 s', now()
        from mooring.deployment d`
    await sql`
      insert into mooring.run (assignment_id, deployment_id, node_id, epoch, generation, state)
      select a.id, a.deployment_id, a.node_id, 1, 1, 'running' from mooring.assignment a`
    await sql`
      insert into mooring.ownership
        (assignment_id, epoch, deployment_id, node_id, node, began_at, reason)
      select a.id, e, a.deployment_id, a.node_id, 'host-' || a.node_id, now(), 'a test'
        from mooring.assignment a
       cross join generate_series(1, 2) e`
    await sql`
      insert into mooring.event
        (at, kind, assignment_id, deployment_id, node_id, node, actor, reason)
      select now() - (${EVENTS}::int - g) * interval '1 s'
              - case when g > ${EVENTS}::int - 3600 then interval '0' else interval '1 day' end,
          'claimed', g % ${ASSIGNMENTS}::int,
          g % ${ASSIGNMENTS}::int, 1 + g % ${NODES}::int, 'host-' || 1 + g % ${NODES}::int,
          'a test', 'a test'
        from generate_series(1, ${EVENTS}::int) g`
  })
  for (const table of [...LARGE, 'node', 'heartbeat']) await sql.unsafe(`analyze mooring.${table}`)
}

const undo = new Error('rolled back')

void t.test('no question about one thing reads a whole table', async (t) => {
  const pg = await testDatabase(t)
  await fill(pg.sql)
  const [one] = await pg.sql<{ id: string; deployment: string }[]>`
    select a.id, a.deployment_id as deployment from mooring.assignment a order by a.id limit 1`
  const { id, deployment } = one!
  const read = (sql: TransactionSql) => sql<{ name: string; scans: number; rows: number }[]>`
    select c.relname as name, pg_stat_get_xact_numscans(c.oid)::int as scans,
        pg_stat_get_xact_tuples_fetched(c.oid)::int as rows
      from pg_class c
     where c.relnamespace = 'mooring'::regnamespace and c.relname in ${sql(LARGE)}`
  /** The tables that are read as a whole. */
  const scannedBy = async (ask: (db: Queries, sql: TransactionSql) => PromiseLike<unknown>) => {
    let scanned: string[] = []
    await pg.sql
      .begin(async (sql) => {
        const before = await read(sql)
        await ask(createQueries(sql as unknown as Sql), sql)
        scanned = (await read(sql))
          .filter((after) => {
            const { scans, rows } = before.find(({ name }) => name === after.name)!
            return after.scans > scans || after.rows - rows > 1.2 * EVENTS_LOOKED_AT
          })
          .map(({ name }) => name)
        throw undo
      })
      .catch((error: unknown) => {
        if (error !== undo) throw error
      })
    return scanned
  }
  const questions: Record<string, (db: Queries, sql: TransactionSql) => PromiseLike<unknown>> = {
    'events of a node': (db) => db.events({ node: 'host-7' }, 50),
    'events of a node that has none': (db) => db.events({ node: 'host-0' }, 50),
    'events of a deployment': (db) => db.events({ deployment }, 50),
    'events of an assignment': (db) => db.events({ assignment: id }, 50),
    'events of a kind': (db) => db.events({ kinds: ['reaped'] }, 50),
    'events of half a day': (db) => db.events({ since: '12 hours' }, null),
    'events of a node in half a day': (db) =>
      db.events({ node: 'host-7', since: '12 hours' }, null),
    'events that follow': (db) => db.eventsAfter(5n, { node: 'host-7' }, 100),
    'a deleted deployment': (db) => db.deletedDeployment('shop'),
    'the last events': (db) => db.lastEvents(50),
    'the placement of an assignment': (db) => db.placementOfAssignment(id),
    'placements of a deployment, by name': (db) => db.placementsOfDeployment('web-7'),
    'placements of a deployment, by id': (db) => db.placementsOfDeployment(deployment),
    'assignments by id': (db) => db.assignments({ ids: [id] }),
    'assignments of deployments': (db) => db.assignments({ deployments: [deployment] }),
    'assignments of a node': (db) => db.assignments({ node: 'host-7' }),
    'a page of assignments': (db) => db.assignments({ limit: 100 }),
    'a deployment by name': (db) => db.deployments({ named: ['web-7'] }),
    'a deployment by id': (db) => db.deployments({ named: [deployment] }),
    'deployments by id': (db) => db.deployments({ ids: [deployment] }),
    'what waits of a deployment': (db) => db.unplacedOf(deployment),
    'instances of a deployment': (db) => db.instances([deployment], '2 s'),
    history: (db) => db.history(id),
    explain: (db) => db.explain(deployment),
    'placements_of()': (_, sql) => sql`select from mooring.placements_of('host-7')`,
    'placement of a node in psql': (_, sql) =>
      sql`select from mooring.placement where node = 'host-7'`,
  }
  for (const [what, ask] of Object.entries(questions)) t.same(await scannedBy(ask), [], what)
  t.same(
    await scannedBy((_, sql) => sql`select from mooring.event where node = 'host-0'`),
    ['event'],
    'negative control',
  )

  const db = createQueries(pg.sql)
  t.equal((await db.events({ since: '12 hours' }, null)).length, 3600, 'an age is found by halves')
  t.equal((await db.events({ node: 'host-7', since: '30 days' }, null)).length, EVENTS / NODES)
  t.ok((await db.eventsLookedBackTo())! < new Date(Date.now() - (EVENTS_LOOKED_AT - 60) * 1000))
  await pg.sql`
    insert into mooring.event (id, at, kind, deployment_id) overriding system value
    values (0, now() - interval '20 days', 'deployment_added', ${deployment})`
  t.equal(
    (await db.events({ deployment }, 50))[0]!.kind,
    'deployment_added',
    'what was done to a deployment is found, however old',
  )
})
