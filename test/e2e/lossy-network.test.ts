/**
 * A network that loses connections at any moment: while they open, in the middle of a query,
 * between two. Drivers report most losses by the promise of the query. Some they report by a
 * promise without an owner, and that one ends a Node process. So agent and worker run here as
 * processes, and are observed from outside.
 */
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { randomOf } from '../../faults/plan.js'
import { placements, running } from '../agent/fleet.js'
import { deployment } from '../helpers/factories.js'
import { testDatabase } from '../helpers/postgres.js'
import { mooring, program } from '../helpers/processes.js'
import { waitFor } from '../helpers/wait-for.js'
import { alive, hosts, live, PATIENCE_MS, processes, shortLeases } from './hosts.js'

/**
 * Every second connection dies within 40 ms of being made, of the others every second one within a
 * second.
 */
async function lossyProxy(
  t: Test,
  url: string,
): Promise<{ url: string; lose(loses: boolean): void; lost(): number }> {
  const target = new URL(url)
  const random = randomOf(17)
  const sockets = new Set<Socket>()
  let losing = false
  let lost = 0
  const server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket
        .on('error', () => {})
        .on('close', () => {
          sockets.delete(socket)
          near.destroy()
          far.destroy()
        })
    }
    near.pipe(far)
    far.pipe(near)
    if (!losing) return
    const within = random() < 0.5 ? 40 : random() < 0.5 ? 1_000 : null
    if (within !== null) {
      setTimeout(() => {
        lost++
        near.resetAndDestroy()
      }, random() * within).unref()
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  return {
    url: Object.assign(new URL(url), {
      hostname: '127.0.0.1',
      port: String((server.address() as AddressInfo).port),
    }).href,
    lose: (loses) => void (losing = loses),
    lost: () => lost,
  }
}

t.test(
  'agent and worker go on under a lossy network, leave nothing unhandled, and run what comes later',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '30 s')
    const proxy = await lossyProxy(t, url)
    const agent = hosts(t, proxy.url).agent('host-a')
    const worker = mooring(t, ['worker'], { databaseUrl: proxy.url })
    await live(sql, 'host-a')
    await deployment(sql, { command: 'sleep', args: ['1000'], replicas: 4 })
    const before = await running(sql, 4, PATIENCE_MS)
    proxy.lose(true)
    // what is already open would live through it
    const cut = () =>
      sql`
        select pg_terminate_backend(a.pid)
          from pg_stat_activity a
         where a.datname = current_database() and a.application_name ~ '^mooring (agent|worker)'`
    for (let wanted = 20; wanted <= 120; wanted += 20) {
      await cut()
      await waitFor(() => proxy.lost() >= wanted, {
        label: `${wanted} connections were lost`,
        timeoutMs: PATIENCE_MS,
        show: () => proxy.lost(),
      })
    }
    proxy.lose(false)
    // what no process of its own can hold: values that reach agent and worker in rows and errors
    await deployment(sql, {
      command: '/nowhere/\u2028"\'$(id)',
      args: ['\u007f', '`', '%s'],
      env: { A: '\ud83d\udca3' },
    })
    await deployment(sql, { command: 'sleep', args: ['1000'] })
    const after = await waitFor(
      async () => {
        const rows = await placements(sql)
        return rows.filter((row) => row.run_state === 'running').length === 5 &&
          rows.some((row) => row.run_state === 'failed')
          ? rows
          : null
      },
      {
        label: 'what came afterwards runs, or says why not',
        timeoutMs: PATIENCE_MS,
        show: () => placements(sql),
      },
    )
    t.strictSame(
      processes(after.slice(0, 4)),
      processes(before),
      'what ran before has noticed nothing',
    )
    t.ok(before.every(({ pid }) => alive(pid)))
    for (const [name, process] of [
      ['agent', agent],
      ['worker', worker],
    ] as const) {
      t.equal(process.ended(), false, `the ${name} is the one that was started`)
      t.notMatch(
        `${process.stdout()}${process.stderr()}`,
        /unhandled|uncaught/i,
        `the ${name} left no promise to nobody`,
      )
    }
  },
)

t.test(
  'negative control: a process that leaves one promise unhandled ends, and prints it',
  async (t) => {
    const careless = program(t, process.execPath, [
      '-e',
      'setInterval(() => {}, 1000); Promise.reject(new Error("left to nobody"))',
    ])
    t.equal((await careless.exited).code, 1)
    t.match(careless.stderr(), /unhandled|uncaught|left to nobody/i)
  },
)
