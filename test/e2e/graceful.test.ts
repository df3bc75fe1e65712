import t from 'tap'
import { placements, running, sleeper } from '../agent/fleet.js'
import { testDatabase } from '../helpers/postgres.js'
import {
  alive,
  childOf,
  claims,
  eventsOf,
  gone,
  hosts,
  lastEvent,
  live,
  PATIENCE_MS,
  processes,
  shortLeases,
} from './hosts.js'

t.test(
  'Y42: SIGTERM to an agent ends its processes, frees its work, and exits 0 (defect 7: orphans)',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '30 s') // so long that only a goodbye can have moved the work
    const { agent, worker } = hosts(t, url)
    worker()
    const a = agent('host-a')
    agent('host-b')
    await live(sql, 'host-a', 'host-b')
    const workload = await sleeper(sql, {
      command: 'sh',
      args: ['-c', 'sleep 1000 & wait'],
      replicas: 4,
    })
    await sleeper(sql, { type: 'daemon' })
    const before = await running(sql, 6, PATIENCE_MS)
    const mine = before.filter((row) => row.node === 'host-a')
    t.equal(mine.length, 3)
    const children = await Promise.all(
      mine.filter((row) => row.deployment_id === workload).map((row) => childOf(row.pid)),
    )
    t.ok(children.every(alive))

    const event = await lastEvent(sql)
    a.kill('SIGTERM')
    t.same(await a.exited, { code: 0, signal: null })
    t.notOk(
      [...mine.map((row) => row.pid), ...children].some(alive),
      'the agent ends last: nothing it started is left',
    )
    t.equal(await eventsOf(sql, 'node_left'), 1)
    const after = await running(sql, 5, PATIENCE_MS)
    t.same(
      after.map((row) => row.node),
      Array(5).fill('host-b'),
    )
    t.equal(await eventsOf(sql, 'reaped'), 0)
    t.equal((await claims(sql, event)).length, 2, 'what was on host-b stayed as it was')
    const kept = before.filter((row) => row.node === 'host-b')
    t.strictSame(
      processes(after.filter((row) => kept.some((of) => of.assignment_id === row.assignment_id))),
      processes(kept),
    )
  },
)

t.test(
  'a second agent of one name is refused, and gets the name when the first has left (defect 7)',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '30 s')
    const { agent, worker } = hosts(t, url)
    const elsewhere = hosts(t, url) // another machine
    worker()
    const first = agent('host-a')
    await live(sql, 'host-a')
    await sleeper(sql, { replicas: 3 })
    const before = await running(sql, 3, PATIENCE_MS)

    const second = elsewhere.agent('host-a')
    await second.said('another live agent is called host-a', PATIENCE_MS)
    t.equal(second.events('registered').length, 0)
    t.strictSame(
      processes(await placements(sql)),
      processes(before),
      'nothing has moved, nothing was started again',
    )
    t.ok(before.every((row) => alive(row.pid)))

    first.kill('SIGTERM')
    t.same(await first.exited, { code: 0, signal: null })
    await second.said('"registered"', PATIENCE_MS)
    await gone(
      before.map((row) => row.pid),
      'the processes of the first are gone',
    )
    const after = await running(sql, 3, PATIENCE_MS)
    t.ok(after.every((row) => row.node === 'host-a' && alive(row.pid)))
    t.equal(first.events('session_over').length + second.events('session_over').length, 0)
    t.equal(second.ended(), false)
  },
)
