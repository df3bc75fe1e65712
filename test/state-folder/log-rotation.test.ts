import { execFileSync, spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { link, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import t from 'tap'
import type { Test } from 'tap'
import {
  createLogRotation,
  cutByCopy,
  DEFAULT_ROTATION,
  rotate,
} from '../../state-folder/log-rotation.js'
import { waitFor } from '../helpers/wait-for.js'
import { owned, rig, silent, temporaryFolder } from '../agent/rig.js'

const KIB = 1024

/** Everything that is kept of a log, oldest first. */
function everything(file: string): string {
  let text = ''
  let oldest = 0
  while (existsSync(`${file}.${oldest + 1}.gz`)) oldest++
  for (let number = oldest; number >= 1; number--)
    text += gunzipSync(readFileSync(`${file}.${number}.gz`)).toString()
  return text + readFileSync(file, 'utf8')
}

/** Appends `line 0`, `line 1` ... at some MiB/s through one descriptor. stop() counts them. */
function writer(t: Test, file: string): { stop(): Promise<number> } {
  const fd = openSync(file, 'a')
  const script = `let n = 0
    process.stdin.on('data', () => { process.stderr.write(String(n)); process.exit() })
    const go = () => {
      let s = ''
      for (let i = 0; i < 40; i++) s += 'line ' + n++ + '\\n'
      require('fs').writeSync(1, s)
      setTimeout(go, 1)
    }
    go()`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', fd, 'pipe'] })
  closeSync(fd)
  t.teardown(() => {
    child.kill('SIGKILL')
  })
  return {
    stop: () =>
      new Promise((resolve) => {
        let said = ''
        child.stderr!.on('data', (data: Buffer) => {
          said += String(data)
        })
        child.once('close', () => resolve(Number(said)))
        child.stdin!.write('stop')
      }),
  }
}

t.test(
  'not a line is lost, doubled or moved while a busy log is rotated under its writer',
  async (t) => {
    const folder = await temporaryFolder(t)
    const file = join(folder, '1.log')
    const busy = writer(t, file)
    for (let turn = 0; turn < 6; turn++) {
      await waitFor(() => existsSync(file) && statSync(file).size > 300 * KIB, {
        label: 'the log grows',
        timeoutMs: 60_000,
      })
      await rotate(file, { maxBytes: 256 * KIB, count: 1_000, checkIntervalMs: 1 }, silent)
    }
    const lines = await busy.stop()
    t.ok(existsSync(`${file}.1.gz`))
    const kept = everything(file).split('\n')
    t.equal(kept.pop(), '')
    const firstWrong = kept.findIndex((line, index) => line !== `line ${index}`)
    t.equal(firstWrong, -1, `first wrong line ${firstWrong}: ${kept[firstWrong]}`)
    t.equal(kept.length, lines)
  },
)

t.test(
  'Y38: a log is rotated by size and count and gzipped; the newest part is 1, the end readable',
  async (t) => {
    t.match(
      DEFAULT_ROTATION,
      { maxBytes: 10 * 1024 * 1024, count: 5 },
      'by default 10 MiB and five',
    )
    const file = join(await temporaryFolder(t), '1.log')
    const options = { maxBytes: 64 * KIB, count: 3, checkIntervalMs: 1 }
    for (let part = 0; part < 8; part++) {
      await writeFile(file, `${String(part).repeat(70 * KIB)}\n`, { flag: 'a' })
      await rotate(file, options, silent)
    }
    const names = (await readdir(join(file, '..'))).sort()
    t.strictSame(names, ['1.log', '1.log.1.gz', '1.log.2.gz', '1.log.3.gz'])
    t.match(readFileSync(file, 'utf8'), /^7+\n$/, 'the last part')
    t.ok(everything(file).endsWith(`${'6'.repeat(100)}\n${'7'.repeat(70 * KIB)}\n`))
  },
)

t.test(
  'where the file system cannot collapse, the rest is copied and nothing around the cut is lost',
  async (t) => {
    const file = join(await temporaryFolder(t), '1.log')
    await writeFile(file, `${'a'.repeat(8192)}${'b'.repeat(200 * KIB)}end`)
    const fd = openSync(file, 'a+')
    cutByCopy(fd, 8192)
    writeSync(fd, 'more')
    closeSync(fd)
    t.ok(readFileSync(file, 'utf8') === `${'b'.repeat(200 * KIB)}endmore`)
  },
)

t.test(
  'a file system without collapse keeps every byte of a quiet log over many cuts',
  { skip: !existsSync('/dev/shm') && 'no /dev/shm (a tmpfs) on this host' },
  async (t) => {
    const folder = await mkdtemp('/dev/shm/mooring-test-')
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const file = join(folder, '1.log')
    let written = ''
    for (let part = 0; part < 6; part++) {
      const more = Array.from({ length: 5_000 }, (_, line) => `part ${part} line ${line}\n`).join(
        '',
      )
      await writeFile(file, more, { flag: 'a' })
      written += more
      await rotate(file, { maxBytes: 64 * KIB, count: 100, checkIntervalMs: 1 }, silent)
    }
    t.ok(existsSync(`${file}.5.gz`))
    t.ok(everything(file) === written)
  },
)

t.test('a writer far ahead of the compression costs disk for count parts, not more', async (t) => {
  const file = join(await temporaryFolder(t), '1.log')
  await writeFile(file, `${'x'.repeat(3 * 1024 * KIB)}last`)
  await rotate(file, { maxBytes: 64 * KIB, count: 3, checkIntervalMs: 1 }, silent)
  t.ok(everything(file).length <= 64 * KIB * 5)
  t.ok(everything(file).endsWith('xlast'))
})

t.test('a log that cannot be compressed is cut all the same', async (t) => {
  const folder = await temporaryFolder(t)
  const file = join(folder, '1.log')
  await writeFile(file, `${'x'.repeat(300 * KIB)}last`)
  // In the place of the temporary file: writing it fails, as on a full disk.
  await mkdir(`${file}.tmp`)
  await writeFile(join(`${file}.tmp`, 'x'), '')
  await rotate(file, { maxBytes: 64 * KIB, count: 3, checkIntervalMs: 1 }, silent)
  t.ok(statSync(file).size <= 64 * KIB)
  t.ok(readFileSync(file, 'utf8').endsWith('xlast'))
})

t.test('a log whose disk is full ends neither the workload nor the agent', async (t) => {
  const a = owned({
    script: 'for n in 1 2 3; do echo some words; done; echo yes > survived; sleep 1000',
  })
  const r = await rig(t, { rotation: { checkIntervalMs: 5 } })
  symlinkSync('/dev/full', join(r.stateDir, 'logs', `${a.assignment_id}.log`))
  r.supervisor.reconcile([a], { mayStart: true })
  await waitFor(() => existsSync(join(r.stateDir, 'work', a.assignment_id, 'survived')), {
    label: 'the workload goes on after its log is full',
  })
  t.strictSame(r.states(a), ['running'])
})

t.test('what a workload puts in the place of its log is not rotated', async (t) => {
  const folder = await temporaryFolder(t)
  const own = join(folder, 'secret')
  const text = 's'.repeat(200 * KIB)
  await writeFile(own, text)
  await symlink(own, join(folder, '1.log'))
  await link(own, join(folder, '2.log'))
  execFileSync('mkfifo', [join(folder, '3.log')])
  await mkdir(join(folder, '4.log'))
  for (const [name, code] of [
    ['1.log', 'ELOOP'],
    ['2.log', 'ELINKED'],
    ['3.log', 'ENOTREG'],
    ['4.log', 'EISDIR'],
  ] as const)
    await t.rejects(
      rotate(join(folder, name), { maxBytes: 64 * KIB, count: 3, checkIntervalMs: 1 }, silent),
      { code },
      name,
    )
  t.ok(readFileSync(own, 'utf8') === text, 'the target is as it was')
  t.same((await readdir(folder)).sort(), ['1.log', '2.log', '3.log', '4.log', 'secret'])

  const log = join(folder, '5.log')
  await writeFile(log, 'l'.repeat(200 * KIB))
  await symlink(own, `${log}.tmp`)
  await rotate(log, { maxBytes: 64 * KIB, count: 3, checkIntervalMs: 1 }, silent)
  t.ok(readFileSync(own, 'utf8') === text, 'nor is anything written through a link')
  t.ok(statSync(log).size <= 64 * KIB, 'the log is cut')
})

t.test('what cannot have a log runs without one', async (t) => {
  const a = owned()
  const r = await rig(t)
  await mkdir(join(r.stateDir, 'logs', `${a.assignment_id}.log`))
  r.supervisor.reconcile([a], { mayStart: true })
  t.match(await r.reached(a, 'running'), { pid: Number })
})

t.test('the keeper rotates what runs, by itself', async (t) => {
  const folder = await temporaryFolder(t)
  const keeper = createLogRotation(folder, silent, {
    maxBytes: 64 * KIB,
    count: 5,
    checkIntervalMs: 10,
  })
  t.teardown(() => keeper.stop())
  await writeFile(keeper.keep('1'), 'x'.repeat(100 * KIB), { flag: 'a' })
  await waitFor(() => existsSync(join(folder, 'logs', '1.log.1.gz')), {
    label: 'the log was rotated',
  })
  keeper.release('1')
  await keeper.stop()
  await keeper.stop()
})
