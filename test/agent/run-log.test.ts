import { appendFile, writeFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { followLog, readLogSlice, SLICE_LIMIT_BYTES } from '../../agent/run-log.js'
import { DEFAULT_ROTATION, keepInSize } from '../../agent/log-rotation.js'
import { waitFor } from '../helpers/wait-for.js'
import { silent, temporaryFolder } from './rig.js'

async function shape(file: string, start: number, length?: number): Promise<unknown> {
  const slice = (await readLogSlice(file, start, length))!
  return { start: slice.start, size: slice.size, length: slice.bytes.length }
}

t.test('Y39: a slice is read from the start, from the end, and never more than 128 KiB', async t => {
  const file = join(await temporaryFolder(t), '1.log')
  const size = 300 * 1024
  await writeFile(file, Buffer.alloc(size, 'x').fill('abc', 0, 3).fill('xyz', size - 3))
  t.equal((await readLogSlice(file, 0, 3))!.bytes.toString(), 'abc')
  t.equal((await readLogSlice(file, -3))!.bytes.toString(), 'xyz')
  t.strictSame(await shape(file, -3, 1), { start: size - 3, size, length: 1 })
  t.strictSame(await shape(file, 0, 1e9), { start: 0, size, length: SLICE_LIMIT_BYTES })
  t.strictSame(await shape(file, -1e9), { start: 0, size, length: SLICE_LIMIT_BYTES })
})

t.test('a slice past the end is empty and says where the end is; a negative length reads nothing', async t => {
  const file = join(await temporaryFolder(t), '1.log')
  await writeFile(file, 'hello')
  t.strictSame(await shape(file, 99), { start: 5, size: 5, length: 0 })
  t.strictSame(await shape(file, 0, -5), { start: 0, size: 5, length: 0 })
})

t.test('no log yet is null, not an error', async t => {
  t.equal(await readLogSlice(join(await temporaryFolder(t), '1.log'), 0), null)
})

t.test('Y40: following a log begins before there is one, and goes on at the right byte when it is cut', async t => {
  const file = join(await temporaryFolder(t), '1.log')
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  let text = ''
  const following = (async () => {
    for await (const bytes of followLog(file, 0, stop.signal, 10)) text += bytes.toString()
  })()
  let expected = ''
  for (let round = 0; round < 5; round++) {
    const lines = Array.from({ length: 3000 }, (_, line) => `round ${round} line ${line}\n`).join('')
    await appendFile(file, lines)
    expected += lines
    await waitFor(() => text.length === expected.length, { label: `round ${round} is read` })
    await keepInSize(file, { ...DEFAULT_ROTATION, maxBytes: 32 * 1024 }, silent)
  }
  t.ok(text === expected)
  stop.abort()
  await following
})

t.test('a log that was cut and has grown to the size it had is read on from its new beginning', async t => {
  const file = join(await temporaryFolder(t), '1.log')
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const before = Array.from({ length: 6000 }, (_, line) => `line ${line}\n`).join('')
  await appendFile(file, before)
  const follow = followLog(file, 0, stop.signal, 10)
  t.equal((await follow.next()).value?.toString(), before)
  // all of it between two looks of the reader
  await keepInSize(file, { ...DEFAULT_ROTATION, maxBytes: 32 * 1024 }, silent)
  const after = 'x'.repeat(before.length - (await stat(file)).size)
  t.ok(after.length > 0, 'it was cut')
  await appendFile(file, after)
  t.equal((await follow.next()).value?.toString(), after)
  stop.abort()
})
