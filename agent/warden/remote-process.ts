/** A process that a warden runs, as its agent knows it: from what the warden says. */
import type { Exit, HostedProcess, StartedProcess } from './host.js'
import type { FromWarden, RunningProcess } from './protocol.js'

export interface RemoteProcess extends HostedProcess {
  tell(message: Extract<FromWarden, { mark: string }>): void
  /** The warden is lost, and what it ran has been killed. */
  lose(): void
}

const KILLED: Exit = { code: null, signal: 'SIGKILL', error: null }

export function createRemoteProcess(
  known: Omit<RunningProcess, 'about'> & Pick<HostedProcess, 'about'>,
  end: (mark: string, graceMs: number) => void,
): RemoteProcess {
  const { mark, about } = known
  let { pid, rootPid } = known
  const started = defer<StartedProcess | null>()
  const exit = defer<Exit>()
  const gone = defer<void>()
  const fenced = defer<void>()
  if (pid !== null) started.resolve({ pid, startTicks: known.startTicks })
  if (known.exit !== null) exit.resolve(known.exit)
  if (known.fenced) fenced.resolve()

  return {
    mark,
    about,
    pid: () => pid,
    rootPid: () => rootPid,
    started: started.promise,
    startedAtMs: known.startedAtMs,
    exit: exit.promise,
    gone: gone.promise,
    fenced: fenced.promise,
    end: (graceMs) => end(mark, graceMs),
    tell(message) {
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
    lose() {
      started.resolve(null)
      exit.resolve(KILLED)
      gone.resolve()
    },
  }
}

function defer<T>(): { promise: Promise<T>; resolve(value: T): void } {
  let resolve: (value: T) => void = () => {}
  const promise = new Promise<T>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
