/**
 * Each level of containment this host has. All keep the same promises; each adds to what happens
 * when the process that started the workload is killed.
 */
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { withRunIdPrefix, readProcess } from '../../../host/process-table.js'
import { createNamespace } from '../../../agent/warden/namespace.js'
import { runnerScript } from '../../../agent/warden/runner-script.js'
import { CONTAINMENT_LEVELS, detectContainment } from '../../../agent/warden/containment.js'
import type { Containment } from '../../../agent/warden/containment.js'
import { signalProcess } from '../../../agent/warden/process-tree.js'
import { start, startInNamespace } from '../../../agent/warden/spawn.js'
import type { ProcessHandle } from '../../../agent/warden/spawn.js'
import { stopTree } from '../../../agent/warden/stop-tree.js'
import { waitFor } from '../../helpers/wait-for.js'
import { temporaryFolder } from '../rig.js'

const here = CONTAINMENT_LEVELS.map((level) => detectContainment(level)).filter(
  (found, nr) => found.level === CONTAINMENT_LEVELS[nr],
)
let starts = 0

const newRunId = (): string => `containment-test-${process.pid}-${++starts}`
const alive = (runId: string): number => withRunIdPrefix(runId).length

function startIn(
  t: Test,
  { level, wrapper }: Containment,
  cwd: string,
  argv: string[],
): ProcessHandle & { runId: string } {
  const runId = newRunId()
  const spec = { argv, cwd, env: { PATH: process.env['PATH']! }, runId }
  const handle =
    level === 'pid-namespace'
      ? startInNamespace({ ...spec, logFile: null }, () => createNamespace(wrapper, runId))
      : start({ ...spec, logFd: null }, wrapper)
  t.teardown(async () => {
    await stopTree(handle, 0).done
    await handle.close()
  })
  return { ...handle, runId }
}

/** Its grandchild ignores SIGTERM and has left the session. It makes a file when it is ready. */
const RUDE =
  'trap "" TERM; ' +
  'setsid -f sh -c \'trap "" TERM; : > stands; while :; do sleep 0.02; done\'; ' +
  'while :; do sleep 0.02; done'

t.test('at the best level of this host nothing else is asked of it than at the others', (t) => {
  t.ok(here.length >= 1)
  t.comment(`levels here: ${here.map(({ level }) => level).join(', ')}`)
  if (process.platform === 'linux' && process.getuid!() === 0)
    t.equal(here.at(-1)!.level, 'pid-namespace', 'root on Linux has all of them')
  t.equal(detectContainment('process-group').level, 'process-group', 'no more than is asked for')
  t.equal(
    detectContainment('pid-namespace', '/nowhere').level,
    here.at(-1)!.level,
    'whatever the PATH',
  )
  t.end()
})

