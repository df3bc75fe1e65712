/**
 * What happens when the output cannot be written. A reader that closes its pipe is no failure. A
 * full disk is one. At the end of a command everything it printed has been written.
 *
 * `up`, `agent` and `worker` go on without their output: a full disk must not stop the workloads.
 */
import { CommandError, EXIT_DONE } from '../errors.js'

const REASONS: Record<string, string> = {
  ENOSPC: 'no space left on device',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file would be too large',
  EIO: 'the device fails',
}
/** How long a process that must end waits for a reader that has stopped reading. */
const LAST_WORDS_MS = 1_000

/**
 * Calls `failed` once when the output cannot be written. When the reader of a pipe has gone, the
 * next line ends the process: Node has no earlier sign of it.
 */
export function watchOutput(failed: (error: CommandError) => void): void {
  let reported = false
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT_DONE)
    if (reported) return
    reported = true
    failed(
      new CommandError(
        `cannot write the output: ${REASONS[error.code ?? ''] ?? error.message}`,
        'the written part is incomplete',
      ),
    )
  })
  // no stream is left to report this on
  process.stderr.on('error', () => {})
}

/**
 * Exits once everything printed is written. A pipe takes 64 KiB; the rest waits in this process.
 */
export async function exitWhenWritten(code: number | undefined, mustEnd: boolean): Promise<never> {
  const written = Promise.all(
    [process.stdout, process.stderr].map(
      (stream) =>
        new Promise<void>((resolve) => {
          stream.write('', () => {
            resolve()
          })
        }),
    ),
  )
  // an explicit undefined would clear the exit code that a command has set
  const exit = (): never => process.exit(code ?? process.exitCode)
  if (mustEnd) setTimeout(exit, LAST_WORDS_MS)
  await written
  return exit()
}

export function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`)
}
