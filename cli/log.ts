/** The log of long-running commands: JSON lines on stderr, since stdout belongs to what a command prints. */
import pino from 'pino'
import type { Logger } from 'pino'

export function createLog(level: string): Logger {
  // synchronous: the last line before an exit is the one that matters
  return pino({ level, base: { pid: process.pid }, formatters: { level: (label) => ({ level: label }) } }, pino.destination({ fd: 2, sync: true }))
}