for (const containment of here) {
  t.test(containment.level, async (t) => {
    t.test("the pid it tells is the workload's own", async (t) => {
      const handle = startIn(t, containment, '/', ['sleep', '1000'])
      const started = await handle.started
      t.equal(readProcess(started!.pid)?.startTicks, started!.startTicks)
      await waitFor(
        () => withRunIdPrefix(handle.runId).length > 0 && /sleep/.test(commandOf(started!.pid)),
        { label: 'it is the program itself' },
      )
    })

    t.test('exit codes and signals are distinguished', async (t) => {
      t.strictSame(await startIn(t, containment, '/', ['sh', '-c', 'exit 3']).exit, {
        code: 3,
        signal: null,
        error: null,
      })
      t.strictSame(await startIn(t, containment, '/', ['true']).exit, {
        code: 0,
        signal: null,
        error: null,
      })
      const killed = startIn(t, containment, '/', ['sleep', '1000'])
      await killed.started
      killed.signalTree('SIGKILL')
      t.strictSame(await killed.exit, { code: null, signal: 'SIGKILL', error: null })
      const asked = startIn(t, containment, '/', ['sleep', '1000'])
      await asked.started
      await stopTree(asked, 60_000).done
      t.strictSame(await asked.exit, { code: null, signal: 'SIGTERM', error: null })
    })

    t.test('what cannot be started says why, and nothing was started', async (t) => {
      const folder = await temporaryFolder(t)
      writeFileSync(join(folder, 'not-executable'), '#!/bin/sh\n')
      writeFileSync(join(folder, 'no-interpreter'), '#!/no/such/interpreter\n')
      chmodSync(join(folder, 'no-interpreter'), 0o755)
      mkdirSync(join(folder, 'a-folder'))
      const why = async (argv: string[], cwd = folder): Promise<string | null> => {
        const handle = startIn(t, containment, cwd, argv)
        t.equal(await handle.started, null)
        return (await handle.exit).error
      }
      t.match(await why(['no-such-program']), /there is no program "no-such-program"/)
      t.match(await why(['./no-interpreter']), /the interpreter it names is missing/)
      t.match(await why(['./not-executable']), /not an executable file/)
      t.match(await why(['./a-folder']), /not an executable file/)
      t.match(await why(['true'], join(folder, 'gone')), /working folder is gone/)
    })

    t.test('a stop takes what left the session and ignores SIGTERM too', async (t) => {
      const folder = await temporaryFolder(t)
      const handle = startIn(t, containment, folder, ['sh', '-c', RUDE])
      await waitFor(() => existsSync(join(folder, 'stands')), { label: 'the grandchild stands' })
      await stopTree(handle, 50).done
      await handle.close()
      t.equal(alive(handle.runId), 0)
    })

    t.test('what a workload leaves behind when it ends is alive until it is stopped', async (t) => {
      const folder = await temporaryFolder(t)
      const handle = startIn(t, containment, folder, [
        'sh',
        '-c',
        "setsid -f sh -c ': > stands; exec sleep 1000'; " +
          'while [ ! -e stands ]; do sleep 0.01; done; exit 5',
      ])
      t.match(await handle.exit, { code: 5 })
      t.equal(handle.treeAlive(), true)
      await stopTree(handle, 60_000).done
      await handle.close()
      t.equal(alive(handle.runId), 0)
    })

    t.test('when the process that started it is killed', async (t) => {
      const folder = await temporaryFolder(t)
      const runId = newRunId()
      const starter = starterOf(containment, folder, runId)
      t.teardown(() => {
        for (const p of withRunIdPrefix(runId)) signalProcess(p, 'SIGKILL')
      })
      await waitFor(() => existsSync(join(folder, 'stands')), { label: 'the grandchild stands' })
      starter.kill('SIGKILL')
      await new Promise((resolve) => starter.once('exit', resolve))
      if (containment.level === 'pid-namespace')
        await waitFor(() => alive(runId) === 0, { label: 'nothing of it is left' })
      else {
        const left =
          containment.level === 'pdeathsig'
            ? 'the workload is dead, but not what left its session'
            : 'all of it lives: only a deadline, or the next agent, ends it'
        const leaders = (): number =>
          withRunIdPrefix(runId).filter((p) => p.sid === p.pid && p.ppid !== 1).length
        if (containment.level === 'pdeathsig')
          await waitFor(() => leaders() === 0, { label: 'the workload is dead' })
        t.ok(alive(runId) > 0, left)
      }
    })
  })
}

/** Another process that starts the rude one and then has to be killed. */
function starterOf(
  { level, wrapper }: Containment,
  cwd: string,
  runId: string,
): ReturnType<typeof spawn> {
  const argv = ['sh', '-c', RUDE]
  const inNamespace = level === 'pid-namespace'
  const [program, ...args] = inNamespace ? wrapper : [...wrapper, ...argv]
  const input = inNamespace
    ? runnerScript({ argv, cwd, env: { PATH: process.env['PATH']! }, runId, logFile: null })
    : ''
  const script = `
    require('node:child_process')
      .spawn(${JSON.stringify(program)}, ${JSON.stringify(args)}, {
        detached: true,
        cwd: ${JSON.stringify(cwd)},
        stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
        env: { ...process.env, MOORING_RUN: ${JSON.stringify(runId)} },
      })
      .stdin.write(${JSON.stringify(input)})
    setInterval(() => {}, 1000)`
  return spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, '-e', script], { stdio: 'ignore' })
}

function commandOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, 'utf8')
}
