import { spawn } from 'node:child_process'
import t from 'tap'
import type { Test } from 'tap'
import { createRestartedChild } from '../../host/restarted-child.js'
import type { ChildOptions } from '../../host/restarted-child.js'
import { waitFor } from '../helpers/wait-for.js'

/** A child that runs a line of shell; what it becomes is noted. */
function child(t: Test, line: string, more: Partial<ChildOptions> = {}) {
  const states: string[] = []
  const made = createRestartedChild({
    spawn: () => spawn('sh', ['-c', line], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] }),
    explain: ({ how }) => how,
    isFinal: ({ exitCode }) => exitCode === 2,
    onChange: () => {
      states.push(made.state().state)
    },
    firstBackoffMs: 10,
    maxBackoffMs: 40,
    stableMs: 60_000,
    killAfterMs: 200,
    ...more,
  })
  t.teardown(() => {
    made.force()
    return made.stop()
  })
  return {
    ...made,
    states,
    was: (state: string) => waitFor(() => states.includes(state), { label: state }),
  }
}

t.test('a child that ends by itself is started again, after longer and longer waits', async (t) => {
  const notes = new Set<string>()
  const failing = child(t, 'exit 7', { onChange: () => notes.add(failing.state().note ?? '') })
  failing.start()
  await waitFor(() => failing.state().restarts >= 4, { label: 'four restarts' })
  await failing.stop()
  for (const wait of ['0.01', '0.02', '0.04'])
    t.ok(notes.has(`exited with 7; again in ${wait} s`), wait)
})

t.test('a child that would end the same way again is not restarted', async (t) => {
  const wrong = child(t, 'exit 2')
  wrong.start()
  await wrong.was('failed')
  t.match(wrong.state(), { state: 'failed', pid: null, restarts: 0, note: 'exited with 2' })
})

t.test('a stopped child is gone and stays so; stop may be called before start', async (t) => {
  const sleeper = child(t, 'exec sleep 60')
  sleeper.start()
  const { pid } = sleeper.state()
  await Promise.all([sleeper.stop(), sleeper.stop()])
  t.same(sleeper.states.at(-1), 'stopped')
  t.throws(() => process.kill(pid!, 0), { code: 'ESRCH' })
  sleeper.start()
  t.equal(sleeper.state().pid, null)
  const never = child(t, 'exec sleep 60')
  await never.stop()
  never.start()
  t.equal(never.state().pid, null)
})

t.test('a child that ignores SIGTERM is killed once it is forced', async (t) => {
  const stubborn = child(t, 'trap "" TERM; while :; do sleep 0.05; done')
  stubborn.start()
  const stopped = stubborn.stop()
  stubborn.force()
  await stopped
  t.equal(stubborn.state().state, 'stopped')
})

t.test('restart starts another process, and not after a stop', async (t) => {
  const sleeper = child(t, 'exec sleep 60')
  await sleeper.restart()
  t.equal(sleeper.state().pid, null, 'it was never started')
  sleeper.start()
  const first = sleeper.state().pid
  await sleeper.restart()
  t.not(sleeper.state().pid, first)
  const [again] = [sleeper.restart(), sleeper.stop()]
  await again
  t.equal(sleeper.state().pid, null)
})
