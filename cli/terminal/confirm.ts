/** Asks before a change that cannot be undone. Without a terminal the option --yes is needed. */
import { createInterface } from 'node:readline/promises'
import { CommandError, UsageError } from '../errors.js'
import { printable } from './text.js'

const SHOWN = 10

export async function confirm(
  what: string,
  names: readonly string[],
  { yes }: { yes?: boolean },
): Promise<void> {
  if (yes) return
  const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : ''
  const list = `${names.slice(0, SHOWN).map(printable).join(', ')}${more}`
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw new UsageError(
      `${what} ${list} needs a yes, and there is no terminal to ask`,
      'add --yes',
    )
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await terminal.question(`${what} ${list}? [y/N] `)
    if (!/^y(es)?$/i.test(answer.trim())) throw new CommandError('nothing was changed')
  } finally {
    terminal.close()
  }
}
