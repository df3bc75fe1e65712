/**
 * What becomes of the output: a reader that has seen enough is no failure, a disk that is full is one, and nothing of what was printed is lost at the end.
 *
 * Not for what runs on whatever happens to its output (`up`, `agent`, `worker`): a full disk costs these their words, and not the work on this host.
 */
import { CommandError, EXIT_DONE } from '../errors.js'

const REASONS: Record<string, string> = {
  ENOSPC: 'no space left on device',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file would be too large',
  EIO: 'the device fails',
}
/** What must end does not wait for a reader that has stopped reading. */
const LAST_WORDS_MS = 1_000

/** Calls `failed` once when the output cannot be written. A pipe whose reader has gone ends the process, at the next line: Node has no way to learn of it before. */
export function watchOutput(failed: (error: CommandError) => void): void {
  let over = false
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT_DONE)
    if (over) return
    over = true
    failed(
      new CommandError(
        `cannot write the output: ${REASONS[error.code ?? ''] ?? error.message}`,
        'what was written is not whole',
      ),
    )
  })
  // nowhere is left to say it
  process.stderr.on('error', () => {})
}

/** Exits when everything that was printed is written: a pipe takes 64 KiB, and the rest waits in this process for its reader. */
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
  // undefined would put back the exit code that a command has set
  const exit = (): never => process.exit(code ?? process.exitCode)
  if (mustEnd) setTimeout(exit, LAST_WORDS_MS)
  await written
  return exit()
}
