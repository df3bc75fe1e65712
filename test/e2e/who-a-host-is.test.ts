/**
 * No process runs twice on a host, and none is ended by an agent that has no right to: whatever
 * folder an agent is started with, and whatever database it is pointed to.
 */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { Sql } from 'postgres'
import { placements, running } from '../agent/fleet.js'
import { deadPort } from '../helpers/dead-port.js'
import { deployment } from '../helpers/factories.js'
import { testDatabase } from '../helpers/postgres.js'
import { tempDir } from '../helpers/processes.js'
import { waitFor } from '../helpers/wait-for.js'
import { alive, hosts, live, PATIENCE_MS, processes, shortLeases } from './hosts.js'

/** A host with a daemon, work that is kept and work that is stopped without the database. */
async function aHost(t: Test, lease = '10 s') {
  const { url, sql } = await testDatabase(t)
  await shortLeases(sql, lease)
  const fleet = hosts(t, url)
  fleet.worker()
  const first = fleet.agent('host-a')
  await live(sql, 'host-a')
  const command = { command: 'sleep', args: ['1000'] }
  await deployment(sql, { type: 'daemon', ...command })
  await deployment(sql, { on_lost: 'keep', ...command })
  await deployment(sql, command)
  const before = await running(sql, 3, PATIENCE_MS)
  return { url, sql, ...fleet, first, before }
}

/** host-a has gone on beating for so long. */
async function beatsFor(sql: Sql, interval: string): Promise<void> {
  const [{ until }] = await sql<
    [{ until: Date }]
  >`select clock_timestamp() + ${interval}::interval as until`
  await waitFor(
    async () =>
      (await sql`select from mooring.heartbeat h where h.node = 'host-a' and h.beat_at > ${until}`)
        .length === 1,
    { label: `host-a beats for ${interval}`, timeoutMs: PATIENCE_MS },
  )
}

t.test('killed, and started again with another folder: nothing runs twice', async (t) => {
  const { sql, agent, first, before } = await aHost(t)
  first.kill('SIGKILL')
  await first.exited
  agent('host-a', { state: tempDir(t, 'elsewhere') })
  const after = await waitFor(
    async () => {
      const rows = (await placements(sql)).filter(
        ({ run_state, pid }) =>
          run_state === 'running' && alive(pid) && !before.some((row) => row.pid === pid),
      )
      return rows.length === 3 ? rows : null
    },
    { label: 'all three run under the second agent', timeoutMs: PATIENCE_MS },
  )
  t.same(
    before.filter(({ pid }) => alive(pid)),
    [],
    'nothing of before lives beside them',
  )
  t.ok(after.every(({ pid }) => alive(pid)))
})

t.test('a second agent over a copy of the folder ends nothing of the living one', async (t) => {
  const { sql, agent, first, before } = await aHost(t)
  const copy = tempDir(t, 'copy')
  cpSync(join(first.folder, '..', '..'), copy, {
    recursive: true,
    filter: (path) => !path.endsWith('.sock'),
  })
  const second = agent('host-a', { state: copy })
  await second.said('"name_taken"', PATIENCE_MS)
  await beatsFor(sql, '2 s')
  t.same(processes(await running(sql, 3, PATIENCE_MS)), processes(before))
  t.ok(before.every(({ pid }) => alive(pid)))
  second.kill('SIGTERM')
  await second.exited
  t.ok(before.every(({ pid }) => alive(pid)))
})

t.test('an agent with a wrong address ends nothing of before', async (t) => {
  const { agent, first, before, url } = await aHost(t, '60 s')
  first.kill('SIGKILL')
  await first.exited
  const databaseUrl = Object.assign(new URL(url), { port: String(await deadPort()) }).href
  const wrong = agent('host-a', { databaseUrl })
  await wrong.said('"database_away"', PATIENCE_MS)
  t.ok(before.every(({ pid }) => alive(pid)))
  wrong.kill('SIGKILL')
  await wrong.exited
  t.ok(before.every(({ pid }) => alive(pid)))
})

for (const [what, broken] of [
  ['does not answer', async (url: URL) => (url.port = String(await deadPort()))],
  ['refuses it', async (url: URL) => (url.password = 'wrong')],
] as const)
  t.test(`--handover to an agent whose database ${what}: the old one goes on`, async (t) => {
    const { sql, agent, first, before, url } = await aHost(t)
    const databaseUrl = new URL(url)
    await broken(databaseUrl)
    const second = agent('host-a', { databaseUrl: databaseUrl.href, args: ['--handover'] })
    await Promise.race([second.said(/"database_(away|unfit)"/, PATIENCE_MS), second.exited])
    // longer than a lease: an agent that had gone would have taken its work with it
    await beatsFor(sql, '12 s')
    t.same(processes(await running(sql, 3, PATIENCE_MS)), processes(before))
    t.equal(first.events('agent_handed_over').length, 0)
    second.kill('SIGTERM')
    await second.exited
    t.ok(before.every(({ pid }) => alive(pid)))

    const third = agent('host-a', { args: ['--handover'] })
    await third.said('"registered"', PATIENCE_MS)
    t.same(await first.exited, { code: 0, signal: null })
    t.same(processes(await running(sql, 3, PATIENCE_MS)), processes(before), 'one that is let in')
  })
