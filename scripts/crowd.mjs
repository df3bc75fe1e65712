/**
 * How many files run at a time: as many as there are cores, and more as long as these leave the
 * cores idle.
 */
import { availableParallelism, cpus } from 'node:os'

const LOOK_MS = 500
/**
 * A file that computes takes one of two cores; below this share it would only slow the others down.
 */
const IDLE_SHARE = 0.25
const CORES = availableParallelism()
const MOST = 4 * CORES

/**
 * Runs all tasks, in their order. Most files wait for leases and processes: on a machine that has
 * nothing else to do many of them run beside each other; on one that is busy, each has its core.
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
    // at most one per look: the next look observes what it uses
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
