/** The log of long-running commands: JSON lines on stderr. stdout is for the command's output. */
import pino from 'pino'
import type { Logger } from 'pino'
import { createUnblockedWriter } from '../host/unblocked-writer.js'

export function createLog(level: string): Logger {
  const stderr = createUnblockedWriter(process.stderr.fd, {
    dropped: (lines) =>
      `${JSON.stringify({
        level: 'warn',
        time: new Date().toISOString(),
        pid: process.pid,
        event: 'log_lines_dropped',
        lines,
        msg: 'this log was not read for a while, so lines of it were dropped',
      })}\n`,
  })
  return pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stderr,
  )
}
