/**
 * The log of an assignment: stdout and stderr of all its runs in `logs/<assignment_id>.log`, older parts beside it as `.log.1.gz` (newest) to `.log.5.gz`.
 * Here is how it is read; log-rotation.ts says how it is written and cut.
 *
 * To a reader it is one text, oldest byte first, that grows at the end while parts of it wander from the file into compressed parts and fall off the front:
 *
 *     .2.gz [....][.........] .1.gz [..........][........ .log
 *           0                       ^ byte 0 of the file is the length of all parts
 *
 * So a number names a byte only for the moment. What is followed is followed by a place: the part, the offset in it, and a digest of the bytes before it. After k
 * rotations the beginning of the file has become the beginning of part k, so the place is looked for there, and known by its digest. Where it is not found the log was
 * emptied, or the reader was overtaken: then he goes on with the file as it is now, or with the oldest part that is left.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { createGunzip } from 'node:zlib'

/** Most that one slice has on its way through the database. */
export const SLICE_LIMIT_BYTES = 128 * 1024

/** fromByte counts from the oldest byte kept, a negative one from the end; after is the `next` of an earlier slice. */
export type LogStart = { fromByte: number } | { tailLines: number } | { after: string }

export interface LogSlice {
  /** Where bytes begin, in all that is kept. */
  start: number
  /** As they were written: a slice may begin or end inside a line or a character. */
  bytes: Buffer
  /** Where to go on, for `after`. */
  next: string
  /** There is more already. */
  more: boolean
  /** Of all that is kept. */
  size: number
}

export function logFileOf(stateDir: string, assignmentId: string): string {
  return join(stateDir, 'logs', `${assignmentId}.log`)
}

export function rotatedFileOf(file: string, number: number): string {
  return `${file}.${number}.gz`
}

/** Differs when something was written or cut: a file that was cut may have grown to the size it had. Empty: there is no log. */
export async function logState(file: string): Promise<string> {
  return stat(file, { bigint: true }).then(
    (found) => `${found.size} ${found.mtimeNs}`,
    () => '',
  )
}

/** null: there is no log (yet). */
export async function readLog(
  file: string,
  start: LogStart,
  maxBytes: number = SLICE_LIMIT_BYTES,
): Promise<LogSlice | null> {
  for (let tries = 1; ; tries++) {
    const parts = await partsOf(file)
    if (parts === null) return null
    const slice = await readParts(parts, start, maxBytes)
    if ((slice !== null && isGrown(parts, await partsOf(file))) || tries === ROTATION_TRIES)
      return slice
    // rotated while it was read
    await pause(ROTATION_PAUSE_MS)
  }
}

/** A rotation renames and cuts within milliseconds; it compresses before. */
const ROTATION_TRIES = 10
const ROTATION_PAUSE_MS = 20
/** Enough to tell one place in a log from others. */
const MARK_BYTES = 1024
const CHUNK_BYTES = 64 * 1024
const NEWLINE = 10

/** number 0 is the file itself, which grows; start is where the part begins in the whole text. */
interface Part {
  number: number
  path: string
  inode: number
  start: number
  length: number
}

/** Oldest first, the file last. null: neither the file nor a part is there. */
async function partsOf(file: string): Promise<Part[] | null> {
  const newest = await lengthOf(file, false)
  const found: Omit<Part, 'start'>[] = [
    { number: 0, path: file, inode: newest?.inode ?? 0, length: newest?.length ?? 0 },
  ]
  for (let number = 1; ; number++) {
    const path = rotatedFileOf(file, number)
    const part = await lengthOf(path, true)
    if (part === null) break
    found.unshift({ number, path, ...part })
  }
  if (newest === null && found.length === 1) return null
  let start = 0
  return found.map((part) => ({ ...part, start: (start += part.length) - part.length }))
}

/** Nothing but the end of the file is another than before. */
function isGrown(before: readonly Part[], after: readonly Part[] | null): boolean {
  return (
    after !== null &&
    after.length === before.length &&
    before.every((part, index) => {
      const now = after[index]!
      return (
        now.inode === part.inode &&
        (part.number === 0 ? now.length >= part.length : now.length === part.length)
      )
    })
  )
}

/** gzip notes the length of what went in (mod 2^32) in its last four bytes. */
async function lengthOf(
  path: string,
  compressed: boolean,
): Promise<{ inode: number; length: number } | null> {
  const file = await openRegular(path)
  if (file === null) return null
  try {
    const { ino: inode, size } = await file.stat()
    if (!compressed) return { inode, length: size }
    const { bytesRead, buffer } = await file.read(Buffer.alloc(4), 0, 4, Math.max(0, size - 4))
    return { inode, length: bytesRead === 4 ? buffer.readUInt32LE(0) : 0 }
  } finally {
    await file.close()
  }
}

