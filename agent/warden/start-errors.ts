/** Why a program cannot be started: one sentence for a person, with no value of the environment. */
import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readFileSync,
  readSync,
  statSync,
} from 'node:fs'
import type { Stats } from 'node:fs'
import { delimiter, join } from 'node:path'

export interface Command {
  argv: readonly string[]
  cwd: string
  env: Readonly<Record<string, string>>
}

/**
 * Null when nothing speaks against the start. Node refuses most of these too, but its message
 * quotes the value, which may be a secret. A wrapper would notice a missing program too late.
 */
export function startProblem(spec: Command, wrapped: boolean): string | null {
  const [program, ...args] = spec.argv
  if (program === undefined || program === '') return 'cannot start: the command is empty'
  if (program.includes('\0')) return 'cannot start: the command contains a NUL character'
  const argument = args.findIndex((value) => value.includes('\0'))
  if (argument >= 0) return `cannot start: argument ${argument + 1} contains a NUL character`
  for (const [name, value] of Object.entries(spec.env)) {
    if (name === '' || /[\0=]/.test(name))
      return 'cannot start: the name of an environment variable is empty or contains NUL or ='
    if (value.includes('\0'))
      return `cannot start: environment variable ${name} contains a NUL character`
  }
  if (!wrapped) return null
  const path = spec.env['PATH'] ?? ''
  const code = isFolder(spec.cwd) ? programProblem(program, path, spec.cwd) : 'ENOENT'
  return code === null ? null : startError(spec, { code })
}

/**
 * What exec refuses (execve(2)): a value of more than 32 pages, or a sum above a quarter of the
 * stack limit. Checked here, because the shell in a namespace has no way to report it.
 */
export function sizeProblem(spec: Command): string | null {
  const texts = [
    ...spec.argv,
    ...Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
  ]
  let bytes = 0
  for (const text of texts) {
    const length = Buffer.byteLength(text) + 1
    if (length > LARGEST_VALUE_BYTES) return startError(spec, { code: 'E2BIG' })
    bytes += length + POINTER_BYTES
  }
  const tooLarge = bytes > (largestSumBytes ??= readLargestSum())
  return tooLarge ? startError(spec, { code: 'E2BIG' }) : null
}

const LARGEST_VALUE_BYTES = 32 * 4096
const POINTER_BYTES = 8
let largestSumBytes: number | undefined

function readLargestSum(): number {
  const stack =
    /^Max stack size\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] ?? Infinity
  return Math.min(6 * 2 ** 20, Math.max(LARGEST_VALUE_BYTES, Number(stack) / 4))
}

export function startError(spec: Command, error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
  const program = JSON.stringify(spec.argv[0]!.slice(0, 200))
  switch (code) {
    case 'ENOENT':
      if (!isFolder(spec.cwd)) return 'cannot start: its working folder is gone (ENOENT)'
      if (/\s/.test(spec.argv[0]!))
        return (
          `cannot start: there is no program ${program} (ENOENT); ` +
          'a command is one program and no shell reads it, arguments belong in args'
        )
      return (
        `cannot start: there is no program ${program} on this host, ` +
        'or the interpreter it names is missing (ENOENT)'
      )
    case 'EACCES':
      return `cannot start: ${program} is not an executable file (EACCES)`
    case 'E2BIG':
      return (
        'cannot start: arguments and environment are larger than this host allows ' +
        '(E2BIG; a single value may have 128 KiB)'
      )
    case 'EAGAIN':
    case 'ENOMEM':
    case 'EMFILE':
    case 'ENFILE':
      return `cannot start: this host has no room for another process now (${code})`
    default:
      return `cannot start ${program} (${code})`
  }
}

/**
 * The file that exec would run; null when it finds none. `path` is the value of PATH.
 * `cwd` is the base of a relative path.
 */
export function findProgram(program: string, path: string, cwd = '/'): string | null {
  return candidates(program, path, cwd).find(isExecutable) ?? null
}

/** Why exec would not run it. Checks the program and the interpreter that its first line names. */
function programProblem(program: string, path: string, cwd: string): 'ENOENT' | 'EACCES' | null {
  const found = findProgram(program, path, cwd)
  if (found === null)
    return candidates(program, path, cwd).some((file) => statusOf(file) !== null)
      ? 'EACCES'
      : 'ENOENT'
  const interpreter = interpreterOf(found)
  return interpreter === null || isExecutable(interpreter) ? null : 'ENOENT'
}

function candidates(program: string, path: string, cwd: string): string[] {
  if (program.startsWith('/')) return [program]
  if (program.includes('/')) return [join(cwd, program)]
  return path.split(delimiter).map((folder) => join(folder === '' ? cwd : folder, program))
}

function isFolder(path: string): boolean {
  return statusOf(path)?.isDirectory() ?? false
}

/**
 * Null when nothing can be reached there: it does not exist, a name is too long, a file stands in
 * place of a folder, links form a loop, or a folder is closed to this user.
 */
function statusOf(path: string): Stats | null {
  try {
    return statSync(path)
  } catch {
    return null
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return statusOf(file)?.isFile() ?? false
  } catch {
    return false
  }
}

/** Null for what is not a script, and for what cannot be read. */
function interpreterOf(file: string): string | null {
  const line = Buffer.alloc(256)
  try {
    const fd = openSync(file, 'r')
    try {
      const length = readSync(fd, line, 0, line.length, 0)
      return /^#![ \t]*(\S+)/.exec(line.toString('latin1', 0, length))?.[1] ?? null
    } finally {
      closeSync(fd)
    }
  } catch {
    return null
  }
}
