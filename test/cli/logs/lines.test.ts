import { Writable } from 'node:stream'
import t from 'tap'
import { characterBorder, createLineWriter, type LineFormat } from '../../../cli/logs/lines.js'

/** What is written when the text comes in slices of so many bytes. */
async function written(
  text: string,
  sliceBytes: number,
  format: Partial<LineFormat> = {},
  ended = true,
): Promise<string> {
  const pieces: Buffer[] = []
  const out = new Writable({
    highWaterMark: 1,
    write: (chunk: Buffer, _, done) => {
      pieces.push(chunk)
      setImmediate(done)
    },
  })
  const writer = createLineWriter(
    '7',
    { prefix: false, json: false, terminal: false, ...format },
    out,
  )
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += sliceBytes) {
    await writer.write('host-a', bytes.subarray(at, at + sliceBytes))
    for (const piece of pieces)
      if (!piece.toString().endsWith('\n')) t.fail(`half a line: ${piece.toString()}`)
  }
  if (ended) await writer.end()
  return Buffer.concat(pieces).toString()
}

const TEXT = 'first\n\nzweite: Äpfel, 日本, 😀\nthe last one has no end: é'

t.test(
  'Y40: lines are whole, whatever the slices: no border cuts a line or a character',
  async (t) => {
    for (const sliceBytes of [1, 2, 3, 5, 7, 1000]) {
      t.equal(
        await written(TEXT, sliceBytes),
        TEXT,
        `slices of ${sliceBytes}: the bytes as they are`,
      )
      t.equal(
        await written(TEXT, sliceBytes, { prefix: true }),
        `${TEXT.split('\n')
          .map((line) => `[7@host-a] ${line}\n`)
          .join('')}`,
      )
      t.same(
        (await written(TEXT, sliceBytes, { json: true }))
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line) as unknown),
        TEXT.split('\n').map((line) => ({ assignment_id: '7', node: 'host-a', line })),
      )
    }
    t.equal(await written('a\nb', 1, {}, false), 'a\n', 'what has no end yet is held back')
  },
)

t.test('a terminal gets no control characters, a pipe the bytes that were written', async (t) => {
  const text = 'a\x1b[31mred\x1b]0;title\x07\tb\u202e\r\n'
  t.equal(await written(text, 4), text)
  t.equal(await written(text, 4, { terminal: true }), 'ared\tb \n')
  t.equal(await written(text, 4, { terminal: true, prefix: true }), '[7@host-a] ared\tb \n')
})

t.test(
  'a terminal gets no rest of an escape sequence, and loses no text to one that does not end',
  async (t) => {
    const plain = async (text: string) =>
      (await written(`${text}\n`, 1000, { terminal: true })).slice(0, -1)
    for (const [text, shown] of [
      ['\x1b[1;31mred\x1b[0m', 'red'],
      ['\x1b[38:2::1:2:3mx\x1b[m', 'x'],
      ['\x1b[?25l\x1b[2J\x1b[10;5Hx', 'x'],
      ['\x9b31mred', 'red'],
      ['\x1b]8;;http://a\x1b\\link\x1b]8;;\x07', 'link'],
      ['\x1bPq#0\x1b\\x', 'x'],
      ['\x1b(Bx\x1b7\x1b=\x1bcy', 'xy'],
      ['\x1b]0;no end', ' ]0;no end'],
      ['\x1b[31', ' [31'],
      ['\x1b', ' '],
      ['[31m is text', '[31m is text'],
    ] as const)
      t.equal(await plain(text), shown, JSON.stringify(text))
  },
)

t.test(
  'a line that never ends does not fill the memory, and is cut between characters',
  async (t) => {
    const text = '日本語'.repeat(200_000)
    const pieces: string[] = []
    const out = new Writable({
      write: (chunk: Buffer, _, done) => {
        pieces.push(chunk.toString())
        done()
      },
    })
    const writer = createLineWriter('7', { prefix: false, json: false, terminal: false }, out)
    for (let bytes = Buffer.from(text), at = 0; at < bytes.length; at += 100_001)
      await writer.write('host-a', bytes.subarray(at, at + 100_001))
    t.ok(pieces.length > 0, 'some is written before the end')
    t.ok(pieces.every((piece) => !piece.includes('\ufffd')))
    await writer.end()
    t.ok(pieces.join('') === text)
  },
)

t.test('the border of a character is found from behind', (t) => {
  for (const [text, missing, border] of [
    ['a', 0, 1],
    ['é', 0, 2],
    ['é', 1, 0],
    ['aé', 1, 1],
    ['日', 1, 0],
    ['日', 2, 0],
    ['😀', 1, 0],
    ['x😀', 3, 1],
    ['😀', 0, 4],
  ] as const) {
    const bytes = Buffer.from(text)
    t.equal(
      characterBorder(bytes.subarray(0, bytes.length - missing)),
      border,
      `${text} less ${missing}`,
    )
  }
  t.equal(
    characterBorder(Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80])),
    5,
    'what is no text is cut anywhere',
  )
  t.end()
})
