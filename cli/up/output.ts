/**
 * The output of `mooring up`: a table drawn in place on a terminal, else a line for each change.
 */
import { frameOf } from './frame.js'
import { jsonLine } from '../terminal/json.js'
import { printable } from '../terminal/text.js'
import { createScreen } from '../terminal/screen.js'
import { changeLine, changesBetween, NOTHING } from './snapshot.js'
import type { Change, Snapshot } from './snapshot.js'

export interface UpOutput {
  note(text: string): void
  show(snapshot: Snapshot, footer: string): void
  /** Removes the table. Notes may follow. Idempotent. */
  close(): void
}

export interface OutputStream {
  isTTY?: boolean
  columns?: number
  rows?: number
  write(text: string): unknown
}

export function createUpOutput(stream: OutputStream, asJson: boolean): UpOutput {
  return stream.isTTY && !asJson && process.env['TERM'] !== 'dumb'
    ? onTerminal(stream)
    : onPipe(stream, asJson)
}

function onTerminal(stream: OutputStream): UpOutput {
  const screen = createScreen(stream)
  return {
    note: (text) => {
      text.split('\n').forEach((line) => {
        screen.print(printable(line))
      })
    },
    show: (snapshot, footer) => {
      screen.draw(frameOf(snapshot, { rows: stream.rows ?? 24, footer }))
    },
    close: () => {
      screen.draw([])
      screen.close()
    },
  }
}

function onPipe(stream: OutputStream, asJson: boolean): UpOutput {
  let before: Snapshot = NOTHING
  const say = (change: Change) => {
    stream.write(
      asJson
        ? jsonLine({ at: new Date().toISOString(), ...change })
        : `${printable(changeLine(change))}\n`,
    )
  }
  return {
    note: (text) => {
      text.split('\n').forEach((line) => {
        say({ type: 'note', text: line })
      })
    },
    show(snapshot) {
      for (const change of changesBetween(before, snapshot)) say(change)
      before = snapshot
    },
    close() {},
  }
}
