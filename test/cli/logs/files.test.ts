import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { localSession, logFilesOf } from '../../../cli/logs/files.js'

t.test('the logs of every local agent are found, the last written first', async (t) => {
  const dir = t.testdir()
  for (const node of ['host-a', 'host-b', 'host-c'])
    mkdirSync(join(dir, 'agents', node, 'logs'), { recursive: true })
  writeFileSync(join(dir, 'agents/host-b/logs/7.log'), 'x')
  t.same(
    logFilesOf(dir, '7').map((file) => file.node),
    ['host-b'],
  )
  t.same(logFilesOf(dir, '8'), [])
  t.same(logFilesOf(join(dir, 'nowhere'), '7'), [])
})

t.test('an agent of this state directory is known by the session it noted', async (t) => {
  const dir = t.testdir()
  mkdirSync(join(dir, 'agents', 'host-a'), { recursive: true })
  t.equal(localSession(dir, 'host-a'), null)
  writeFileSync(join(dir, 'agents', 'host-a', 'session.json'), '{"session": "one"}')
  t.equal(localSession(dir, 'host-a'), 'one')
  writeFileSync(join(dir, 'agents', 'host-a', 'session.json'), '{"sess')
  t.equal(localSession(dir, 'host-a'), null)
})
