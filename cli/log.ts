/** The log of long-running commands: JSON lines on stderr. stdout is for the command's output. */
import pino from 'pino'
import type { Logger } from 'pino'

/** Bytes of lines that wait to be written. */
const MOST_KEPT = 1 << 20

export function createLog(level: string): Logger {
  // synchronous, so that the last line before an exit is written
  const stderr = pino.destination({ fd: 2, sync: true, maxLength: MOST_KEPT })
  // a full disk loses the log and does not end the process
  stderr.on('error', () => {})
  return pino(
    { level, base: { pid: process.pid }, formatters: { level: (label) => ({ level: label }) } },
    stderr,
  )
}
