/**
 * Which test files there are, and which of them run beside which. A file has the name of its
 * source, for example test/sql/placement/claim.test.ts.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'

export const ROOT = resolve(import.meta.dirname, '..')
/** `npm run test:all -- --remember` writes it: the longest files, which start first. */
export const TIMES = join(import.meta.dirname, 'test-times.json')
const UNKNOWN_S = 2

/** These measure what a host does under faults, so they run alone. */
const ALONE = /^test\/faults\//
/** Only `npm run test:all` runs these: real programs over many leases, faults, model, mutants. */
const LONG = /^test\/(e2e|faults|model|bench|races)\/|^test\/sql\/mutants/
/** These run on both versions of Postgres. The mutants try the tests, not the server. */
const SQL = /^test\/(sql|races)\/(?!mutants)/

export const isLong = (file) => LONG.test(file)
export const isSql = (file) => SQL.test(file)
export const isAlone = (file) => ALONE.test(file)

export const allTests = () =>
  readdirSync(join(ROOT, 'test'), { recursive: true })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => `test/${file.replaceAll('\\', '/')}`)
    .sort()

/** The files and folders of a command line, as test files. */
export function testsNamed(paths) {
  const named = paths.map((path) => relative(ROOT, resolve(path)).replaceAll('\\', '/'))
  const tests = allTests()
  return named.flatMap((name) => {
    const found = tests.filter((file) => file === name || file.startsWith(`${name}/`))
    if (found.length === 0) throw new Error(`${name} is no test and no folder of tests`)
    return found
  })
}

/** Longest first. */
export function inOrder(tasks) {
  const times = existsSync(TIMES) ? JSON.parse(readFileSync(TIMES, 'utf8')) : {}
  const seconds = ({ file }) => times[file] ?? UNKNOWN_S
  return tasks.toSorted((one, other) => seconds(other) - seconds(one))
}
