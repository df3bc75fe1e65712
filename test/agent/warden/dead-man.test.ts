import { spawn } from 'node:child_process'
import { existsSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import { processTable, readProcess, type Process } from '../../../host/process-table.js'
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
  const deadMan = createDeadMan({ sh })
  const doomed = victim(t)
  t.equal(deadMan.arm([{ ...doomed, inMs: 1_000 }]), true)
  rmSync(sh)
  t.equal(deadMan.arm([{ ...doomed, inMs: 1_000 }]), false)
  await waitFor(() => !alive(doomed), { label: 'killed at the deadline of before' })
})

/** The `sleep` of a timer that this process has started. */
const sleepOf = (timer: Process): Process | undefined =>
  [...processTable().values()].find(({ ppid }) => ppid === timer.pid)
const timers = (): Process[] =>
  [...processTable().values()].filter(
    ({ pid, ppid }) => ppid === process.pid && argsOf(pid).includes('mooring-dead-man'),
  )
const argsOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

t.test('a sleep that ends early kills nothing, however often', async (t) => {
  const deadMan = createDeadMan()
  const [spared, witness] = [victim(t), victim(t)]
  deadMan.arm([{ ...spared, inMs: 600_000 }])
  for (let nr = 0; nr < 5; nr++) {
    const sleeping = await waitFor(() => sleepOf(timers()[0]!), { label: 'it sleeps' })
    process.kill(sleeping.pid, 'SIGKILL')
    await waitFor(() => readProcess(sleeping.pid) === null, { label: 'the sleep is gone' })
    await nextTurn()
  }
  const other = createDeadMan()
  other.arm([{ ...witness, inMs: 300 }])
  await waitFor(() => !alive(witness), { label: 'a deadline that is over kills' })
  t.ok(alive(spared))
  deadMan.arm([])
})

t.test('a sleep that ends early does not end the timer: it kills in its time', async (t) => {
  const deadMan = createDeadMan()
  const doomed = victim(t)
  deadMan.arm([{ ...doomed, inMs: 1_500 }])
  const sleeping = await waitFor(() => sleepOf(timers()[0]!), { label: 'it sleeps' })
  process.kill(sleeping.pid, 'SIGKILL')
  await waitFor(() => !alive(doomed), { label: 'killed' })
})

t.test('a timer that is killed is told of, and what it watched lives', async (t) => {
  let ended = 0
  const deadMan = createDeadMan({ onEnded: () => (ended += 1) })
  const spared = victim(t)
  deadMan.arm([{ ...spared, inMs: 600_000 }])
  process.kill(-timers()[0]!.pid, 'SIGKILL')
  await waitFor(() => ended === 1, { label: 'told' })
  t.ok(alive(spared))
  deadMan.arm([{ ...spared, inMs: 600_000 }])
  deadMan.arm([])
  await waitFor(() => timers().length === 0, { label: 'disarmed in order' })
  t.equal(ended, 1)
})

t.test('without sleep or a clock nothing is killed', async (t) => {
  const folder = await temporaryFolder(t)
  const sh = join(folder, 'sh')
  writeFileSync(sh, '#!/bin/sh\nPATH=/nonexistent\nexport PATH\nexec /bin/sh "$@"\n', {
    mode: 0o755,
  })
  let ended = 0
  const deadMan = createDeadMan({ sh, onEnded: () => (ended += 1) })
  const spared = victim(t)
  deadMan.arm([{ ...spared, inMs: 2_000 }])
  await waitFor(() => ended === 1, { label: 'the timer has ended' })
  t.ok(alive(spared))
})

t.test('a timer that cannot be replaced is ended before it kills healthy work', async (t) => {
  const folder = await temporaryFolder(t)
  const sh = join(folder, 'sh')
  symlinkSync('/bin/sh', sh)
  const deadMan = createDeadMan({ sh })
  const [healthy, witness] = [victim(t), victim(t)]
  deadMan.arm([{ ...healthy, inMs: 1_500 }])
  rmSync(sh)
  t.equal(deadMan.arm([{ ...healthy, inMs: 60_000 }]), false)
  t.equal(timers().length, 1, 'the old one is kept as long as possible')
  await waitFor(
    () => {
      deadMan.arm([{ ...healthy, inMs: 60_000 }])
      return timers().length === 0
    },
    { label: 'ended' },
  )
  const other = createDeadMan()
  other.arm([{ ...witness, inMs: 1_500 }])
  await waitFor(() => !alive(witness), { label: 'its deadline has passed' })
  t.ok(alive(healthy))
})

t.test('ended timers leave no sleep behind, and no zombie to process 1', async (t) => {
  const deadMan = createDeadMan()
  const spared = victim(t)
  const sleeps: Process[] = []
  for (let nr = 0; nr < 10; nr++) {
    deadMan.arm([{ ...spared, inMs: 600_000 + nr }])
    sleeps.push(
      await waitFor(
        () =>
          timers()
            .flatMap((timer) => sleepOf(timer) ?? [])
            .at(-1),
        {
          label: 'it sleeps',
        },
      ),
    )
  }
  deadMan.arm([])
  // /proc/PID is there for a zombie too
  await waitFor(() => sleeps.every(({ pid }) => !existsSync(`/proc/${pid}`)), {
    label: 'reaped by their own shells',
  })
})
