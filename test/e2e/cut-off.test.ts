import t from 'tap'
import { placements, running } from '../agent/fleet.js'
import { testDatabase } from '../helpers/postgres.js'
import { tcpProxy } from '../helpers/tcp-proxy.js'
import { waitFor } from '../helpers/wait-for.js'
import {
  alive,
  eventsOf,
  gone,
  hosts,
  live,
  PATIENCE_MS,
  processes,
  shortLeases,
  witness,
} from './hosts.js'

t.test(
  'a host that is cut off ends its work before others start it, unless on_lost = keep (defect 6)',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql)
    const proxy = await tcpProxy(t, url)
    const { agent, worker } = hosts(t, url)
    const { insert, lives, overlap } = witness(t)
    worker()
    const a = agent('host-a', { databaseUrl: proxy.url })
    await live(sql, 'host-a')
    await insert(sql, { replicas: 3 })
    const keep = await insert(sql, { on_lost: 'keep' })
    const before = await running(sql, 4, PATIENCE_MS)
    const kept = before.find((row) => row.deployment_id === keep)!
    const fenced = before.filter((row) => row !== kept)
    const bothOf = (id: string) =>
      lives()
        .filter((life) => life.assignment_id === id)
        .map((life) => life.node)
    await waitFor(() => lives().length === 4, {
      label: 'all four have said that they live',
      timeoutMs: PATIENCE_MS,
    })
    agent('host-b')
    await live(sql, 'host-b')

    proxy.cut()
    const after = await waitFor(
      async () => {
        const rows = await placements(sql)
        return rows.every((row) => row.node === 'host-b' && row.run_state === 'running')
          ? rows
          : null
      },
      { label: 'host-b runs everything', timeoutMs: PATIENCE_MS, show: () => placements(sql) },
    )
    t.ok(
      after.every((row, nr) => BigInt(row.epoch) > BigInt(before[nr]!.epoch)),
      'under new epochs',
    )
    await waitFor(() => after.every((row) => bothOf(row.assignment_id).includes('host-b')), {
      label: 'the new instances have stamped',
      timeoutMs: PATIENCE_MS,
      show: lives,
    })
    t.notOk(
      fenced.some((row) => alive(row.pid)),
      'what host-a might have run twice has ended',
    )
    t.ok(alive(kept.pid), 'what it was ordered to keep runs on')
    t.equal(a.events('lease_ending').length > 0, true)

    const ids = fenced.map((row) => row.assignment_id)
    t.same(
      ids.map(bothOf),
      ids.map(() => ['host-a', 'host-b']),
      'each lived once here and once there',
    )
    t.equal(overlap(ids), 0, 'and never both at once')
    // control of the judge: where the fence was forbidden it finds two
    await waitFor(() => overlap([kept.assignment_id]) > 0, {
      label: 'the judge finds both instances of what is kept',
      timeoutMs: PATIENCE_MS,
      show: lives,
    })

    proxy.restore()
    await gone([kept.pid], 'back in touch, host-a ends what is not its own any more')
    t.strictSame(processes(await placements(sql)), processes(after), 'and takes nothing back')
    t.equal(a.ended(), false)
    await live(sql, 'host-a', 'host-b')
    await insert(sql)
    t.equal((await running(sql, 5, PATIENCE_MS)).at(-1)!.node, 'host-a', 'it is given work again')
  },
)

t.test(
  'a host that is cut off for less than a lease keeps everything (defect 5: rows were lost)',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '60 s')
    const proxy = await tcpProxy(t, url)
    const { agent, worker } = hosts(t, url)
    worker()
    const a = agent('host-a', { databaseUrl: proxy.url })
    agent('host-b')
    await live(sql, 'host-a', 'host-b')
    const { insert, lives } = witness(t)
    await insert(sql, { replicas: 4 })
    const before = await running(sql, 4, PATIENCE_MS)

    const silent = async (): Promise<boolean> =>
      (await sql`select from mooring.node_status s where s.node = 'host-a' and s.beat_age > '2 s'`)
        .length === 1
    for (let round = 0; round < 2; round++) {
      proxy.cut()
      await waitFor(silent, { label: 'many beats are missing', timeoutMs: PATIENCE_MS })
      proxy.restore()
      await waitFor(async () => !(await silent()), {
        label: 'host-a beats again',
        timeoutMs: PATIENCE_MS,
        show: () => a.stderr(),
      })
    }
    t.strictSame(processes(await placements(sql)), processes(before))
    t.ok(before.every((row) => alive(row.pid)))
    t.equal(lives().length, 4, 'nothing was started twice')
    t.equal((await eventsOf(sql, 'reaped')) + a.events('lease_ending').length, 0)
  },
)
