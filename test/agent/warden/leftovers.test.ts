import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { killLeftovers } from '../../../agent/warden/leftovers.js'
import { processTable, readProcess } from '../../../host/process-table.js'
import {
  runIdPrefix,
  newRunId,
  readBootId,
  writeProcessFile,
} from '../../../state-folder/process-files.js'
import type { ProcessFile } from '../../../state-folder/process-files.js'
import { waitFor } from '../../helpers/wait-for.js'
import { alive, owned, printed, rig, silent, temporaryFolder } from '../rig.js'

async function stateDirOf(t: Test): Promise<string> {
  const stateDir = await temporaryFolder(t)
  mkdirSync(join(stateDir, 'runs'))
  return stateDir
}

/** A process that is unrelated to the agent. */
function stranger(t: Test, env: Record<string, string> = {}): number {
  const child = spawn('sleep', ['1000'], {
    detached: true,
    stdio: 'ignore',
    env: { PATH: process.env['PATH']!, ...env },
  })
  const gone = new Promise((resolve) => child.once('exit', resolve))
  t.teardown(() => {
    child.kill('SIGKILL')
    return gone
  })
  return child.pid!
}

function fileFor(stateDir: string, pid: number, more: Partial<ProcessFile> = {}): ProcessFile {
  return {
    assignment_id: '1',
    epoch: '1',
    generation: '1',
    pid,
    start_ticks: readProcess(pid)?.startTicks ?? 1,
    boot_id: readBootId(),
    run_id: newRunId(runIdPrefix(stateDir)),
    ...more,
  }
}

t.test(
  'what an earlier life left running is gone when the agent registers, with its grandchildren',
  async (t) => {
    const first = await rig(t)
    const a = owned({
      script:
        'trap "" TERM; ' +
        'setsid -f sh -c \'trap "" TERM; echo daemon=$$; while :; do sleep 0.05; done\'; ' +
        'echo leader=$$; while :; do sleep 0.05; done',
    })
    first.supervisor.reconcile([a], { mayStart: true })
    const [leader, daemon] = [await printed(first, a, 'leader'), await printed(first, a, 'daemon')]
    // the first supervisor still exists here, but a next life knows only the disk and /proc
    t.ok((await killLeftovers(first.stateDir, silent, { graceMs: 100 })) >= 2)
    t.notOk(alive(leader))
    t.notOk(alive(daemon))
  },
)

t.test(
  'a tree whose leader died is found by its run id, also without a process file',
  async (t) => {
    const stateDir = await stateDirOf(t)
    const pid = stranger(t, { MOORING_RUN: newRunId(runIdPrefix(stateDir)) })
    t.equal(await killLeftovers(stateDir, silent), 1)
    t.notOk(alive(pid))
  },
)

t.test(
  'what was started after the process table was read, in the same turn, is found',
  async (t) => {
    const stateDir = await stateDirOf(t)
    processTable()
    const pid = stranger(t, { MOORING_RUN: newRunId(runIdPrefix(stateDir)) })
    t.equal(await killLeftovers(stateDir, silent), 1)
    t.notOk(alive(pid))
  },
)

t.test('a pid that belongs to another process by now is not killed', async (t) => {
  const stateDir = await stateDirOf(t)
  const pid = stranger(t)
  writeProcessFile(
    stateDir,
    fileFor(stateDir, pid, { start_ticks: readProcess(pid)!.startTicks - 1 }),
  )
  t.equal(await killLeftovers(stateDir, silent), 0)
  t.ok(alive(pid))
})

t.test('the same pid and start time of another boot is not killed', async (t) => {
  const stateDir = await stateDirOf(t)
  const pid = stranger(t)
  writeProcessFile(stateDir, fileFor(stateDir, pid, { boot_id: 'another' }))
  t.equal(await killLeftovers(stateDir, silent), 0)
  t.ok(alive(pid))
})

t.test('the session of an ended process that had the same pid is not killed', async (t) => {
  const stateDir = await stateDirOf(t)
  const shell = spawn('sh', ['-c', 'sleep 1000 & echo $!; exit 0'], {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH: process.env['PATH']! },
  })
  const sleeper = Number(
    await new Promise<string>((resolve) =>
      shell.stdout.once('data', (data: Buffer) => resolve(String(data))),
    ),
  )
  t.teardown(() => {
    if (alive(sleeper)) process.kill(sleeper, 'SIGKILL')
  })
  await waitFor(() => !alive(shell.pid!), { label: 'the leader of the session is gone' })
  writeProcessFile(stateDir, fileFor(stateDir, shell.pid!, { start_ticks: 5 }))
  t.equal(await killLeftovers(stateDir, silent), 0)
  t.ok(alive(sleeper))
})

t.test('processes of another agent on the same host are left alone', async (t) => {
  const [mine, other] = [await stateDirOf(t), await stateDirOf(t)]
  const pid = stranger(t, {
    MOORING_RUN: newRunId(runIdPrefix(other)),
    MOORING_ASSIGNMENT_ID: '1',
    MOORING_EPOCH: '1',
  })
  t.equal(await killLeftovers(mine, silent), 0)
  t.ok(alive(pid))
})

t.test(
  'what an agent of the node left in another folder ends, but nothing of others',
  async (t) => {
    const [mine, other] = [await stateDirOf(t), await stateDirOf(t)]
    const of = (MOORING_OWNER: string, folder = other) =>
      stranger(t, { MOORING_RUN: newRunId(runIdPrefix(folder)), MOORING_OWNER })
    const owner = '7.5.host-a'
    const left = of(owner)
    const kept = of(owner, mine)
    const others = [of('7.5.host-b'), of('7.6.host-a'), of('8.5.host-a'), of('7.5.host-a2')]
    const keep = runIdPrefix(mine)
    t.equal(await killLeftovers(mine, silent, { keep, owner }), 1)
    t.notOk(alive(left))
    t.ok(alive(kept), 'what the warden of this agent runs')
    t.ok(others.every(alive))
  },
)

t.test('the process files of a folder that was copied end nothing', async (t) => {
  const [living, copy] = [await stateDirOf(t), join(await temporaryFolder(t), 'copy')]
  const pid = stranger(t, { MOORING_RUN: newRunId(runIdPrefix(living)) })
  writeProcessFile(living, fileFor(living, pid))
  cpSync(living, copy, { recursive: true })
  t.equal(await killLeftovers(copy, silent), 0)
  t.ok(alive(pid))
})

t.test(
  'a torn or foreign process file stops nothing, and the folder is clean afterwards',
  async (t) => {
    const stateDir = await stateDirOf(t)
    writeFileSync(join(stateDir, 'runs', '1.json'), '{"assignment_id":"1","pi')
    writeFileSync(join(stateDir, 'runs', '2.json'), '{"pid":1}')
    writeFileSync(join(stateDir, 'runs', '3.json'), '')
    writeProcessFile(stateDir, fileFor(stateDir, 999_999_999, { assignment_id: '4' }))
    t.equal(await killLeftovers(stateDir, silent), 0)
    t.strictSame(readdirSync(join(stateDir, 'runs')), [])
  },
)

t.test('a first life has nothing to clean up', async (t) => {
  t.equal(await killLeftovers(join(await temporaryFolder(t), 'agents', 'new'), silent), 0)
})
