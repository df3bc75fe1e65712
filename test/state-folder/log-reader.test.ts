import { execFileSync } from 'node:child_process'
import { appendFile, mkdir, rename, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { readLog, SLICE_LIMIT_BYTES, type LogStart } from '../../state-folder/log-reader.js'
import { DEFAULT_ROTATION, rotate } from '../../state-folder/log-rotation.js'
import { silent, temporaryFolder } from '../agent/rig.js'

const lines = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, i) => `line ${from + i}\n`).join('')

async function shape(file: string, start: LogStart, most?: number): Promise<unknown> {
  const slice = (await readLog(file, start, most))!
  return { start: slice.start, size: slice.size, length: slice.bytes.length, more: slice.more }
}

const textAt = async (file: string, start: LogStart, most?: number): Promise<string> =>
  (await readLog(file, start, most))!.bytes.toString()

t.test('Y39: a slice is read from the start or the end, 128 KiB at most by default', async (t) => {
  const file = join(await temporaryFolder(t), '1.log')
  const size = 300 * 1024
  await writeFile(
    file,
    Buffer.alloc(size, 'x')
      .fill('abc', 0, 3)
      .fill('xyz', size - 3),
  )
  t.equal(await textAt(file, { fromByte: 0 }, 3), 'abc')
  t.equal(await textAt(file, { fromByte: -3 }), 'xyz')
  t.strictSame(await shape(file, { fromByte: -3 }, 1), {
    start: size - 3,
    size,
    length: 1,
    more: true,
  })
  t.strictSame(await shape(file, { fromByte: 0 }), {
    start: 0,
    size,
    length: SLICE_LIMIT_BYTES,
    more: true,
  })
  t.strictSame(await shape(file, { fromByte: -1e18 }), {
    start: 0,
    size,
    length: SLICE_LIMIT_BYTES,
    more: true,
  })
  t.strictSame(
    await shape(file, { fromByte: 9.2e18 }),
    { start: size, size, length: 0, more: false },
    'past the end it is empty and says where the end is',
  )
})

t.test(
  'Y39: a slice reaches into the older parts, which count from the oldest byte that is kept',
  async (t) => {
    const file = join(await temporaryFolder(t), '1.log')
    await writeFile(file, 'efgh')
    await writeFile(`${file}.1.gz`, gzipSync('cd'))
    await writeFile(`${file}.2.gz`, gzipSync('ab'))
    t.equal(await textAt(file, { fromByte: 0 }), 'abcdefgh')
    t.equal(await textAt(file, { fromByte: 1 }, 4), 'bcde')
    t.equal(await textAt(file, { fromByte: -6 }, 3), 'cde')
    t.strictSame(await shape(file, { fromByte: -5 }), { start: 3, size: 8, length: 5, more: false })
  },
)

t.test('no log yet is null, not an error; a part without its file is a log', async (t) => {
  const file = join(await temporaryFolder(t), '1.log')
  t.equal(await readLog(file, { fromByte: 0 }), null)
  await writeFile(`${file}.1.gz`, gzipSync('old'))
  t.equal(await textAt(file, { tailLines: 5 }), 'old')
})

t.test('the last lines of a log are read, also of one that is larger than a chunk', async (t) => {
  const file = join(await temporaryFolder(t), '1.log')
  await writeFile(file, lines(1, 50_000))
  for (const [tailLines, text] of [
    [3, lines(49_998, 50_000)],
    [20_000, lines(30_001, 50_000)],
    [50_000, lines(1, 50_000)],
    [60_000, lines(1, 50_000)],
    [0, ''],
  ] as const) {
    t.ok((await textAt(file, { tailLines }, 1e9)) === text, `${tailLines} lines`)
  }
})

t.test('an unfinished last line counts, and a newline alone is a line', async (t) => {
  const file = join(await temporaryFolder(t), '1.log')
  await writeFile(file, 'a\nb\nc')
  t.equal(await textAt(file, { tailLines: 2 }), 'b\nc')
  await writeFile(file, '\n\n\n')
  t.equal(await textAt(file, { tailLines: 2 }), '\n\n')
  await writeFile(file, '')
  t.equal(await textAt(file, { tailLines: 2 }), '')
})

t.test(
  'the last lines of a log continue in its older parts, also a line that was cut in two',
  async (t) => {
    const file = join(await temporaryFolder(t), '1.log')
    await writeFile(file, `7\n${lines(8, 9)}`)
    await writeFile(`${file}.1.gz`, gzipSync(`${lines(4, 6)}line `))
    await writeFile(`${file}.2.gz`, gzipSync(lines(1, 3)))
    for (const count of [2, 3, 5, 7, 9, 100])
      t.equal(
        await textAt(file, { tailLines: count }),
        lines(Math.max(1, 10 - count), 9),
        `${count} lines`,
      )
  },
)