/** The workload owns this folder as much as the agent does: neither a pipe it put there may block a reader, nor a link lead him elsewhere. */
async function openRegular(path: string): Promise<FileHandle | null> {
  let file: FileHandle | undefined
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    if ((await file.stat()).isFile()) return file
    await file.close()
    throw Object.assign(new Error(`${path} is no regular file`), { code: 'ENOTREG' })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

async function readParts(
  parts: readonly Part[],
  start: LogStart,
  maxBytes: number,
): Promise<LogSlice | null> {
  const size = sizeOf(parts)
  if ('after' in start) {
    const place = parsePlace(start.after)
    // there was nothing before it: all there is now came after it
    if (place.markBytes === 0) return await sliceAt(parts, 0, maxBytes)
    for (const part of [...parts].reverse()) {
      const at = part.start + place.offset
      if (part.number < place.part || at > size || at < place.markBytes) continue
      const slice = await sliceAt(parts, at, maxBytes)
      if (
        slice &&
        digestOf(slice.before.subarray(slice.before.length - place.markBytes)) === place.mark
      )
        return slice
    }
    return await sliceAt(parts, place.part === 0 ? parts.at(-1)!.start : 0, maxBytes)
  }
  if ('tailLines' in start)
    return await sliceAt(parts, await startOfLast(parts, start.tailLines), maxBytes)
  return await sliceAt(
    parts,
    Math.min(size, Math.max(0, start.fromByte < 0 ? size + start.fromByte : start.fromByte)),
    maxBytes,
  )
}

/** null where the file was cut in this moment. */
async function sliceAt(
  parts: readonly Part[],
  at: number,
  maxBytes: number,
): Promise<(LogSlice & { before: Buffer }) | null> {
  const from = Math.max(0, at - MARK_BYTES)
  const length = Math.min(sizeOf(parts), at + maxBytes) - from
  const read = await readSpan(parts, from, length)
  if (read.length < length) return null
  const end = from + length
  return {
    start: at,
    before: read.subarray(0, at - from),
    bytes: read.subarray(at - from),
    next: placeAt(parts, end, read.subarray(-MARK_BYTES)),
    more: end < sizeOf(parts),
    size: sizeOf(parts),
  }
}

async function readSpan(parts: readonly Part[], from: number, length: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  for (const part of parts) {
    const begin = Math.max(from, part.start)
    const end = Math.min(from + length, part.start + part.length)
    if (begin < end) pieces.push(await readPart(part, begin - part.start, end - begin))
  }
  return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces)
}

async function readPart(part: Part, offset: number, length: number): Promise<Buffer> {
  const file = await openRegular(part.path)
  if (file === null) return Buffer.alloc(0)
  try {
    if (part.number > 0) return await readCompressed(file, offset, length)
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

/** What comes before is decompressed and thrown away: some 30 ms for a whole part, off the main thread. */
async function readCompressed(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const source = file.createReadStream({ autoClose: false })
  const text = createGunzip()
  source.once('error', (error) => text.destroy(error))
  const pieces: Buffer[] = []
  let at = 0
  try {
    for await (const chunk of source.pipe(text) as AsyncIterable<Buffer>) {
      pieces.push(chunk.subarray(Math.max(0, offset - at), Math.max(0, offset + length - at)))
      at += chunk.length
      if (at >= offset + length) break
    }
  } finally {
    source.destroy()
  }
  return Buffer.concat(pieces)
}

/** An unfinished last line counts. */
async function startOfLast(parts: readonly Part[], lines: number): Promise<number> {
  const size = sizeOf(parts)
  if (lines <= 0) return size
  let left = lines
  for (const part of [...parts].reverse()) {
    const chunkBytes = part.number === 0 ? CHUNK_BYTES : part.length
    for (
      let end = part.start + part.length;
      end > part.start;
      end = Math.max(part.start, end - chunkBytes)
    ) {
      const begin = Math.max(part.start, end - chunkBytes)
      const chunk = await readSpan(parts, begin, end - begin)
      // the newline at the very end ends the last line, and begins none
      let at = end === size ? chunk.length - 1 : chunk.length
      while (at > 0 && (at = chunk.lastIndexOf(NEWLINE, at - 1)) >= 0)
        if (--left === 0) return begin + at + 1
    }
  }
  return 0
}

const sizeOf = (parts: readonly Part[]): number => parts.at(-1)!.start + parts.at(-1)!.length

interface Place {
  part: number
  offset: number
  markBytes: number
  mark: string
}

function placeAt(parts: readonly Part[], at: number, mark: Buffer): string {
  const part = parts.findLast((found) => found.start <= at)!
  return `${part.number}:${at - part.start}:${mark.length}:${digestOf(mark)}`
}

function parsePlace(text: string): Place {
  const found = /^(\d{1,2}):(\d{1,15}):(\d{1,4}):([0-9a-f]{16})$/.exec(text)
  if (!found || Number(found[3]) > MARK_BYTES)
    throw new Error(`${JSON.stringify(text.slice(0, 100))} is no place in a log`)
  return {
    part: Number(found[1]),
    offset: Number(found[2]),
    markBytes: Number(found[3]),
    mark: found[4]!,
  }
}

function digestOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16)
}
