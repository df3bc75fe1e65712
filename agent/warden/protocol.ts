/**
 * What agent and warden say to each other: lines of JSON over a Unix socket in the agent's folder, which only its owner may enter.
 *
 * `hello` comes first from both sides. One agent at a time has the warden: a second is told `busy` and is hung up on.
 */
import { closeSync, constants, openSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import type { ContainmentLevel } from './containment.js'
import type { About, Exit, StartSpec } from './host.js'

/** Of this language. An agent that finds a warden of another one ends it with all it runs. */
export const PROTOCOL = 1

/** Boot clock; null: has no deadline. The deadline of an epoch is moved on, never back. */
export type LeaseTerm = readonly [
  assignmentId: string,
  epoch: string,
  termAtMs: number | null,
  endAtMs: number | null,
]

export type ToWarden =
  | { t: 'hello'; protocol: number; pid: number }
  | { t: 'start'; spec: StartSpec }
  | { t: 'end'; mark: string; graceMs: number }
  /** Empty is a ping. Answered by `ack`. */
  | { t: 'lease'; nr: number; terms: readonly LeaseTerm[] }

export interface RunningProcess {
  mark: string
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
  | { t: 'started'; mark: string; pid: number; rootPid: number | null; startTicks: number | null }
  | { t: 'exit'; mark: string; exit: Exit }
  | { t: 'fenced'; mark: string }
  | { t: 'gone'; mark: string }
  | { t: 'no_log'; mark: string; code: string | null }
  | { t: 'stuck'; mark: string }

/** Calls back for each message; what is no message ends the connection. */
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

/** The kernel takes about a hundred bytes; what is longer is reached through a descriptor of its folder. */
const LONGEST_ADDRESS_BYTES = 100

/** `release` is to be called when the address has been used; idempotent. */
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
