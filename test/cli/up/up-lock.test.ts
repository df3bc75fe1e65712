import { spawn } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { isAlive, markOf } from '../../../host/lock-file.js'
import { readUpRecord, takeUpLock, upFile } from '../../../cli/up/up-lock.js'
import type { UpRecord } from '../../../cli/up/up-lock.js'

/** A process that has ended, and whose pid nobody has yet. */
async function deadProcess(): Promise<UpRecord> {
  const child = spawn('sleep', ['30'])
  const mark = markOf(child.pid!)
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
  return {
    ...mark,
    since: '2026-01-01T00:00:00.000Z',
    owns_server: true,
    children: [{ name: 'worker', ...mark }],
  }
}

t.test('a second up is told who runs', async (t) => {
  const dir = t.testdir()
  const lock = takeUpLock(dir)
  t.throws(() => takeUpLock(dir), {
    message: new RegExp(`runs already in .*: pid ${process.pid}, since `),
    hint: /kill \d+/,
  })
  lock.release()
  takeUpLock(dir).release()
  t.same(readdirSync(dir), [])
})

t.test('after a killed one the next takes over what it left', async (t) => {
  const dir = t.testdir()
  const dead = await deadProcess()
  writeFileSync(upFile(dir), JSON.stringify(dead))
  const lock = takeUpLock(dir)
  t.same(lock.inherited, dead)
  t.match(readUpRecord(dir), { pid: process.pid, owns_server: true, children: [] })
  lock.note({ owns_server: false })
  t.match(readUpRecord(dir), { pid: process.pid, owns_server: false })
})

t.test('a recycled pid is not the process that had it', async (t) => {
  t.ok(isAlive(markOf(process.pid)))
  t.notOk(isAlive({ pid: process.pid, started_at: '1' }))
  t.notOk(isAlive(await deadProcess()))
})

t.test(
  "a lock file that makes no sense is nobody's: a machine that lost power may leave one",
  async (t) => {
    for (const rest of ['', 'x', 'null', '{}']) {
      const dir = t.testdir({ 'up.json': rest })
      t.equal(readUpRecord(dir), null)
      const lock = takeUpLock(dir)
      t.match(readUpRecord(dir), { pid: process.pid, owns_server: false })
      lock.release()
    }
  },
)

t.test('somebody else who took over is not robbed by a late release', async (t) => {
  const dir = t.testdir()
  const lock = takeUpLock(dir)
  const other = { ...(await deadProcess()) }
  writeFileSync(upFile(dir), JSON.stringify(other))
  lock.release()
  t.equal(readUpRecord(dir)?.pid, other.pid)
})
