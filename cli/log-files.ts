/**
 * Finds and reads what agents of this host wrote: <state>/agents/<node>/logs/<assignment>.log, see agent/run-log.ts.
 * Needs no database, so it works in an outage too.
 */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { logFileOf, rotatedFileOf } from '../agent/run-log.js'

export interface LogFile { node: string; assignment_id: string; path: string; size: number; modifiedAt: number }

const OLDEST_PART = 5
const CHUNK_BYTES = 64 * 1024
const NEWLINE = 10

/** Of every local agent that ever ran the assignment, the last written first. */
export function logFilesOf(stateDir: string, assignmentId: string): LogFile[] {
  const agents = join(stateDir, 'agents')
  if (!existsSync(agents)) return []
  return readdirSync(agents)
    .map((node) => ({ node, assignment_id: assignmentId, path: logFileOf(join(agents, node), assignmentId) }))
    .flatMap((file) => {
      const stat = statSync(file.path, { throwIfNoEntry: false })
      return stat ? [{ ...file, size: stat.size, modifiedAt: stat.mtimeMs }] : []
    })
    .sort((a, b) => b.modifiedAt - a.modifiedAt)
}

export function localNodes(stateDir: string): string[] {
  const agents = join(stateDir, 'agents')
  return existsSync(agents) ? readdirSync(agents).sort() : []
}

export interface Tail {
  /** The last lines, each with its line end but perhaps the last one. */
  text: Buffer
  /** Where in the file a follower goes on. */
  end: number
}

/**
 * The last `lines` lines (Infinity: all there is), reaching back into the older parts where the file is shorter. A line may
 * begin in one part and end in the next, so lines are counted in what has been put together.
 */
export async function tailOf(path: string, lines: number): Promise<Tail> {
  let { text, end, complete } = await tailOfFile(path, lines)
  for (let part = 1; complete && part <= OLDEST_PART && countLines(text) <= lines; part++) {
    const older = await readFile(rotatedFileOf(path, part)).then(promisify(gunzip)).catch(() => null)
    if (older === null) break
    text = Buffer.concat([older, text])
  }
  return { text: text.subarray(startOfLast(text, lines)), end }
}

/** `complete`: all of the file was read. */
async function tailOfFile(path: string, lines: number): Promise<Tail & { complete: boolean }> {
  const file = await open(path, 'r')
  try {
    const end = (await file.stat()).size
    let text = Buffer.alloc(0)
    let start = end
    while (start > 0 && countLines(text) <= lines) {
      const from = Math.max(0, start - CHUNK_BYTES)
      const chunk = Buffer.alloc(start - from)
      await file.read(chunk, 0, chunk.length, from)
      text = Buffer.concat([chunk, text])
      start = from
    }
    return { text, end, complete: start === 0 }
  } finally {
    await file.close()
  }
}

function countLines(text: Buffer): number {
  let lines = text.length > 0 && text.at(-1) !== NEWLINE ? 1 : 0
  for (let at = text.indexOf(NEWLINE); at >= 0; at = text.indexOf(NEWLINE, at + 1)) lines += 1
  return lines
}

function startOfLast(text: Buffer, lines: number): number {
  if (lines <= 0) return text.length
  let at = text.at(-1) === NEWLINE ? text.length - 1 : text.length
  for (let left = lines; left > 0; left--) {
    at = at <= 0 ? -1 : text.lastIndexOf(NEWLINE, at - 1)
    if (at < 0) return 0
  }
  return at + 1
}
