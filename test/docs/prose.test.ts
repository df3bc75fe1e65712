/** scripts/prose.mjs judges the pages. Here they are within its law, and it sees each offence. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'

interface Prose {
  prosePages(root: string): string[]
  proseOffences(markdown: string): { line: number; law: string }[]
}

const ROOT = join(import.meta.dirname, '..', '..')
const { prosePages, proseOffences } = (await import(
  pathToFileURL(join(ROOT, 'scripts', 'prose.mjs')).href
)) as Prose

t.test('the pages are within the law of prose', (t) => {
  const pages = prosePages(ROOT)
  t.ok(pages.includes('README.md') && pages.includes(join('docs', 'runbook.md')))
  for (const page of pages) t.same(proseOffences(readFileSync(join(ROOT, page), 'utf8')), [], page)
  t.end()
})

t.test('negative control: each offence is seen, with its line', (t) => {
  const words = (count: number): string => Array.from({ length: count }, () => 'a').join(' ')
  const lines = (markdown: string): number[] => proseOffences(markdown).map(({ line }) => line)
  t.same(lines(`# Page\n\n${words(10)}\n${words(16)}.`), [3], 'a sentence over two lines')
  t.same(lines(`${words(15)}. ${words(15)}!\n\n- ${words(20)}\n- ${words(20)}`), [])
  t.same(lines(`| a | ${words(26)} |`), [1], 'a cell of a table')
  t.same(lines(`| ${words(20)} | ${words(20)} |`), [])
  t.same(lines(`See \`a.b.c d\` ${words(12)} [${words(12)}](x.md) ${words(2)}`), [1])
  t.same(lines(`text\n${'x'.repeat(101)}`), [2], 'a line that is too wide')
  t.same(
    lines(`| ${'x'.repeat(101)} |\n\n\`\`\`sh\n${'x'.repeat(101)}\nnobody\n\`\`\`\n`),
    [],
    'tables and code may be wide',
  )
  t.same(lines(`[a page](https://example.org/${'x'.repeat(90)})`), [], 'a link cannot be broken')
  t.same(lines('Nobody waits.\n\nThe agent waits for him.'), [1, 3])
  t.same(lines('`nobody` is a user, [this](nobody.md) is a page'), [])
  t.end()
})
