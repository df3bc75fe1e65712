import { existsSync } from 'node:fs'
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { start } from '../../../agent/warden/spawn.js'
import type { ProcessHandle, SpawnSpec } from '../../../agent/warden/spawn.js'
import { startProblem } from '../../../agent/warden/start-errors.js'
import { stopTree } from '../../../agent/warden/stop-tree.js'
import { readProcess } from '../../../host/process-table.js'
import { temporaryFolder } from '../rig.js'

let starts = 0

function startIn(
  t: Test,
  cwd: string,
  argv: string[],
  more: Partial<SpawnSpec> = {},
): ProcessHandle {
  const handle = start({
    argv,
    cwd,
    env: { PATH: process.env['PATH']! },
    logFd: null,
    runId: `spawn-test-${process.pid}-${++starts}`,
    ...more,
  })
  t.teardown(() => stopTree(handle, 0).done)
  return handle
}

t.test('what is started leads a session and a process group of its own', async (t) => {
  const handle = startIn(t, await temporaryFolder(t), ['sleep', '1000'])
  t.match(readProcess(handle.root!.pid), {
    pgid: handle.root!.pid,
    sid: handle.root!.pid,
    ppid: process.pid,
    startTicks: handle.root!.startTicks!,
  })
  t.equal(handle.treeAlive(), true)
})

t.test('exit code and signal are distinguished', async (t) => {
  const folder = await temporaryFolder(t)
  t.strictSame(await startIn(t, folder, ['sh', '-c', 'exit 3']).exit, {
    code: 3,
    signal: null,
    error: null,
  })
  const killed = startIn(t, folder, ['sleep', '1000'])
  killed.signalTree('SIGKILL')
  t.strictSame(await killed.exit, { code: null, signal: 'SIGKILL', error: null })
})

t.test('what cannot be started says why in one sentence, and is nothing to stop', async (t) => {
  const folder = await temporaryFolder(t)
  await mkdir(join(folder, 'a-folder'))
  await writeFile(join(folder, 'not-executable'), '#!/bin/sh\n')
  await writeFile(join(folder, 'no-interpreter'), '#!/no/such/interpreter\n')
  await chmod(join(folder, 'no-interpreter'), 0o755)
  const errorOf = async (argv: string[], more: Partial<SpawnSpec> = {}): Promise<string | null> => {
    const handle = startIn(t, folder, argv, more)
    t.equal(handle.root, null)
    t.equal(handle.treeAlive(), false)
    return (await handle.exit).error
  }
  t.match(
    await errorOf(['no-such-program']),
    /there is no program "no-such-program" on this host.*ENOENT/,
  )
  t.match(await errorOf(['node server.js']), /a command is one program and no shell reads it/)
  t.match(await errorOf(['./no-interpreter']), /the interpreter it names is missing/)
  t.match(await errorOf(['./not-executable']), /is not an executable file \(EACCES\)/)
  t.match(await errorOf(['./a-folder']), /is not an executable file \(EACCES\)/)
  t.match(await errorOf(['sleep'], { cwd: join(folder, 'gone') }), /working folder is gone/)
  t.match(await errorOf(['']), /the command is empty/)
  t.match(await errorOf(['sl\0eep']), /the command contains a NUL character/)
  t.match(await errorOf(['sleep', '1', 'x\0']), /argument 2 contains a NUL character/)
  t.match(await errorOf(['sleep'], { env: { 'A=B': '' } }), /name of an environment variable/)
  t.match(await errorOf(['sleep'], { env: { PATH: '/bin', BIG: 'x'.repeat(200_000) } }), /E2BIG/)
  t.match(
    await errorOf(['sleep', ...Array.from({ length: 40 }, () => 'x'.repeat(100_000))]),
    /E2BIG/,
  )
})

t.test(
  'whatever a row names, it is found out why it cannot be started, and nothing is thrown',
  async (t) => {
    const folder = await temporaryFolder(t)
    await writeFile(join(folder, 'a-file'), '')
    await symlink('loop', join(folder, 'loop'))
    const why = (program: string, more: Partial<SpawnSpec> = {}): string | null =>
      startProblem(
        { argv: [program], cwd: folder, env: { PATH: process.env['PATH']! }, ...more },
        true,
      )
    t.match(why('x'.repeat(300)), /there is no program/)
    t.match(why(`/${'x/'.repeat(3_000)}`), /there is no program/)
    t.match(why(join(folder, 'a-file', 'program')), /there is no program/)
    t.match(why(join(folder, 'loop')), /there is no program/)
    t.match(
      why('no-such-program', {
        env: { PATH: `${join(folder, 'a-file')}:${join(folder, 'loop')}:/bin` },
      }),
      /there is no program/,
    )
    t.match(why('sleep', { cwd: `/${'x'.repeat(300)}` }), /working folder is gone/)
    t.equal(why('sleep'), null)
  },
)

t.test('a value of the environment is never quoted', async (t) => {
  const { error } = await startIn(t, await temporaryFolder(t), ['sleep'], {
    env: { TOKEN: 'hunter2\0' },
  }).exit
  t.match(error, /environment variable TOKEN contains a NUL/)
  t.notMatch(error, /hunter2/)
})

t.test('no shell reads program or arguments', async (t) => {
  const folder = await temporaryFolder(t)
  t.match(
    (await startIn(t, folder, ['echo $(touch pwned); true']).exit).error,
    /there is no program/,
  )
  await startIn(t, folder, ['echo', '; touch pwned']).exit
  t.equal(existsSync(join(folder, 'pwned')), false)
})