t.test(
  'Y40: reading continues at the right byte, however often the log is rotated in between',
  async (t) => {
    const file = join(await temporaryFolder(t), '1.log')
    await writeFile(file, '')
    let { next } = (await readLog(file, { fromByte: 0 }))!
    let text = ''
    let expected = ''
    for (let round = 0; round < 12; round++) {
      // some rounds are read up, some are left to be rotated away first
      const more = Array.from({ length: 3000 }, (_, line) => `round ${round} line ${line}\n`).join(
        '',
      )
      await appendFile(file, more)
      expected += more
      await rotate(file, { ...DEFAULT_ROTATION, maxBytes: 32 * 1024, count: 50 }, silent)
      if (round % 4 === 1) continue
      for (let slice; !slice || slice.more; next = slice.next) {
        slice = (await readLog(file, { after: next }, 10_000))!
        text += slice.bytes.toString()
      }
    }
    t.ok((await stat(`${file}.10.gz`)).size > 0, 'it was rotated often')
    t.ok(text === expected)
  },
)

t.test(
  'Y40: a log that was cut and has grown to the size it had is read on from its new beginning',
  async (t) => {
    const file = join(await temporaryFolder(t), '1.log')
    const before = lines(1, 6000)
    await appendFile(file, before)
    const { next } = (await readLog(file, { fromByte: 0 }))!
    await rotate(file, { ...DEFAULT_ROTATION, maxBytes: 32 * 1024 }, silent)
    const after = 'x'.repeat(before.length - (await stat(file)).size)
    t.ok(after.length > 0, 'it was cut')
    await appendFile(file, after)
    t.equal(await textAt(file, { after: next }), after)
  },
)

t.test(
  'an emptied log is read from its beginning; an overtaken reader continues with the oldest part',
  async (t) => {
    const file = join(await temporaryFolder(t), '1.log')
    await writeFile(file, lines(1, 100))
    const { next } = (await readLog(file, { tailLines: 1 }))!
    await writeFile(file, 'anew\n')
    t.equal(await textAt(file, { after: next }), 'anew\n')
    await writeFile(`${file}.1.gz`, gzipSync('first part\n'))
    const inside = (await readLog(file, { fromByte: 0 }, 3))!
    await rename(`${file}.1.gz`, `${file}.gone`)
    await writeFile(`${file}.1.gz`, gzipSync('another part\n'))
    t.equal(await textAt(file, { after: inside.next }), 'another part\nanew\n')
  },
)

t.test('a place is refused when it is none', async (t) => {
  const file = join(await temporaryFolder(t), '1.log')
  await writeFile(file, 'x')
  for (const after of [
    '',
    '0',
    '0:0:0:',
    '-1:0:0:0123456789abcdef',
    '0:0:9999:0123456789abcdef',
    '../../etc/passwd',
  ])
    await t.rejects(readLog(file, { after }), /is no place in a log/, after)
})

t.test('what a workload puts in the place of its log leads a reader nowhere', async (t) => {
  const folder = await temporaryFolder(t)
  await writeFile(join(folder, 'secret'), 'hunter2')
  await symlink(join(folder, 'secret'), join(folder, '1.log'))
  await t.rejects(readLog(join(folder, '1.log'), { fromByte: 0 }), { code: 'ELOOP' })
  execFileSync('mkfifo', [join(folder, '2.log')])
  await t.rejects(
    readLog(join(folder, '2.log'), { fromByte: 0 }),
    { code: 'ENOTREG' },
    'a pipe does not keep it waiting',
  )
  await mkdir(join(folder, '3.log'))
  await t.rejects(readLog(join(folder, '3.log'), { fromByte: 0 }), { code: 'ENOTREG' })

  const part = gzipSync('old\n')
  part.writeUInt32LE(2 ** 32 - 2, part.length - 4)
  await writeFile(join(folder, '4.log.1.gz'), part)
  await writeFile(join(folder, '4.log'), 'new\n')
  for (const start of [{ fromByte: 0 }, { tailLines: 1000 }]) {
    const slice = await readLog(join(folder, '4.log'), start)
    t.equal(slice?.bytes.toString(), 'new\n', 'a part that says it holds 4 GiB is not believed')
  }
})
