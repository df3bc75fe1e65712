/**
 * The log of an assignment: one file with stdout and stderr of all its runs, `logs/<assignment_id>.log`, older parts beside it as `.log.1.gz` (newest) to `.log.5.gz`.
 * Here is how it is read; log-rotation.ts says how it is written and cut.
 */
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** Most that one read answers. */
export const SLICE_LIMIT_BYTES = 128 * 1024

export interface LogSlice {
  /** Where in the file `bytes` begins. */
  start: number
  /** Size of the file at that moment. */
  size: number
  /** Raw: a slice may begin or end inside a character. */
  bytes: Buffer
}

export function logFileOf(stateDir: string, assignmentId: string): string {
  return join(stateDir, 'logs', `${assignmentId}.log`)
}

export function rotatedFileOf(file: string, number: number): string {
  return `${file}.${number}.gz`
}

/** A negative start counts from the end. At most 128 KiB, fewer at the end of the file; null when there is no log (yet). */
export async function readLogSlice(file: string, start: number, length: number = SLICE_LIMIT_BYTES): Promise<LogSlice | null> {
  let handle
  try {
    handle = await open(file, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  try {
    const { size } = await handle.stat()
    const from = Math.min(size, Math.max(0, start < 0 ? size + start : start))
    const wanted = Math.max(0, Math.min(length, SLICE_LIMIT_BYTES, size - from))
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(wanted), 0, wanted, from)
    return { start: from, size, bytes: buffer.subarray(0, bytesRead) }
  } finally {
    await handle.close()
  }
}

/**
 * What is in the file from `start` on and all that is added, until the signal; waits for a file that is not there yet.
 * Goes on at the right byte when the beginning is cut off: it knows its place by the last bytes it read, and looks for them where the cuts have moved them.
 */
export async function* followLog(file: string, start: number, signal: AbortSignal, pollMs = 250): AsyncGenerator<Buffer> {
  let at = start
  let lastRead: Buffer = Buffer.alloc(0)
  let stateThen: string | null = null
  while (!signal.aborted) {
    const state = await stateOf(file)
    if (state !== null && state !== stateThen && at >= 0) at = await findPlace(file, at, lastRead)
    stateThen = state
    const slice = await readLogSlice(file, at)
    if (slice !== null && slice.size < at) {
      // Cut since the look above.
      stateThen = null
      continue
    }
    if (slice !== null) at = slice.start + slice.bytes.length
    else if (at < 0) at = 0
    if (slice !== null && slice.bytes.length > 0) {
      lastRead = Buffer.concat([lastRead, slice.bytes]).subarray(-LANDMARK_BYTES)
      yield slice.bytes
    } else {
      await delay(pollMs, undefined, { signal }).catch(() => {})
    }
  }
}

/** Enough to tell one place in a log from others. */
const LANDMARK_BYTES = 1024

/** Each cut took from the front what one rotated file holds; gzip notes the length of what went in (mod 2^32) in its last four bytes. */
async function findPlace(file: string, at: number, landmark: Buffer): Promise<number> {
  for (let place = at, number = 1; place >= landmark.length; number++) {
    const found = await readLogSlice(file, place - landmark.length, landmark.length)
    if (found?.bytes.equals(landmark)) return place
    const cut = await lengthInside(rotatedFileOf(file, number))
    if (cut === null || cut === 0) break
    place -= cut
  }
  // Emptied by somebody else, or cut without keeping: all that is there is new.
  return 0
}

async function lengthInside(gzipFile: string): Promise<number | null> {
  const size = await sizeOf(gzipFile)
  if (size === null) return null
  const trailer = await readLogSlice(gzipFile, size - 4, 4)
  return trailer?.bytes.length === 4 ? trailer.bytes.readUInt32LE(0) : null
}

/** Differs when something was written or cut: a file that was cut may have grown to the size it had. */
async function stateOf(file: string): Promise<string | null> {
  return stat(file, { bigint: true }).then(found => `${found.size} ${found.mtimeNs}`, () => null)
}

async function sizeOf(file: string): Promise<number | null> {
  return stat(file).then(found => found.size, () => null)
}
