/**
 * Bytes of logs in, whole lines out. The border of a slice never cuts a line or a character.
 *
 * A line without an end is held back until it ends or its log is left. Above a MiB it is written in
 * pieces. A pipe gets the bytes of the program. A terminal gets them without escape sequences and
 * control characters, which would steer it.
 */
import { jsonLine } from '../terminal/json.js'
import { printable } from '../terminal/text.js'

export interface LineWriter {
  write(node: string, bytes: Buffer): Promise<void>
  /** The log is left: writes its unfinished line. */
  end(): Promise<void>
}

export interface LineFormat {
  prefix: boolean
  json: boolean
  terminal: boolean
}

const LONGEST_LINE_BYTES = 1024 * 1024
const NEWLINE = Buffer.from('\n')

export function createLineWriter(
  assignmentId: string,
  { prefix, json, terminal }: LineFormat,
  out: NodeJS.WritableStream = process.stdout,
): LineWriter {
  let open = Buffer.alloc(0)
  let from = ''

  async function put(text: string | Buffer): Promise<void> {
    if (text.length > 0 && !out.write(text))
      await new Promise<void>((resolve) => out.once('drain', resolve))
  }

  const marked = prefix || json || terminal

  function format(line: Buffer): Buffer {
    if (json)
      return Buffer.from(
        jsonLine({ assignment_id: assignmentId, node: from, line: line.toString('utf8') }),
      )
    const text = terminal
      ? Buffer.from(withoutEscapes(line.toString('utf8')).split('\t').map(printable).join('\t'))
      : line
    return Buffer.concat([Buffer.from(prefix ? `[${assignmentId}@${from}] ` : ''), text, NEWLINE])
  }

  async function putLines(lines: Buffer): Promise<void> {
    const formatted: Buffer[] = []
    for (let at = 0; at <= lines.length;) {
      const next = lines.indexOf(NEWLINE, at)
      const to = next < 0 ? lines.length : next
      formatted.push(format(lines.subarray(at, to)))
      at = to + 1
    }
    await put(Buffer.concat(formatted))
  }

  return {
    async write(node, bytes) {
      if (node !== from) await this.end()
      from = node
      const all = open.length > 0 ? Buffer.concat([open, bytes]) : bytes
      const last = all.lastIndexOf(NEWLINE)
      open = Buffer.from(all.subarray(last + 1))
      if (last >= 0)
        await (marked ? putLines(all.subarray(0, last)) : put(all.subarray(0, last + 1)))
      if (open.length > LONGEST_LINE_BYTES) {
        const cut = characterBorder(open)
        const piece = open.subarray(0, cut)
        open = Buffer.from(open.subarray(cut))
        await (marked ? putLines(piece) : put(piece))
      }
    },
    async end() {
      const rest = open
      open = Buffer.alloc(0)
      if (rest.length > 0) await (marked ? putLines(rest) : put(rest))
    },
  }
}

/* eslint-disable no-control-regex */
const ESCAPE_SEQUENCE = new RegExp(
  [
    /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]/, // CSI
    // OSC, DCS, SOS, PM, APC with their text up to BEL or ST
    /(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)/,
    /\x1b[ -/]*[0-Z\\`-~]/, // the others, of two and more characters
  ]
    .map(({ source }) => source)
    .join('|'),
  'g',
)
/* eslint-enable no-control-regex */

/**
 * Removes whole escape sequences. An unfinished one stays visible, without its control character.
 */
function withoutEscapes(text: string): string {
  return text.replace(ESCAPE_SEQUENCE, '')
}

/** The last place at which no UTF-8 character is cut. */
export function characterBorder(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(4, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!
    if ((byte & 0xc0) === 0x80) continue
    const length = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
    return length > back ? bytes.length - back : bytes.length
  }
  return bytes.length
}
