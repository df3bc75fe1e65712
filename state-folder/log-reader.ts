/**
 * Reads the log of an assignment, `logs/<assignment_id>.log`: stdout and stderr of all its starts,
 * with older parts beside it as `.log.1.gz` (newest) to `.log.5.gz`. log-rotation.ts writes them.
 *
 * To a reader it is one text, oldest byte first:
 *
 *     .2.gz [....][.........] .1.gz [..........][........ .log
 *           0                       ^ byte 0 of the file is the length of all parts
 *
 * How a reader continues at its place while rotation moves the text: README.md.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { createGunzip } from 'node:zlib'

/** The largest slice that is sent through the database. */
export const SLICE_LIMIT_BYTES = 128 * 1024

/**
 * fromByte counts from the oldest byte kept; a negative number counts from the end.
 * after is the `next` of an earlier slice.
 */
export type LogStart = { fromByte: number } | { tailLines: number } | { after: string }

export interface LogSlice {
  /** The offset of `bytes` in the whole text. */
  start: number
  /** As written. A slice may begin or end inside a line or a character. */
  bytes: Buffer
  /** The place where the next slice starts, for `after`. */
  next: string
  /** The text continues after this slice. */
  more: boolean
  /** The length of the whole text. */
  size: number
}

export function logFileOf(stateDir: string, assignmentId: string): string {
  return join(stateDir, 'logs', `${assignmentId}.log`)
}

export function rotatedFileOf(file: string, number: number): string {
  return `${file}.${number}.gz`
}

/**
 * Changes when the log is written or cut. It includes the mtime, because a file that was cut may
 * have grown to its old size again. Empty: there is no log.
 */
export async function logState(file: string): Promise<string> {
  return stat(file, { bigint: true }).then(
    (found) => `${found.size} ${found.mtimeNs}`,
    () => '',
  )
}

/** null: there is no log, or not yet. */
export async function readLog(
  file: string,
  start: LogStart,
  maxBytes: number = SLICE_LIMIT_BYTES,
): Promise<LogSlice | null> {
  for (let tries = 1; ; tries++) {
    const parts = await partsOf(file)
    if (parts === null) return null
    const slice = await readParts(parts, start, maxBytes)
    if ((slice !== null && hasOnlyGrown(parts, await partsOf(file))) || tries === ROTATION_TRIES)
      return slice
    // the log was rotated while it was read
    await pause(ROTATION_PAUSE_MS)
  }
}

/** A rotation compresses first, then renames and cuts within milliseconds. */
const ROTATION_TRIES = 10
const ROTATION_PAUSE_MS = 20
/** The number of bytes before a place that its digest covers. */
const DIGEST_SPAN_BYTES = 1024
const PARTS_LIMIT = 99
const PART_LIMIT_BYTES = 64 * 1024 * 1024
const CHUNK_BYTES = 64 * 1024
const NEWLINE = 10

interface Part {
  /** 0 is the file itself, which grows. */
  number: number
  path: string
  inode: number
  /** Offset in the whole text. */
  start: number
  length: number
}

/** Oldest first, the file last. null: neither the file nor a part exists. */
async function partsOf(file: string): Promise<Part[] | null> {
  const newest = await lengthOf(file, false)
  const found: Omit<Part, 'start'>[] = [
    { number: 0, path: file, inode: newest?.inode ?? 0, length: newest?.length ?? 0 },
  ]
  for (let number = 1; number <= PARTS_LIMIT; number++) {
    const path = rotatedFileOf(file, number)
    const part = await lengthOf(path, true)
    if (part === null) break
    found.unshift({ number, path, ...part })
  }
  if (newest === null && found.length === 1) return null
  let start = 0
  return found.map((part) => ({ ...part, start: (start += part.length) - part.length }))
}

/** Only the end of the file has changed. */
function hasOnlyGrown(before: readonly Part[], after: readonly Part[] | null): boolean {
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

/**
 * gzip stores the length of its input (mod 2^32) in its last four bytes. A forged one would decide
 * how much memory a reader takes: a part that says more than rotation writes is read as empty.
 */
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
    const length = bytesRead === 4 ? buffer.readUInt32LE(0) : 0
    return { inode, length: length <= PART_LIMIT_BYTES ? length : 0 }
  } finally {
    await file.close()
  }
}

/** The workload may write to this folder: a pipe must not block a reader, a link not mislead it. */
export async function openRegular(
  path: string,
  flags: number = constants.O_RDONLY,
): Promise<FileHandle | null> {
  let file: FileHandle | undefined
  try {
    file = await open(path, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK)
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
    // nothing was before the place, so the whole text comes after it
    if (place.digestSpan === 0) return await sliceAt(parts, 0, maxBytes)
    for (const part of [...parts].reverse()) {
      const at = part.start + place.offset
      if (part.number < place.part || at > size || at < place.digestSpan) continue
      const slice = await sliceAt(parts, at, maxBytes)
      if (slice && digestOf(lastBytes(slice.before, place.digestSpan)) === place.digest)
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

/** null when the file was cut at this moment. */
async function sliceAt(
  parts: readonly Part[],
  at: number,
  maxBytes: number,
): Promise<(LogSlice & { before: Buffer }) | null> {
  const from = Math.max(0, at - DIGEST_SPAN_BYTES)
  const length = Math.min(sizeOf(parts), at + maxBytes) - from
  const read = await readSpan(parts, from, length)
  if (read.length < length) return null
  const end = from + length
  return {
    start: at,
    before: read.subarray(0, at - from),
    bytes: read.subarray(at - from),
    next: placeAt(parts, end, read.subarray(-DIGEST_SPAN_BYTES)),
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

/**
 * Decompresses the part up to the end of the slice, off the main thread.
 * A whole part takes some 30 ms.
 */
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

/** Where the last `lines` lines begin. An unfinished last line counts. */
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
      // the newline at the very end only ends the last line
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
  digestSpan: number
  digest: string
}

function placeAt(parts: readonly Part[], at: number, before: Buffer): string {
  const part = parts.findLast((found) => found.start <= at)!
  return `${part.number}:${at - part.start}:${before.length}:${digestOf(before)}`
}

function parsePlace(text: string): Place {
  const found = /^(\d{1,2}):(\d{1,15}):(\d{1,4}):([0-9a-f]{16})$/.exec(text)
  if (!found || Number(found[3]) > DIGEST_SPAN_BYTES)
    throw new Error(`${JSON.stringify(text.slice(0, 100))} is no place in a log`)
  return {
    part: Number(found[1]),
    offset: Number(found[2]),
    digestSpan: Number(found[3]),
    digest: found[4]!,
  }
}

function lastBytes(bytes: Buffer, count: number): Buffer {
  return bytes.subarray(bytes.length - count)
}

function digestOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16)
}
