/**
 * Redraws a block of lines in place. One write per frame, each line erased only behind its own end, nothing written
 * when nothing changed: no flicker. The block is never higher or wider than the terminal, since a wrapped line would
 * break the arithmetic of the next frame.
 */
export interface Screen {
  draw(lines: readonly string[]): void
  /** A line above the block, which stays. */
  print(line: string): void
  /** Leaves what is drawn standing and gives the cursor back. Idempotent. */
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

/** How many lines a terminal of so many rows shows: the cursor stands below the last one. */
export const roomOf = (rows = 24): number => Math.max(1, rows - 1)

export function createScreen(terminal: Terminal): Screen {
  let drawn: string[] = []
  let hidden = false
  let width = 0

  const back = () => {
    // the terminal re-wraps what it shows when it is resized: how high the old frame is now is unknown, so start below it
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
      terminal.write(
        `${hidden ? '' : HIDE_CURSOR}${BEGIN_FRAME}${start}${frame.map((line) => `${line}${ERASE_LINE}\n`).join('')}${ERASE_BELOW}${END_FRAME}`,
      )
      hidden = true
      drawn = frame
    },
    print(line) {
      const frame = drawn
      const start = back()
      terminal.write(
        `${BEGIN_FRAME}${start}${line}${ERASE_LINE}\n${frame.map((old) => `${old}${ERASE_LINE}\n`).join('')}${ERASE_BELOW}${END_FRAME}`,
      )
      drawn = frame
    },
    close() {
      if (hidden) terminal.write(SHOW_CURSOR)
      hidden = false
      drawn = []
    },
  }
}

/** Cuts a line to so many columns, colour codes not counted, and ends the colours it cut. */
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
