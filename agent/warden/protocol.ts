/**
 * The messages between agent and warden: lines of JSON over a Unix socket in the agent's folder,
 * which only its owner may enter. Each side sends `hello` first. A warden serves one agent at a
 * time: a second one gets `busy`, and the warden closes its connection.
 */
import { closeSync, constants, openSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import type { ContainmentLevel } from './containment.js'
import type { About, Exit, StartSpec } from './process-runner.js'

/** Version of the protocol. An agent ends a warden of another version, with all it runs. */
export const PROTOCOL = 2

/** Of one lease, on the boot clock: SIGTERM at termAtMs, nothing of it lives at endAtMs. */
export interface Deadlines {
  termAtMs: number
  endAtMs: number
}

/** As Deadlines; null: no deadline. A renewal only ever extends a deadline. */
export type LeaseTerm = readonly [
  assignmentId: string,
  epoch: string,
  termAtMs: Deadlines['termAtMs'] | null,
  endAtMs: Deadlines['endAtMs'] | null,
]

export type ToWarden =
  | { t: 'hello'; protocol: number; pid: number }
  | { t: 'start'; spec: StartSpec }
  | { t: 'end'; runId: string; graceMs: number }
  /** Empty terms are a ping. The answer is `ack`. */
  | { t: 'lease'; nr: number; terms: readonly LeaseTerm[] }

export interface RunningProcess {
  runId: string
  about: About
  pid: number | null
  rootPid: number | null
  startTicks: number | null
  startedAtMs: number
  exit: Exit | null
  fenced: boolean
}

export type FromWarden =
  | {
      t: 'hello'
      protocol: number
      id: string
      pid: number
      containment: ContainmentLevel
      running: readonly RunningProcess[]
    }
  | { t: 'busy'; pid: number }
  | { t: 'ack'; nr: number }
  | { t: 'started'; runId: string; pid: number; rootPid: number | null; startTicks: number | null }
  | { t: 'exit'; runId: string; exit: Exit }
  | { t: 'fenced'; runId: string }
  | { t: 'gone'; runId: string }
  | { t: 'no_log'; runId: string; code: string | null }
  | { t: 'stuck'; runId: string }
  /** No dead-man timer could be started: the warden alone keeps the deadlines. `armed` ends it. */
  | { t: 'unarmed' }
  | { t: 'armed' }

/** Calls onMessage for each message. A line that is not JSON ends the connection. */
export function receive<Message>(socket: Socket, onMessage: (message: Message) => void): void {
  let rest = ''
  socket.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    for (const line of lines) {
      let message: Message
      try {
        message = JSON.parse(line) as Message
      } catch {
        socket.destroy()
        return
      }
      onMessage(message)
    }
  })
}

export function send(socket: Socket, message: ToWarden | FromWarden): void {
  if (!socket.destroyed && socket.writable) socket.write(`${JSON.stringify(message)}\n`)
}

/**
 * The kernel accepts socket paths of about a hundred bytes.
 * A longer one is reached through a descriptor of its folder.
 */
const LONGEST_ADDRESS_BYTES = 100

/** Call `release` once the address has been used. It is idempotent. */
export function addressOf(folder: string): { address: string; release(): void } {
  const address = join(folder, 'warden.sock')
  if (Buffer.byteLength(address) <= LONGEST_ADDRESS_BYTES || process.platform !== 'linux')
    return { address, release() {} }
  let fd: number | null = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  return {
    address: `/proc/self/fd/${fd}/warden.sock`,
    release() {
      if (fd !== null) closeSync(fd)
      fd = null
    },
  }
}
