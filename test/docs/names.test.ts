/** What the pages name is there: kinds of events (docs/history.md), verbs, views, settings. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { EVENT_KINDS } from '../../cli/events/kinds.js'
import { testDatabase } from '../helpers/postgres.js'
import { ROOT } from '../helpers/root.js'

const DOC = readFileSync(join(ROOT, 'docs', 'history.md'), 'utf8')
const SOURCES = new Map(
  readdirSync(join(ROOT, 'sql'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.sql'))
    .map((file) => [file, readFileSync(join(ROOT, 'sql', file), 'utf8')]),
)

const literals = (text: string): string[] =>
  [...text.matchAll(/'([a-z_]+)'/g)].map(([, word]) => word!)

/** Up to the first comma that stands in no parentheses. */
function firstOf(text: string): string {
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '(') depth++
    if (text[at] === ')') depth--
    if (text[at] === ',' && depth === 0) return text.slice(0, at)
  }
  return text
}

/**
 * What an expression for a kind can be: a word, a CASE of words, a parameter, or a column whose
 * words are in the same file. The conditions of a CASE do not count.
 */
function kindsOf(expression: string, file: string): string[] {
  if (/^case\b/.test(expression))
    return [...expression.matchAll(/\b(?:then|else)\s+('[a-z_]+')/g)].flatMap(([, word]) =>
      literals(word!),
    )
  if (/^'/.test(expression)) return literals(expression)
  if (/^(release|add_event)\.kind$/.test(expression)) return []
  if (/^\w+\.kind$/.test(expression))
    return [
      ...file.matchAll(/\bthen ('[a-z_]+'\s+else '[a-z_]+')\s+end as kind\b/g),
      ...file.matchAll(/('[a-z_]+') as kind\b/g),
      ...file.matchAll(/\bunion all\s+select ('[a-z_]+'),/g),
    ].flatMap(([, word]) => literals(word!))
  return ['?']
}

/** Every kind that one source writes; '?' where it writes one that cannot be read. */
function kindsIn(source: string): string[] {
  const code = source.replace(/--.*$/gm, '')
  const inserted = [
    ...code.matchAll(/insert into mooring\.event\s*\(\s*kind,[^)]*\)\s+(?:select|values\s*\()\s*/g),
  ].map((found) => firstOf(code.slice(found.index + found[0].length)))
  const added = [...code.matchAll(/perform mooring_internal\.add_event\(/g)].map((found) =>
    firstOf(code.slice(found.index + found[0].length)),
  )
  const given = [
    ...code.matchAll(/mooring_internal\.release\(([^;]*?)\)(?: \w+)?(?:\s|;|\))/g),
  ].flatMap(([, args]) => literals(args!).slice(0, 1))
  const all = [...code.matchAll(/\binsert into mooring\.event\b/g)].length
  return [
    ...(inserted.length < all ? ['?'] : []),
    ...[...inserted, ...added].flatMap((expression) => {
      const kinds = kindsOf(expression.trim(), code)
      return kinds.length === 0 && !/^(release|add_event)\.kind$/.test(expression.trim())
        ? ['?']
        : kinds
    }),
    ...given,
  ]
}

const tabled = (doc: string): string[] =>
  (/^## Events$(.*?)^## /ms.exec(doc)?.[1] ?? '')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) => [...line.split('|')[1]!.matchAll(/`([a-z_]+)`/g)].map(([, kind]) => kind!))

t.test('the table of events has every kind that is written, and no other', (t) => {
  const written = new Map([...SOURCES].map(([file, source]) => [file, kindsIn(source)]))
  t.same(
    [...written].filter(([, kinds]) => kinds.includes('?')).map(([file]) => file),
    [],
    'of every insert the kind can be read',
  )
  const kinds = new Set([...written.values()].flat())
  t.same([...new Set(tabled(DOC))].sort(), [...kinds].sort())
  t.same([...EVENT_KINDS].sort(), [...kinds].sort(), 'the kinds `mooring events --kind` knows')
  t.equal(tabled(DOC).length, new Set(tabled(DOC)).size, 'each once')
  // the reader of sources is not blind
  for (const kind of [
    'claimed',
    'reaped',
    'refused',
    'drain_changed',
    'move_dropped',
    'node_rebound',
    'worker_lost',
    'claim_failed',
  ])
    t.ok(kinds.has(kind), kind)
  t.end()
})

t.test('negative control: a kind that is new is missed, however it is written', (t) => {
  t.same(kindsIn("  perform mooring_internal.add_event('ship_sunk', format('x %s', 'y'), 1);"), [
    'ship_sunk',
  ])
  t.same(
    kindsIn(
      "perform mooring_internal.add_event(case when a = 'b' then 'ship_sunk' else " +
        "'ship_found' end, 'why');",
    ),
    ['ship_sunk', 'ship_found'],
  )
  t.same(
    kindsIn("insert into mooring.event (kind, node_id, reason)\n values ('ship_sunk', 1, 'why');"),
    ['ship_sunk'],
  )
  t.same(
    kindsIn(
      'insert into mooring.event (kind, reason) select e.kind, e.reason from (select ' +
        "'ship_sunk' as kind, 'x' as reason union all select 'ship_found', 'y') e",
    ),
    ['ship_sunk', 'ship_found'],
  )
  t.same(
    kindsIn(
      "insert into mooring.event (kind, reason) select p.kind, 'why' from (select case " +
        "when x then 'ship_sunk' else 'ship_found' end as kind from y) p",
    ),
    ['ship_sunk', 'ship_found'],
  )
  t.same(kindsIn("select a.id from mooring_internal.release(ids, epochs, 'ship_sunk', 'why') a;"), [
    'ship_sunk',
  ])
  t.same(kindsIn('insert into mooring.event (kind, reason) select what(1), reason from x'), ['?'])
  t.same(
    kindsIn("insert into mooring.event\n  (kind, reason)\nselect\n    'ship_sunk', 'why' from x"),
    ['ship_sunk'],
  )
  t.same(kindsIn("insert into mooring.event (reason, kind) values ('why', 'ship_sunk')"), ['?'])
  t.same(tabled('## Events\n| `a`, `b` | x |\n|`c`|\n| `d` | `e` |\n## More\n| `f` | x |\n'), [
    'a',
    'b',
    'd',
  ])
  t.end()
})

t.test('every verb, view and setting that operators are told of is there', async (t) => {
  const { sql } = await testDatabase(t)
  const names = async (found: Promise<readonly { name: string }[]>): Promise<Set<string>> =>
    new Set((await found).map(({ name }) => name))
  const verbs = await names(
    sql`select p.proname as name from pg_proc p where p.pronamespace = 'mooring'::regnamespace`,
  )
  const settings = await names(
    sql`
      select a.attname as name
      from pg_attribute a
      where a.attrelid = 'mooring.setting'::regclass and a.attnum > 0
    `,
  )
  const columns = await names(
    sql`
      select c.relname || '.' || a.attname as name
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
      where c.relnamespace = 'mooring'::regnamespace and c.relkind = 'v'
    `,
  )
  const views = new Set([...columns].map((name) => name.split('.')[0]!))
  const told = (text: string) => [
    ...[
      ...text.matchAll(
        /(?<=`|`select |from |mooring\.)(?:mooring\.)?(?!pg_)([a-z]+(?:_[a-z]+)*)\(/g,
      ),
    ].map(([, name]) => ({ name: name!, there: verbs.has(name!) })),
    ...[...text.matchAll(/`setting\.([a-z_]+)/g)].map(([, name]) => ({
      name: `setting.${name}`,
      there: settings.has(name!),
    })),
    ...[...text.matchAll(new RegExp(`\`((?:${[...views].join('|')})\\.[a-z_]+)\``, 'g'))].map(
      ([, name]) => ({ name: name!, there: columns.has(name!) }),
    ),
  ]
  const missing = (text: string) =>
    told(text)
      .filter(({ there }) => !there)
      .map(({ name }) => name)
  const pages = readdirSync(join(ROOT, 'docs')).filter((file) => file.endsWith('.md'))
  for (const page of [...pages.map((file) => `docs/${file}`), 'README.md']) {
    // figures are of functions inside, which have other names than what operators type
    if (page === 'docs/figures.md') continue
    t.same(missing(readFileSync(join(ROOT, page), 'utf8')), [], page)
  }
  for (const page of [
    'README.md',
    'docs/compared.md',
    'docs/history.md',
    'docs/moving.md',
    'docs/operating.md',
    'docs/runbook.md',
    'docs/security.md',
    'docs/waiting.md',
  ])
    t.not(told(readFileSync(join(ROOT, page), 'utf8')).length, 0, page)
  t.same(
    missing(
      '`reasign(7)`, `select * from mooring.drain_nodes()`, `setting.leas_ttl`, ' +
        '`fleet.holds`, `reassign()`, `fleet.hold`',
    ),
    ['reasign', 'drain_nodes', 'setting.leas_ttl', 'fleet.holds'],
    'a name that is wrong is noticed',
  )
})
