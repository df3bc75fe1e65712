/**
 * A user deletes a deployment and inserts it again under the same id, as dumps and sync scripts do,
 * while a host runs it. If its assignment went with the deployment, the new row would know nothing
 * of the process that still runs. It would be placed on another host at once. Two instances would
 * run until the first host has heard of it, or for ever if it never does.
 *
 * So an owned assignment outlives its deployment, the new deployment adopts it, and the epoch goes
 * on.
 */
import t from 'tap'
import { age, assignments, deployment, node, report } from '../helpers/factories.js'
import { gateBefore, stage, waitsFor } from './stage.js'

async function oneThatRuns(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const id = await deployment(pg.sql)
  await pg.sql`select mooring.claim()`
  const [row] = await assignments(pg.sql, id)
  t.equal(await report(pg.sql, hostA, row!, 'running', { pid: 4711 }), true)
  await node(pg.sql, { name: 'host-b' })
  return {
    pg,
    hostA,
    id,
    row: row!,
    psql: await pg.session('psql'),
    claim: async () => (await pg.sql`select * from mooring.claim()`).length,
  }
}

for (const inOneTransaction of [true, false]) {
  t.test(
    `inserted again (${inOneTransaction ? 'in one transaction' : 'in two'}) it ` +
      'waits for its process',
    async (t) => {
      const { pg, hostA, id, row, psql, claim } = await oneThatRuns(t)
      if (inOneTransaction) await psql.begin()
      await psql.sql`delete from mooring.deployment where id = ${id}`
      if (!inOneTransaction) t.equal(await claim(), 0)
      await deployment(psql.sql, { id, package_version: '14.1.0' })
      if (inOneTransaction) {
        t.equal(await claim(), 0, 'nothing to place before the commit')
        await psql.commit()
      }
      t.equal(await claim(), 0, 'and nothing after it')
      t.match(
        await assignments(pg.sql, id),
        [{ id: row.id, node: 'host-a', epoch: '1', wanted: 'stop' }],
        'host-a is ordered to stop and keeps its row',
      )
      t.equal(await report(pg.sql, hostA, row, 'stopped'), true)
      t.match(
        await assignments(pg.sql, id),
        [{ id: row.id, node: null, epoch: '2', wanted: 'run' }],
        'its processes are gone: the new deployment waits under the same row',
      )
      t.equal(await claim(), 1)
      t.match(await assignments(pg.sql, id), [{ id: row.id, epoch: '3', wanted: 'run' }])
    },
  )
}

t.test(
  'a host that never stops it keeps it from running twice until its lease is over',
  async (t) => {
    const { pg, id, row, psql, claim } = await oneThatRuns(t)
    await psql.sql`delete from mooring.deployment where id = ${id}`
    await deployment(psql.sql, { id })
    await pg.sql`update mooring.setting set reap_margin = '1 min'`
    await age(pg.sql, 'host-a', '30 seconds ago')
    await pg.sql`select mooring.reap()`
    t.equal(await claim(), 0, 'lease over, margin not')
    await age(pg.sql, 'host-a', '73 seconds ago')
    await pg.sql`select mooring.reap()`
    t.equal(await claim(), 1)
    t.match(await assignments(pg.sql, id), [{ id: row.id, node: 'host-b', epoch: '3' }])
  },
)

t.test(
  'the report that it has stopped, while the delete is not yet committed, is to be repeated',
  async (t) => {
    const { pg, hostA, id, row, psql, claim } = await oneThatRuns(t)
    await pg.sql`update mooring.deployment set enabled = false where id = ${id}`
    await psql.begin()
    await psql.sql`delete from mooring.deployment where id = ${id}`
    await deployment(psql.sql, { id })
    t.equal(await report(pg.sql, hostA, row, 'stopped'), null, 'no session waits for psql')
    t.match(await assignments(pg.sql, id), [{ node: 'host-a', epoch: '1' }])
    await psql.commit()
    t.equal(await report(pg.sql, hostA, row, 'stopped'), true)
    t.match(
      await assignments(pg.sql, id),
      [{ id: row.id, node: null, epoch: '2', wanted: 'run' }],
      'the new one is enabled',
    )
    t.equal(await claim(), 1)
  },
)

t.test(
  'inserted again while its last instance ends: its row is made again, none is lost, none is left',
  async (t) => {
    const { pg, hostA, id, row, psql, claim } = await oneThatRuns(t)
    await pg.sql`delete from mooring.deployment where id = ${id}`
    const agent = await pg.session('agent of host-a')
    // the report has locked the row and is about to read the deployment
    const gate = await gateBefore(
      pg,
      'release',
      '-- the deployments are read by a new statement, after the lock',
    )
    await gate.stopHere(agent)
    const reporting = agent.start(
      (sql) => sql`
        select accepted
          from mooring.report(
            ${hostA.name}, ${hostA.session},
            ${sql.json([
              {
                assignment_id: row.id,
                epoch: row.epoch,
                generation: '1',
                state: 'stopped',
              },
            ])}
          )`,
    )
    await waitsFor(t, pg, agent, gate.session)
    const inserting = psql.start(
      (sql) =>
        sql`
          insert into mooring.deployment (id, package_name, package_version)
          values (${id}, 'http-server', '14.1.1')`,
    )
    await waitsFor(t, pg, psql, agent)
    await gate.open()
    t.match(await reporting.done, [{ accepted: true }])
    await inserting.done
    const [made, ...more] = await assignments(pg.sql, id)
    t.same(more, [])
    t.match(made, { node: null, wanted: 'run' })
    t.not(made!.id, row.id, 'a new row: the old token can never match it')
    t.equal(await claim(), 1)
  },
)

t.test(
  'negative control: when its rows go with the deployment, a second instance starts beside it',
  async (t) => {
    const { pg, hostA, id, row, psql, claim } = await oneThatRuns(t)
    await pg.sql
      .unsafe(`create or replace function mooring_internal.tg_deployment__end() returns trigger
      language plpgsql as $$
    begin
      perform set_config('mooring.owner_is_done', 'yes', true);
      delete from mooring.assignment a using old_deployment o where a.deployment_id = o.id;
      return null;
    end; $$`)
    await psql.sql`delete from mooring.deployment where id = ${id}`
    await deployment(psql.sql, { id })
    t.equal(await claim(), 1, 'placed at once, without a stop of host-a')
    const [second] = await assignments(pg.sql, id)
    t.not(second!.id, row.id)
    t.equal(
      await report(pg.sql, hostA, row, 'running', { pid: 4711 }),
      false,
      'host-a still runs it, and learns only now that it should not',
    )
  },
)
