/**
 * docs/compared.md names for each row of the replaced systems the test that shows it.
 * Here each row is checked.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ROOT } from '../helpers/root.js'

const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8')
const DOC = read('docs/compared.md')
const TESTS = new Map(
  readdirSync(join(ROOT, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts') && file !== join('docs', 'compared.test.ts'))
    .map((file) => [join('test', file), read(join('test', file))]),
)

/** 'Y16-17', 'D11, D14', 'defect 13', 'Y logs', wherever they stand in a name. */
function rowsIn(name: string): string[] {
  return [
    ...name.matchAll(/\b(Y|D)(\d+)(?:-(\d+))?\b|\b(defect) (\d+)\b|\b(Y) (logs|CLI)\b/g),
  ].flatMap(([, system, from, to, defect, nr, y, word]) => {
    if (defect) return [`defect ${nr}`]
    if (y) return [`Y ${word}`]
    return Array.from(
      { length: Number(to ?? from) - Number(from) + 1 },
      (_, further) => `${system}${Number(from) + further}`,
    )
  })
}

const namesIn = (source: string): string[] =>
  [...source.matchAll(/\b(?:test|story)\(\s*(['"`])((?:\\.|(?!\1).)*)\1/gs)].map(
    ([, , name]) => name!,
  )

/** Each row of the tables: its numbers, what is said of it, and the files that are to show it. */
function tableOf(doc: string): { rows: string[]; files: string[]; text: string }[] {
  return doc
    .split('\n')
    .filter((line) => /^\| (Y|D|defect)[ \d]/.test(line))
    .map((line) => {
      const cells = line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim())
      return {
        rows: rowsIn(cells[0]!),
        files: [...cells.at(-1)!.matchAll(/`([^`]+)`/g)].map(([, file]) => file!),
        text: cells.at(-1)!,
      }
    })
}

/** What the page says and the tests do not, and the other way round. */
function mistakes(doc: string, tests: ReadonlyMap<string, string>): string[] {
  const found: string[] = []
  const named = new Map(
    [...tests].map(([file, source]) => [file, new Set(namesIn(source).flatMap(rowsIn))]),
  )
  const table = tableOf(doc)
  const known = table.flatMap(({ rows }) => rows)
  for (const row of known)
    if (known.indexOf(row) !== known.lastIndexOf(row)) found.push(`${row} has two lines`)
  for (const { rows, files, text } of table) {
    if (files.length === 0 && !/^left out: ./.test(text))
      found.push(`${rows.join()} names no test and does not say why it is left out`)
    for (const file of files) {
      if (!named.has(file)) found.push(`${rows.join()}: ${file} is no test`)
      else if (!rows.some((row) => named.get(file)!.has(row)))
        found.push(`${rows.join()}: no test in ${file} has it in its name`)
    }
    for (const row of rows)
      if (files.length > 0 && !files.some((file) => named.get(file)?.has(row)))
        found.push(`${row}: no test has it in its name`)
  }
  for (const [file, rows] of named)
    for (const row of rows)
      if (!known.includes(row))
        found.push(`${file} names ${row}, which docs/compared.md does not know`)
  return found
}

t.test('every row is shown by a test that names it, and every row a test names is there', (t) => {
  t.same(mistakes(DOC, TESTS), [])
  const rows = tableOf(DOC).flatMap(({ rows }) => rows)
  t.same(
    rows.filter((row) => row.startsWith('defect')),
    Array.from({ length: 16 }, (_, nr) => `defect ${nr + 1}`),
  )
  t.ok(rows.length > 50, `${rows.length} rows`)
  t.end()
})

t.test('negative control: each kind of mistake is noticed', (t) => {
  const tests = new Map([
    ['test/a.test.ts', "story('Y1-2: one', async"],
    ['test/b.test.ts', 't.test(`D3, defect 4: two`, async'],
  ])
  const line = (row: string, cell: string) => `| ${row} | what | where | ${cell} |`
  const good = [
    line('Y1', '`test/a.test.ts`'),
    line('Y2', '`test/a.test.ts`'),
    line('D3', '`test/b.test.ts`'),
    line('defect 4', '`test/b.test.ts`'),
  ]
  t.same(mistakes(good.join('\n'), tests), [])
  t.match(mistakes([...good, line('Y5', '`test/a.test.ts`')].join('\n'), tests), [
    /Y5: no test in test\/a.test.ts/,
    /Y5: no test/,
  ])
  t.match(mistakes([...good, line('Y5', '`test/c.test.ts`')].join('\n'), tests), [
    /test\/c.test.ts is no test/,
    /Y5/,
  ])
  t.match(mistakes([...good, line('Y5', 'some day')].join('\n'), tests), [/Y5 names no test/])
  t.same(mistakes([...good, line('Y5', 'left out: nobody asked')].join('\n'), tests), [])
  t.match(mistakes(good.slice(1).join('\n'), tests), [/names Y1, which/])
  t.match(mistakes([...good, good[0]].join('\n'), tests), [/Y1 has two lines/])
  t.end()
})
