import { spawn } from 'node:child_process'
import { rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { readProcess } from '../../../host/process-table.js'
import { createDeadMan } from '../../../agent/warden/dead-man.js'
import { temporaryFolder } from '../rig.js'
import { waitFor } from '../../helpers/wait-for.js'

function victim(t: Test): { pid: number; startTicks: number | null } {
  const child = spawn('sh', ['-c', 'trap "" TERM; while :; do sleep 0.02; done'], {
    detached: true,
    stdio: 'ignore',
  })
  t.teardown(() => {
    child.kill('SIGKILL')
  })
  return { pid: child.pid!, startTicks: readProcess(child.pid!)!.startTicks }
}

const alive = ({ pid }: { pid: number }): boolean => readProcess(pid) !== null

t.test(
  'each is killed at its own time, and what is another process by then is left alone',
  async (t) => {
    const deadMan = createDeadMan()
    const [soon, later, reused] = [victim(t), victim(t), victim(t)]
    deadMan.arm([
      { ...later, inMs: 5_000 },
      { ...soon, inMs: 50 },
      { ...reused, startTicks: reused.startTicks! - 1, inMs: 50 },
    ])
    await waitFor(() => !alive(soon), { label: 'the first is dead' })
    t.ok(alive(later), 'the second has its time')
    await waitFor(() => !alive(later), { label: 'the second is dead' })
    t.ok(alive(reused))
  },
)

t.test(
  'armed again, the earlier deadline no longer counts; armed with nothing, nothing is killed',
  async (t) => {
    const deadMan = createDeadMan()
    const [moved, freed, witness] = [victim(t), victim(t), victim(t)]
    deadMan.arm([
      { ...moved, inMs: 4_000 },
      { ...freed, inMs: 4_000 },
    ])
    deadMan.arm([{ ...moved, inMs: 600_000 }])
    const other = createDeadMan()
    other.arm([{ ...witness, inMs: 5_000 }])
    await waitFor(() => !alive(witness), { label: 'the first deadline has passed' })
    t.ok(alive(moved) && alive(freed))
    deadMan.arm([])
  },
)

t.test('where the next timer cannot be started, the one of before goes on', async (t) => {
  const folder = await temporaryFolder(t)
  const sh = join(folder, 'sh')
  symlinkSync('/bin/sh', sh)
  const deadMan = createDeadMan(sh)
  const doomed = victim(t)
  t.equal(deadMan.arm([{ ...doomed, inMs: 1_000 }]), true)
  rmSync(sh)
  t.equal(deadMan.arm([{ ...doomed, inMs: 60_000 }]), false)
  await waitFor(() => !alive(doomed), { label: 'killed at the deadline of before' })
})
