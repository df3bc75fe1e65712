/**
 * Redraws a block of lines in place, without flicker: one write for each frame, each line erased
 * behind its own end only, nothing written when nothing changed. The block is never higher or wider
 * than the terminal, because a wrapped line would break the arithmetic of the next frame. When the
 * size of the terminal changes, the block is drawn again on an empty screen.
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
  on?(event: 'resize', listener: () => void): unknown
  off?(event: 'resize', listener: () => void): unknown
}

const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'
const BEGIN_FRAME = '\x1b[?2026h'
const END_FRAME = '\x1b[?2026l'
const CLEAR = '\x1b[H\x1b[2J'
const ERASE_LINE = '\x1b[K'
const ERASE_BELOW = '\x1b[J'

/** How many lines fit into a terminal. The cursor needs the row below the last line. */
export const roomOf = (rows = 24): number => Math.max(1, rows - 1)

export function createScreen(terminal: Terminal): Screen {
  let wanted: readonly string[] = []
  let drawn: string[] = []
  let hidden = false
  let size = ''

  const frame = () =>
    wanted.slice(0, roomOf(terminal.rows)).map((line) => clip(line, (terminal.columns ?? 80) - 1))
  const sizeNow = () => `${terminal.columns} x ${terminal.rows}`
  /** To the first line of the old frame. */
  const back = () => {
    const resized = size !== sizeNow() && drawn.length > 0
    size = sizeNow()
    // a resized terminal wraps its lines again: where the old frame begins is unknown
    if (resized) return CLEAR
    return drawn.length > 0 ? `\x1b[${drawn.length}A\r` : '\r'
  }
  const redraw = () => {
    const next = frame()
    if (
      size === sizeNow() &&
      next.length === drawn.length &&
      next.every((line, i) => line === drawn[i])
    )
      return
    const start = back()
    const hide = hidden ? '' : HIDE_CURSOR
    terminal.write(`${hide}${BEGIN_FRAME}${start}${block(next)}${ERASE_BELOW}${END_FRAME}`)
    hidden = true
    drawn = next
  }
  const onResize = () => {
    if (drawn.length > 0) redraw()
  }
  terminal.on?.('resize', onResize)

  return {
    draw(lines) {
      wanted = lines
      redraw()
    },
    print(line) {
      const start = back()
      const next = drawn.length > 0 ? frame() : []
      terminal.write(`${BEGIN_FRAME}${start}${block([line, ...next])}${ERASE_BELOW}${END_FRAME}`)
      drawn = next
    },
    close() {
      terminal.off?.('resize', onResize)
      if (hidden) terminal.write(SHOW_CURSOR)
      hidden = false
      wanted = drawn = []
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
