import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const packages = [
  'http-server@14.1.1',
  '@acme/site@1.0.0',
  '@acme/api.v2@2.0.0-rc.1',
  'left_pad@1',
  'a@1',
  'serve@14',
  '-x@1',
  'a]b@1',
  'a{,3}@1',
  'aa@1',
  '.@1',
  '^@1',
  '$@1',
  'x@1',
  '@acme@1',
]
const alike = [
  '',
  '.',
  '^http-server@',
  '^@acme/',
  '^(http-server|serve)@',
  '^(?:a|b)@',
  '^[a-z-]+@\\d+',
  '[.-]',
  '^@acme[./]',
  '\\.v\\d',
  '^\\w+@',
  '[\\w-]+@1$',
  '[^\\w]',
  '[\\D]@',
  'a?a?@',
  'a{2}@',
  'a{1,}@',
  'a+?@',
  '(a|)@1',
  '()',
  'a||b',
  '\\]',
  '[\\]]',
  '[a\\]]b',
  'a]b',
  '\\^@',
  '\\$@',
  '\\(?x',
  'x\\/?',
  '^[^@]+@14',
  '}',
  '{',
  '[a[b]@',
  '\\[\\]|x',
  '-',
  '[a-]',
  '[-a]',
  'A',
  '\\S+@\\S+',
  '[ \\s]',
  'x{0}',
  '^(^a)',
  '@1$|^a',
  '\\{,3\\}',
  'a{,3}',
]
const odd: [pattern: string, reason: RegExp][] = [
  ['(', /not balanced/],
  ['[', /not balanced/],
  [')', /not balanced/],
  ['a**', /quantifier/],
  ['*a', /quantifier/],
  ['a{2,1}', /repetition/],
  ['a{256}', /repetition/],
  ['[z-a]', /range/],
  ['a{1', /balanced/],
  ['\\', /escapes/],
  ['\\bfoo', /escapes/],
  ['(a)\\1', /escapes/],
  ['\\yfoo', /escapes/],
  ['\\m', /escapes/],
  ['\\u0041', /escapes/],
  ['\\x41', /escapes/],
  ['\\p{L}', /escapes/],
  ['a\\\\b\\n', /escapes/],
  ['(?i)a', /groups/],
  ['(?=a)', /groups/],
  ['(?!a)', /groups/],
  ['(?<!a)b', /groups/],
  ['(?<n>a)', /groups/],
  ['(?', /groups/],
  ['[[:alpha:]]', /class/],
  ['[^[:alpha:]]', /class/],
  ['[a[.hyphen.]]', /class/],
  ['[[=a=]]', /class/],
  ['[]a]', /set/],
  ['[^]a]', /set/],
  ['***=a', /\*\*\*/],
  ['é', /ASCII/],
  ['a\nb', /ASCII/],
  ['\t', /ASCII/],
  ['x'.repeat(1001), /1000/],
]

story('what is accepted means the same to Postgres and to JavaScript', async (t, sql) => {
  for (const pattern of alike) {
    await sql`select mooring_internal.check_trust_pattern(${pattern})`
    const rows = await sql<{ package: string; matches: boolean }[]>`
      select p.package, p.package ~ ${pattern} as matches
        from unnest(${packages}::text[]) p (package)`
    const theirs = rows.filter(({ matches }) => matches).map((row) => row.package)
    t.same(
      theirs,
      packages.filter((name) => new RegExp(pattern).test(name)),
      JSON.stringify(pattern),
    )
  }
})

story('what they read differently, or not at all, is refused with the reason', async (t, sql) => {
  for (const [pattern, message] of odd) {
    await refused(
      t,
      sql,
      (sql) => sql`select mooring_internal.check_trust_pattern(${pattern})`,
      { code: 'MR007', message, hint: /plain regular expression/ },
      JSON.stringify(pattern.slice(0, 20)),
    )
  }
})

story('no pattern is no mistake: it trusts nothing', async (t, sql) => {
  t.equal((await sql`select mooring_internal.check_trust_pattern(null)`).length, 1)
})

story('a pattern is checked wherever it is written', async (t, sql) => {
  await refused(
    t,
    sql,
    (sql) => sql`insert into mooring.node (name, trusts) values ('host-a', '(')`,
    { code: 'MR007' },
    'insert',
  )
  await sql`insert into mooring.node (name, trusts) values ('host-a', 'a')`
  await refused(
    t,
    sql,
    (sql) => sql`update mooring.node set trusts = '\\bfoo'`,
    { code: 'MR007' },
    'update',
  )
  await refused(
    t,
    sql,
    (sql) => sql`select mooring.register_node('host-a', gen_random_uuid(), '[]a]')`,
    { code: 'MR007' },
    'registration',
  )
})

story('without the check one bad pattern stops the placement of everything', async (t, sql) => {
  await sql`alter table mooring.node disable trigger tg_node__guard_insert`
  await sql`insert into mooring.node (name, trusts) values ('host-a', '(')`
  await sql`insert into mooring.deployment (package_name) values ('http-server')`
  await refused(t, sql, (sql) => sql`select * from mooring.claim()`, { code: '2201B' })
})
