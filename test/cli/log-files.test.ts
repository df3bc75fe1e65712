import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { logFilesOf, tailOf } from '../../cli/log-files.js'

const lines = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `line ${from + i}\n`).join('')

t.test('the last lines of a log are read, also of one that is larger than a chunk', async (t) => {
  const path = join(t.testdir(), '1.log')
  writeFileSync(path, lines(1, 50_000))
  t.equal((await tailOf(path, 3)).text.toString(), lines(49_998, 50_000))
  t.equal((await tailOf(path, 20_000)).text.toString(), lines(30_001, 50_000))
  t.equal((await tailOf(path, Infinity)).text.toString(), lines(1, 50_000))
  t.equal((await tailOf(path, 0)).text.toString(), '')
})

t.test('an unfinished last line counts', async (t) => {
  const path = join(t.testdir(), '1.log')
  writeFileSync(path, 'a\nb\nc')
  t.equal((await tailOf(path, 2)).text.toString(), 'b\nc')
})

t.test('a line that was cut in two by a rotation is one line', async (t) => {
  const path = join(t.testdir(), '1.log')
  writeFileSync(path, 'e 2\nline 3\n')
  writeFileSync(`${path}.1.gz`, gzipSync('line 1\nlin'))
  t.equal((await tailOf(path, 2)).text.toString(), lines(2, 3))
  t.equal((await tailOf(path, 3)).text.toString(), lines(1, 3))
})

t.test('a log that was just rotated is read on in its older parts', async (t) => {
  const path = join(t.testdir(), '1.log')
  writeFileSync(path, lines(8, 9))
  writeFileSync(`${path}.1.gz`, gzipSync(lines(4, 7)))
  writeFileSync(`${path}.2.gz`, gzipSync(lines(1, 3)))
  t.equal((await tailOf(path, 5)).text.toString(), lines(5, 9))
  t.equal((await tailOf(path, 7)).text.toString(), lines(3, 9))
  t.equal((await tailOf(path, 100)).text.toString(), lines(1, 9))
})

t.test('the logs of every local agent are found, the last written first', async (t) => {
  const dir = t.testdir()
  for (const node of ['host-a', 'host-b', 'host-c']) mkdirSync(join(dir, 'agents', node, 'logs'), { recursive: true })
  writeFileSync(join(dir, 'agents/host-b/logs/7.log'), 'x')
  t.same(logFilesOf(dir, '7').map((file) => file.node), ['host-b'])
  t.same(logFilesOf(dir, '8'), [])
  t.same(logFilesOf(join(dir, 'nowhere'), '7'), [])
})
