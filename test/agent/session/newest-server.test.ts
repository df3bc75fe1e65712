import { readFileSync, writeFileSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import t from 'tap'
import { createNewestServer } from '../../../agent/session/newest-server.js'
import { createAgentDb } from '../../../agent/session/verbs.js'
import { tempDir } from '../../helpers/processes.js'
import { aFleetOn } from '../../races/own-server.js'

const on = (timeline: number | null, system_identifier: string | null = '7') => ({
  system_identifier,
  database_oid: '1',
  port: 5432,
  timeline,
  standby: false,
})
const deposed = { code: 'DEPOSED_SERVER' }

t.test('an older timeline is believed no more once a newer one has answered', (t) => {
  const newest = createNewestServer(null)
  t.notOk(newest.check(on(2)), 'the first')
  t.notOk(newest.check(on(2)))
  t.ok(newest.check(on(3)), 'a newer one')
  t.throws(() => newest.check(on(2)), deposed)
  t.notOk(newest.check(on(3)))
  t.throws(() => newest.check({ ...on(3), standby: true }), deposed, 'a standby decides nothing')
  t.ok(newest.check(on(1, '8')), 'another cluster, as after pg_upgrade')
  t.end()
})

t.test('a server that does not tell is believed', (t) => {
  const newest = createNewestServer(null)
  newest.check(on(3))
  t.notOk(newest.check(on(null)))
  t.notOk(newest.check(on(1, null)))
  t.end()
})

t.test('a restarted agent knows it, and a damaged file is none', (t) => {
  const folder = tempDir(t, 'agent')
  createNewestServer(folder).check(on(3))
  t.throws(() => createNewestServer(folder).check(on(2)), deposed)
  const file = join(folder, 'newest-server.json')
  t.match(JSON.parse(readFileSync(file, 'utf8')), { timeline: 3 })
  writeFileSync(file, '{')
  t.notOk(createNewestServer(folder).check(on(2)))
  t.end()
})

t.test('two primaries at once: the agent that has seen the new one leaves the old', async (t) => {
  const { server, sql: before } = await aFleetOn(t)
  await before`insert into mooring.node (name) values ('host-a')`
  const { url, promote } = await server.copyAsStandby()
  await server.open('primary')
  const newestServer = createNewestServer(null)
  const agent = (databaseUrl: string) => {
    const db = createAgentDb({ databaseUrl, node: 'host-a', newestServer })
    t.teardown(db.close)
    return db
  }
  const [atOld, atNew] = [agent(server.url), agent(url)]
  const session = randomUUID()
  const description = {
    node: 'host-a',
    trusts: '.',
    drivers: ['npm'],
    labels: null,
    max_assignments: null,
    agent_base_url: null,
    gateway_base_url: null,
    version: '1.0.0',
    containment: 'process-group',
  }
  const none = { cpu_pct: null, memory_mb: null, disk_free_pct: null, disk_free_bytes: null }
  await t.rejects(atNew.assignmentsOf('host-a', session), 'a standby knows no session yet')
  await atOld.registerNode(description, session, null)
  t.match(await atOld.heartbeat('host-a', session, none, 0, 5_000), { owned: 0 })
  await promote()
  await atNew.registerNode(description, session, null)
  t.match(await atNew.heartbeat('host-a', session, none, 0, 5_000), { owned: 0 })
  await t.rejects(atOld.heartbeat('host-a', session, none, 0, 5_000), deposed)
  await t.rejects(atOld.assignmentsOf('host-a', session), deposed)
  await t.rejects(atOld.registerNode(description, session, null), deposed)
  t.same(await atNew.assignmentsOf('host-a', session), [])
})
