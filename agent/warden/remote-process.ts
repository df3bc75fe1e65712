/** A process that a warden runs, as its agent knows it from the warden's messages. */
import { deferred } from './deferred.js'
import type { Exit, ManagedProcess, StartedProcess } from './process-runner.js'
import type { FromWarden, RunningProcess } from './protocol.js'

export interface RemoteProcess extends ManagedProcess {
  receive(message: Extract<FromWarden, { runId: string }>): void
  /** The warden is lost, and the process has been killed. */
  wardenLost(): void
}

const KILLED: Exit = { code: null, signal: 'SIGKILL', error: null }

export function createRemoteProcess(
  known: Omit<RunningProcess, 'about'> & Pick<ManagedProcess, 'about'>,
  end: (runId: string, graceMs: number) => void,
): RemoteProcess {
  const { runId, about } = known
  let { pid, rootPid } = known
  const started = deferred<StartedProcess | null>()
  const exit = deferred<Exit>()
  const gone = deferred<void>()
  const fenced = deferred<void>()
  if (pid !== null) started.resolve({ pid, startTicks: known.startTicks })
  if (known.exit !== null) exit.resolve(known.exit)
  if (known.fenced) fenced.resolve()

  return {
    runId,
    about,
    pid: () => pid,
    rootPid: () => rootPid,
    started: started.promise,
    startedAtMs: known.startedAtMs,
    exit: exit.promise,
    gone: gone.promise,
    fenced: fenced.promise,
    end: (graceMs) => end(runId, graceMs),
    receive(message) {
      switch (message.t) {
        case 'started':
          ;({ pid, rootPid } = message)
          return started.resolve({ pid: message.pid, startTicks: message.startTicks })
        case 'exit':
          started.resolve(null)
          return exit.resolve(message.exit)
        case 'fenced':
          return fenced.resolve()
        case 'gone':
          return gone.resolve()
        case 'no_log':
        case 'stuck':
          return
      }
    },
    wardenLost() {
      started.resolve(null)
      exit.resolve(KILLED)
      gone.resolve()
    },
  }
}
