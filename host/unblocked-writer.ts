/**
 * Writes lines to a descriptor of this process and never waits for its reader. A stopped terminal,
 * a full pipe or a stuck log shipper must stop neither beats nor rounds.
 *
 * A pipe or terminal is opened a second time, without blocking. Changing the descriptor itself
 * would change it for the other programs that share it. A socket is never blocked by Node. A file
 * takes what it gets, and a full disk loses the line.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'

export interface UnblockedWriter {
  /** The line ends with a line feed. */
  write(line: string): void
}

export interface UnblockedWriterOptions {
  /** Bytes that wait for the reader. Lines beyond them are dropped. */
  mostWaiting?: number
  /** The line that says how many were dropped, once the reader reads again. */
  dropped(lines: number): string
}

const MOST_WAITING = 1 << 20
const AGAIN_MS = 100

export function createUnblockedWriter(
  fd: number,
  { mostWaiting = MOST_WAITING, dropped }: UnblockedWriterOptions,
): UnblockedWriter {
  const put = putterFor(fd)
  let waiting: Buffer[] = []
  let bytes = 0
  let lost = 0
  let timer: NodeJS.Timeout | undefined

  function flush(): void {
    timer = undefined
    while (waiting.length > 0) {
      const first = waiting[0]!
      const taken = put(first)
      if (taken === null) {
        // the reader is gone, or the disk is full
        waiting = []
        bytes = 0
        break
      }
      bytes -= taken
      if (taken < first.length) {
        waiting[0] = first.subarray(taken)
        break
      }
      waiting.shift()
    }
    if (waiting.length > 0) timer = setTimeout(flush, AGAIN_MS).unref()
    else if (lost > 0) {
      const lines = lost
      lost = 0
      add(dropped(lines))
    }
  }

  function add(line: string): void {
    const data = Buffer.from(line)
    if (bytes > 0 && bytes + data.length > mostWaiting) {
      lost += 1
      return
    }
    waiting.push(data)
    bytes += data.length
    if (timer === undefined) flush()
  }

  return { write: add }
}

/** Writes what is taken at once. Returns how many bytes; null: nothing ever will be. */
function putterFor(fd: number): (data: Buffer) => number | null {
  const kind = fstatSync(fd)
  if (kind.isSocket()) {
    const socket = new Socket({ fd, readable: false, writable: true })
    socket.on('error', () => {})
    socket.unref()
    return (data) => {
      if (socket.destroyed) return null
      if (socket.writableLength > MOST_WAITING) return 0
      socket.write(data)
      return data.length
    }
  }
  let at = fd
  if (kind.isFIFO() || kind.isCharacterDevice())
    try {
      at = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK)
    } catch {
      // no /proc, or a terminal of another user: as it is
    }
  return (data) => {
    try {
      return writeSync(at, data)
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EAGAIN' ? 0 : null
    }
  }
}
