import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createUnblockedWriter } from '../../host/unblocked-writer.js'
import { tempDir } from '../helpers/processes.js'
import { waitFor } from '../helpers/wait-for.js'

const dropped = (lines: number): string => `dropped ${lines}\n`

t.test('a pipe that nobody reads delays nothing, and what it lost is counted', async (t) => {
  const path = join(tempDir(t, 'pipe'), 'pipe')
  execFileSync('mkfifo', [path])
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const fd = openSync(path, constants.O_WRONLY)
  t.teardown(() => [reader, fd].forEach((each) => closeSync(each)))
  const writer = createUnblockedWriter(fd, { mostWaiting: 100_000, dropped })
  const line = `${'x'.repeat(999)}\n`
  // a pipe takes 64 KiB, and 100 kB wait
  for (let nr = 0; nr < 1_000; nr++) writer.write(line)
  let read = ''
  const buffer = Buffer.alloc(1 << 16)
  await waitFor(
    () => {
      try {
        read += buffer.toString('utf8', 0, readSync(reader, buffer))
      } catch {
        // nothing there at the moment
      }
      return read.includes('dropped')
    },
    { label: 'it goes on when the reader does' },
  )
  const lines = read.split('\n').slice(0, -1)
  const lost = Number(/dropped (\d+)/.exec(read)![1])
  t.equal(lines.length - 1 + lost, 1_000)
  t.ok(lost > 800)
  t.ok(
    lines.slice(0, -1).every((each) => each.length === 999),
    'no line is cut',
  )
  t.doesNotThrow(() => writeSync(fd, ''), 'the descriptor itself is as it was')
})

t.test('a reader that is gone and a full disk lose the line and nothing else', (t) => {
  const full = openSync('/dev/full', 'w')
  t.teardown(() => closeSync(full))
  const writer = createUnblockedWriter(full, { dropped })
  t.doesNotThrow(() => writer.write('one\n'))
  t.doesNotThrow(() => writer.write('two\n'))
  t.end()
})
