/** The log of long-running commands: JSON lines on stderr, since stdout belongs to what a command prints. */
import pino from 'pino'
import type { Logger } from 'pino'

/** Of lines that could not be written yet. */
const MOST_KEPT = 1 << 20

export function createLog(level: string): Logger {
  // synchronous: the last line before an exit is the one that matters
  const stderr = pino.destination({ fd: 2, sync: true, maxLength: MOST_KEPT })
  // a full disk costs the log, and not what runs here
  stderr.on('error', () => {})
  return pino(
    { level, base: { pid: process.pid }, formatters: { level: (label) => ({ level: label }) } },
    stderr,
  )
}
