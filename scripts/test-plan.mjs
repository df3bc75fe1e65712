/** Which test files there are, and which of them run beside which: a file is named as its source, test/sql/placement/claim.test.ts. */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'

export const ROOT = resolve(import.meta.dirname, '..')
/** Written by `npm run test:all -- --remember`: the files that take longest, so that none of them is left for the end. */
export const TIMES = join(import.meta.dirname, 'test-times.json')
const UNKNOWN_S = 5

/** These measure what a host does under faults: nothing else may run. */
const ALONE = /^test\/faults\//
/** What only `npm run test:all` runs: real programs over many leases, the rig of faults, the model, and the tests of tests. */
const LONG = /^test\/(e2e|faults|model|bench|races)\/|^test\/sql\/mutants/
/** The mutants try the tests, not the server. */
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
