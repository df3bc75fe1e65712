import t from 'tap'
import { clip, createScreen } from '../../../cli/terminal/screen.js'

/** As much of a terminal as the screen uses: cursor up, erase to the end of line, erase below. */
function terminal(columns = 40, rows = 10) {
  const shown: string[] = ['']
  let row = 0
  let writes = 0
  const listeners = new Set<() => void>()
  return {
    columns,
    rows,
    on: (_: 'resize', listener: () => void) => listeners.add(listener),
    off: (_: 'resize', listener: () => void) => listeners.delete(listener),
    /** Each line of the old width is wrapped into two of the new one. */
    narrow(to: number) {
      this.columns = to
      shown.splice(0, shown.length - 1, ...shown.slice(0, -1).flatMap((line) => [line, '~']))
      row = shown.length - 1
      listeners.forEach((listener) => {
        listener()
      })
    },
    listeners,
    shown: () => shown.filter((line, i) => line !== '' || i < shown.length - 1),
    writes: () => writes,
    write(text: string) {
      writes += 1
      // eslint-disable-next-line no-control-regex
      for (const [piece] of text.matchAll(/\x1b\[\??[\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+/g)) {
        const up = /^\x1b\[(\d+)A$/.exec(piece)
        if (up) row -= Number(up[1])
        else if (piece === '\n') shown[(row += 1)] ??= ''
        else if (piece === '\x1b[H') row = 0
        else if (piece === '\x1b[2J') (shown.splice(0), shown.push(''))
        else if (piece === '\x1b[J') (shown.splice(row), shown.push(''))
        else if (piece !== '\r' && !piece.startsWith('\x1b')) shown[row] = piece
        else if (piece === '\x1b[K') continue
      }
    },
  }
}

t.test('a frame takes the place of the one before', async (t) => {
  const tty = terminal()
  const screen = createScreen(tty)
  screen.draw(['one', 'two', 'three'])
  screen.draw(['one', 'zwei'])
  t.same(tty.shown(), ['one', 'zwei'])
})

t.test('a printed line stays above the frame', async (t) => {
  const tty = terminal()
  const screen = createScreen(tty)
  screen.draw(['frame'])
  screen.print('note')
  screen.draw(['frame 2'])
  t.same(tty.shown(), ['note', 'frame 2'])
})

t.test('nothing is written when nothing changed, and a frame is one write', async (t) => {
  const tty = terminal()
  const screen = createScreen(tty)
  screen.draw(['a', 'b'])
  screen.draw(['a', 'b'])
  t.equal(tty.writes(), 1)
})

t.test('a frame is never higher or wider than the terminal', async (t) => {
  const tty = terminal(6, 3)
  createScreen(tty).draw(['0123456789', 'b', 'c', 'd'])
  t.same(tty.shown(), ['01234', 'b'])
})

t.test('a resized terminal shows one frame, drawn for its size', async (t) => {
  const tty = terminal(20, 10)
  const screen = createScreen(tty)
  screen.draw(['0123456789', 'two'])
  tty.narrow(6)
  t.same(tty.shown(), ['01234', 'two'], 'without a wait for the next look')
  screen.print('note')
  t.same(tty.shown(), ['note', '01234', 'two'])
  screen.close()
  t.equal(tty.listeners.size, 0)
})

t.test('colour codes take no room, and a cut line ends its colours', async (t) => {
  t.equal(clip('\x1b[31mred\x1b[39m', 3), '\x1b[31mred\x1b[39m')
  t.equal(clip('\x1b[31mredder\x1b[39m', 3), '\x1b[31mred\x1b[0m')
})
