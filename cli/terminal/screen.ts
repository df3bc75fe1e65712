/**
 * Redraws a block of lines in place, without flicker: one write for each frame, each line erased
 * behind its own end only, nothing written when nothing changed. The block is never higher or wider
 * than the terminal, because a wrapped line would break the arithmetic of the next frame.
 */
export interface Screen {
  draw(lines: readonly string[]): void
  /** Prints a line above the block. The line stays. */
  print(line: string): void
  /** Leaves the block on the terminal and shows the cursor again. Idempotent. */
  close(): void
}

interface Terminal {
  columns?: number
  rows?: number
  write(text: string): unknown
}

const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'
const BEGIN_FRAME = '\x1b[?2026h'
const END_FRAME = '\x1b[?2026l'
const ERASE_LINE = '\x1b[K'
const ERASE_BELOW = '\x1b[J'

/** How many lines fit into a terminal. The cursor needs the row below the last line. */
export const roomOf = (rows = 24): number => Math.max(1, rows - 1)

export function createScreen(terminal: Terminal): Screen {
  let drawn: string[] = []
  let hidden = false
  let width = 0

  const back = () => {
    // a resized terminal wraps its lines again: the height of the old frame is unknown, start below
    if (terminal.columns !== width && drawn.length > 0) drawn = []
    width = terminal.columns ?? 80
    return drawn.length > 0 ? `\x1b[${drawn.length}A\r` : '\r'
  }

  return {
    draw(lines) {
      const frame = lines
        .slice(0, roomOf(terminal.rows))
        .map((line) => clip(line, (terminal.columns ?? 80) - 1))
      if (
        terminal.columns === width &&
        frame.length === drawn.length &&
        frame.every((line, i) => line === drawn[i])
      )
        return
      const start = back()
      const hide = hidden ? '' : HIDE_CURSOR
      terminal.write(`${hide}${BEGIN_FRAME}${start}${block(frame)}${ERASE_BELOW}${END_FRAME}`)
      hidden = true
      drawn = frame
    },
    print(line) {
      const frame = drawn
      const start = back()
      terminal.write(`${BEGIN_FRAME}${start}${block([line, ...frame])}${ERASE_BELOW}${END_FRAME}`)
      drawn = frame
    },
    close() {
      if (hidden) terminal.write(SHOW_CURSOR)
      hidden = false
      drawn = []
    },
  }
}

const block = (lines: readonly string[]): string =>
  lines.map((line) => `${line}${ERASE_LINE}\n`).join('')

/** Cuts a line to a number of columns and ends its colours. Colour codes take no column. */
export function clip(line: string, columns: number): string {
  let room = columns
  let cut = ''
  // eslint-disable-next-line no-control-regex
  for (const [piece] of line.matchAll(/\x1b\[[\d;]*m|[^\x1b]/gu)) {
    if (piece.startsWith('\x1b')) cut += piece
    else if (room-- > 0) cut += piece
    else return `${cut}\x1b[0m`
  }
  return cut
}
