/**
 * Markdown pages name files. Here each named file is checked to exist, and each table of files to
 * be complete.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'
import { ROOT } from '../helpers/root.js'

const NOT_OURS = /^(node_modules|dist|\.git|\.tap|\.mooring)$/
/** Names files as they were called at the time. */
const HISTORY = 'CHANGELOG.md'
const SOURCE = /\.(ts|mjs|sql|pml)$/

/** Every file of the repository, as a path from its root. */
function filesBelow(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    if (NOT_OURS.test(entry.name)) return []
    const path = join(folder, entry.name)
    return entry.isDirectory() ? filesBelow(path) : entry.isFile() ? [path] : []
  })
}

/**
 * Links, and paths in text, tables and pictures. A path with a placeholder (`<verb>.sql`) does not
 * count.
 */
function namedIn(text: string): { links: string[]; paths: string[] } {
  const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)]
  const paths = text
    .replace(/\]\([^)]*\)/g, ']')
    .matchAll(/(?<![\w<./@*-])((?:[\w.@-]+\/)+[\w.@-]+\.(?:ts|mjs|sql|md|pml))\b(?![/*<])/g)
  return { links: links.map(([, link]) => link!), paths: [...paths].map(([, path]) => path!) }
}

/**
 * What the page names and is not there. A path starts at the root or at the page's folder. One
 * that starts with any other folder, such as one of the state folder, is not of this repository.
 */
function missingIn(page: string, text: string, exists: (path: string) => boolean): string[] {
  const { links, paths } = namedIn(text)
  const here = (path: string): string => normalize(join(dirname(page), path))
  const isOurs = (path: string): boolean => {
    const first = path.split('/')[0]!
    return first === '..' || exists(first) || exists(here(first))
  }
  return [
    ...links.filter((link) => !exists(here(link))),
    ...paths.filter((path) => isOurs(path) && !exists(path) && !exists(here(path))),
  ].map((name) => `${page}: ${name}`)
}

/** The names that links give the headings of a page. */
const sectionsOf = (text: string): string[] =>
  [...text.replace(/^```.*?^```/gms, '').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .trim()
      .replace(/\s/g, '-'),
  )

/** Sections that a link names, of this page or another, and that are not there. */
function missingSections(page: string, text: string, read: (page: string) => string): string[] {
  return [...text.matchAll(/\]\((?!https?:)([^)#]*)#([^)]*)\)/g)]
    .filter(([, link, section]) => {
      const target = link === '' ? page : normalize(join(dirname(page), link!))
      return target.endsWith('.md') && !sectionsOf(read(target)).includes(section!)
    })
    .map(([, link, section]) => `${page}: ${link}#${section}`)
}

/** Sources beside a README with a table of files that the README does not name. */
function unnamedIn(page: string, text: string, files: readonly string[]): string[] {
  if (!/^\| files? /m.test(text)) return []
  return files
    .filter((file) => dirname(file) === dirname(page) && SOURCE.test(file))
    .map((file) => file.slice(file.lastIndexOf('/') + 1))
    .filter((name) => !text.includes(name))
    .map((name) => `${page}: ${name}`)
}

const FILES = filesBelow('.')
const PAGES = FILES.filter((file) => file.endsWith('.md') && file !== HISTORY)
const read = (page: string): string => readFileSync(join(ROOT, page), 'utf8')

t.test('every file that a page names is there', (t) => {
  const exists = (path: string): boolean => existsSync(join(ROOT, path))
  t.same(
    PAGES.flatMap((page) => missingIn(page, read(page), exists)),
    [],
  )
  t.ok(PAGES.length > 20, `${PAGES.length} pages`)
  t.end()
})

t.test('every section that a link names is there', (t) => {
  t.same(
    PAGES.flatMap((page) => missingSections(page, read(page), read)),
    [],
  )
  const pages: Record<string, string> = {
    'a.md': "# A page\n## What's `claim()`, then?\n```sh\n# no heading\n```\n",
  }
  const missing = (text: string): string[] =>
    missingSections('b.md', text, (page) => pages[page] ?? text)
  t.same(missing('# B\n[x](a.md#a-page) [y](a.md#whats-claim-then) [z](#b) [w](a.md)'), [])
  t.same(missing('# B\n[x](a.md#gone) [y](#gone) [z](a.md#no-heading)'), [
    'b.md: a.md#gone',
    'b.md: #gone',
    'b.md: a.md#no-heading',
  ])
  t.end()
})

t.test('a README with a table of files names every source beside it', (t) => {
  const readmes = PAGES.filter((page) => page.endsWith('/README.md'))
  t.same(
    readmes.flatMap((page) => unnamedIn(page, read(page), FILES)),
    [],
  )
  t.end()
})

t.test('negative control: each kind of mistake is noticed', (t) => {
  const files = new Set(['agent', 'agent/warden', 'agent/agent.ts', 'agent/warden/main.ts', 'host'])
  const missing = (text: string): string[] =>
    missingIn('agent/README.md', text, (path) => files.has(path))
  t.same(missing('`agent/agent.ts` [main](warden/main.ts) `warden/main.ts`'), [])
  t.same(missing('`agent/<verb>.ts`, `packages/x/y.ts`, https://a.b/c.md, [x](#y)'), [])
  t.same(missing('[gone](warden/gone.ts)'), ['agent/README.md: warden/gone.ts'])
  t.same(missing('`warden/gone.ts`'), ['agent/README.md: warden/gone.ts'])
  t.same(missing('A->>B: starts<br/>agent/gone.ts'), ['agent/README.md: agent/gone.ts'])
  t.same(missing('see host/rooms/gone.ts.'), ['agent/README.md: host/rooms/gone.ts'])
  const table = '| file | what |\n|---|---|\n| [agent.ts](agent.ts) | it |'
  t.same(unnamedIn('agent/README.md', table, [...files]), [])
  t.same(unnamedIn('agent/README.md', table, [...files, 'agent/new.ts']), [
    'agent/README.md: new.ts',
  ])
  t.end()
})
