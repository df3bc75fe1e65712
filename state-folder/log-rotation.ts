/**
 * Keeps logs in size. A workload appends to its log itself, so a log is rotated by taking away its
 * beginning:
 *
 *   <id>.log       [=========== take ===========|== rest ==> the workload goes on appending
 *
 *   1. take is compressed into a temporary file, streaming; it no longer changes
 *   2. .4.gz -> .5.gz ... .1.gz -> .2.gz, temporary file -> .1.gz
 *   3. take is cut off with FALLOC_FL_COLLAPSE_RANGE, or by a copy where that is not supported
 *
 * Why the workload writes itself, what a crash and a full disk do: README.md.
 */
import { spawn } from 'node:child_process'
import {
  constants,
  createReadStream,
  createWriteStream,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  readSync,
  writeSync,
} from 'node:fs'
import { rename, rm, type FileHandle } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import type { Logger } from 'pino'
import { join } from 'node:path'
import { logFileOf, openRegular, rotatedFileOf } from './log-reader.js'

export interface RotationOptions {
  maxBytes: number
  /** The number of compressed files kept beside the log. */
  count: number
  checkIntervalMs: number
}

export const DEFAULT_ROTATION: RotationOptions = {
  maxBytes: 10 * 1024 * 1024,
  count: 5,
  checkIntervalMs: 2_000,
}

/** Stays in the file when it is cut, so that the end can be read immediately. */
const TAIL_BYTES = 64 * 1024
const BLOCK_BYTES = 4096
/** The most that is held in memory when a file is cut by copying. */
const REST_LIMIT_BYTES = 16 * 1024 * 1024

export interface LogRotation {
  /** Returns the file to append to. It is kept in size until `release`. */
  keep(assignmentId: string): string
  release(assignmentId: string): void
  /** Idempotent. Resolves when no rotation is in progress. */
  stop(): Promise<void>
}

export function createLogRotation(
  stateDir: string,
  log: Logger,
  options: RotationOptions = DEFAULT_ROTATION,
): LogRotation {
  const written = new Set<string>()
  let timer: NodeJS.Timeout | undefined
  let rotating: Promise<void> | null = null
  mkdirSync(join(stateDir, 'logs'), { recursive: true, mode: 0o700 })

  const check = (assignmentIds: Iterable<string>): void => {
    // one log at a time, because only compression needs a whole core of the agent
    rotating ??= (async () => {
      for (const id of assignmentIds) {
        await rotate(logFileOf(stateDir, id), options, log).catch(
          (error: NodeJS.ErrnoException) => {
            log.warn(
              { event: 'log_rotation_failed', assignment_id: id, code: error.code },
              'log not rotated',
            )
          },
        )
      }
    })().finally(() => {
      rotating = null
    })
  }

  return {
    keep(assignmentId) {
      written.add(assignmentId)
      timer ??= setInterval(() => check([...written]), options.checkIntervalMs).unref()
      return logFileOf(stateDir, assignmentId)
    },
    release(assignmentId) {
      if (!written.delete(assignmentId)) return
      check([assignmentId])
      if (written.size > 0) return
      clearInterval(timer)
      timer = undefined
    },
    async stop() {
      clearInterval(timer)
      timer = undefined
      written.clear()
      await rotating
    },
  }
}

/**
 * Rotates until the log is within maxBytes. It stops after `count` rounds, so that a log that grows
 * as fast as it is compressed does not delay the others.
 */
export async function rotate(file: string, options: RotationOptions, log: Logger): Promise<void> {
  const tail = Math.min(TAIL_BYTES, options.maxBytes / 4)
  for (let turn = 0; turn <= options.count; turn++) {
    const opened = await openLog(file)
    if (opened === null) return
    try {
      const { size } = await opened.stat()
      if (size <= options.maxBytes) return
      // the writer is faster than gzip: what rotation would delete soon is cut off uncompressed
      const surplus = wholeBlocks(size - tail - options.maxBytes * options.count)
      if (surplus > 0) {
        log.warn(
          { event: 'log_cut', file, bytes: surplus },
          'log grows faster than it can be compressed: its oldest part is dropped',
        )
        await cut(opened, surplus)
        continue
      }
      const take = wholeBlocks(Math.min(size - tail, options.maxBytes))
      if (take <= 0) return
      await archive(opened, file, take, options.count).catch((error: NodeJS.ErrnoException) => {
        log.warn(
          { event: 'log_cut', file, bytes: take, code: error.code },
          'log cannot be compressed: its oldest part is dropped',
        )
      })
      await cut(opened, take)
    } finally {
      await opened.close()
    }
  }
}

/**
 * A workload of the agent's user may put something else in place of its log. So it is opened once,
 * and everything is done to what was opened. A file with another name elsewhere is not its log.
 */
async function openLog(file: string): Promise<FileHandle | null> {
  const opened = await openRegular(file, constants.O_RDWR | constants.O_APPEND)
  if (opened === null || (await opened.stat()).nlink === 1) return opened
  await opened.close()
  throw Object.assign(new Error(`${file} has another name, too`), { code: 'ELINKED' })
}

async function archive(
  opened: FileHandle,
  file: string,
  take: number,
  count: number,
): Promise<void> {
  const temporary = `${file}.tmp`
  await rm(temporary, { force: true })
  try {
    await pipeline(
      createReadStream('', { fd: opened.fd, autoClose: false, start: 0, end: take - 1 }),
      createGzip(),
      createWriteStream(temporary, { mode: 0o600, flags: 'wx' }),
    )
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  for (let number = count - 1; number >= 1; number--) {
    await rename(rotatedFileOf(file, number), rotatedFileOf(file, number + 1)).catch(ignoreMissing)
  }
  await rename(temporary, rotatedFileOf(file, 1))
}

/** Removes `length` bytes from the front: a multiple of the block size, less than the file. */
async function cut({ fd }: FileHandle, length: number): Promise<void> {
  const args = ['--collapse-range', '--offset', '0', '--length', String(length), '/dev/fd/3']
  const fallocate = spawn('fallocate', args, { stdio: ['ignore', 'ignore', 'ignore', fd] })
  const collapsed = await new Promise<boolean>((resolve) =>
    fallocate.once('error', () => resolve(false)).once('exit', (code) => resolve(code === 0)),
  )
  if (!collapsed) cutByCopy(fd, length)
}

/**
 * For file systems without collapse. Synchronous, so that no other event lengthens the gap between
 * the last read and the truncation: what is written in it is lost. `fd` is open for appending.
 */
export function cutByCopy(fd: number, length: number): void {
  const parts: Buffer[] = []
  // when a workload writes more than the limit during one compression, the oldest part is lost
  let at = Math.max(length, fstatSync(fd).size - REST_LIMIT_BYTES)
  for (;;) {
    const part = Buffer.alloc(TAIL_BYTES)
    const read = readSync(fd, part, 0, part.length, at)
    if (read === 0) break
    parts.push(part.subarray(0, read))
    at += read
  }
  ftruncateSync(fd, 0)
  for (const part of parts) writeSync(fd, part)
}

function wholeBlocks(bytes: number): number {
  return Math.floor(bytes / BLOCK_BYTES) * BLOCK_BYTES
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}
