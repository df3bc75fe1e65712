/** How many test files run at a time: one for each core, and more while the cores stay idle. */
import { availableParallelism, cpus } from 'node:os'

const LOOK_MS = 500
/** One more file starts when this share of all cores is idle: a file that computes needs a core. */
const IDLE_SHARE = 0.25
const CORES = availableParallelism()
const MOST = 4 * CORES

/**
 * Runs all tasks, in their order. Most files wait for leases and processes, so many of them run
 * beside each other on an idle machine. On a busy machine each has its core.
 */
export async function runTogether(tasks, run, signal) {
  const left = [...tasks]
  const running = new Set()
  let wake = () => {}
  const start = (task) => {
    const ended = run(task).finally(() => {
      running.delete(ended)
      wake()
    })
    running.add(ended)
  }
  let idle = idleShare()
  while (left.length > 0 && !signal.aborted) {
    if (running.size < CORES) {
      start(left.shift())
      continue
    }
    await new Promise((done) => {
      const timer = setTimeout(done, LOOK_MS)
      wake = () => {
        if (running.size >= CORES) return
        clearTimeout(timer)
        done()
      }
    })
    // at most one at a time: the next measurement includes it
    if (idle() > IDLE_SHARE && running.size < MOST && left.length > 0) start(left.shift())
  }
  await Promise.all(running)
}

/** Answers which share of all cores was idle since the last answer. */
function idleShare() {
  const read = () => {
    const times = cpus().map((cpu) => cpu.times)
    const sum = (of) => times.reduce((total, time) => total + of(time), 0)
    return {
      idle: sum(({ idle }) => idle),
      all: sum((time) => Object.values(time).reduce((a, b) => a + b)),
    }
  }
  let last = read()
  return () => {
    const now = read()
    const share = (now.idle - last.idle) / Math.max(now.all - last.all, 1)
    last = now
    return share
  }
}
