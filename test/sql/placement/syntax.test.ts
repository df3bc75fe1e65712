/**
 * The rules of syntax stand twice: in SQL (constraints, check_trust_pattern) and in syntax/. Each
 * value is put to both sides, and both have to say what the table says.
 */
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { NAME_PATTERN } from '../../../syntax/name.js'
import { isPackageName, versionKind } from '../../../syntax/package-reference.js'
import { trustProblem } from '../../../syntax/trust-pattern.js'
import { testDatabase } from '../../helpers/postgres.js'
import { storiesIn } from '../story.js'

interface Values {
  accepted: readonly string[]
  refused: readonly string[]
}

const NAMES: Values = {
  accepted: ['a', 'A', '0', 'host-a', 'web.1', 'a_b', 'a-', 'a.', 'x'.repeat(63)],
  refused: ['', '-a', '.a', '_a', 'a b', 'a/b', 'é', 'a\n', '\na', '@a', 'x'.repeat(64)],
}

const PACKAGE_NAMES: Values = {
  accepted: [
    'a',
    'http-server',
    '-x',
    '~x',
    '0',
    'a.b_c~d',
    '@acme/web',
    '@~/-',
    '@-._~/x',
    'tgz',
    'x.tgzz',
    'x'.repeat(214),
  ],
  refused: [
    '',
    '.',
    '.x',
    '_x',
    'X',
    'a b',
    'a/b',
    '@a',
    '@a/',
    '@/b',
    '@a/b/c',
    '@.a/b',
    '@a/.b',
    'x.tgz',
    'x.tar',
    'x.tar.gz',
    '@a/x.tgz',
    'x@npm:y',
    'x\n',
    'é',
    'ſ',
    'x'.repeat(215),
  ],
}

const VERSIONS: Values = {
  accepted: [
    'latest',
    'next',
    'v',
    'xyz',
    'x-1',
    'beta.1',
    'A_b-c.',
    '0.0.0',
    '14.1.1',
    '1.0.0-beta.1',
    '1.0.0-0',
    '1.0.0-01a',
    '1.0.0--',
    '1.0.0+01',
    '1.0.0-tgz',
    '1.0.0-x.tgz.1',
    '1.2.3-a.b-c+d.e-f',
    'a'.repeat(128),
    `1.0.0-${'a'.repeat(122)}`,
  ],
  refused: [
    '',
    '1',
    '1.0',
    '01.0.0',
    '1.0.00',
    '1.0.0-01',
    '1.0.0-a.01',
    '1.0.0-',
    '1.0.0-.',
    '1.0.0-a..b',
    '1.0.0-a.',
    '1.0.0+',
    '1.0.0+a..b',
    '1.0.0+a+b',
    '1.0.0\n',
    '1.0.0 ',
    'v1',
    'V1.0.0',
    'x',
    'X',
    'x.x',
    'X.1',
    '^1.0.0',
    '*',
    'a/b',
    'a b',
    'npm:x',
    'next.tgz',
    'a.TAR',
    'a.tar.gz',
    '1.0.0-x.tgz',
    '1.0.0+x.tar',
    '1.0.0-x.TAR.gz',
    '_a',
    '-g',
    'é',
    'a'.repeat(129),
    `1.0.0-${'a'.repeat(123)}`,
  ],
}

const TRUST_PATTERNS: Values = {
  accepted: [
    '',
    '.',
    '^@acme/',
    '^(?:a|b)@',
    '(a|)@1',
    'a||b',
    '()',
    '()*',
    '(^|a)*',
    '\\(?x',
    '\\[:x',
    '\\[\\]|x',
    '[:a]',
    '[.-]',
    '[a-]',
    '[-a]',
    '[-]',
    '[--a]',
    '[+--]',
    '[a-b-]',
    '[a\\-z]',
    '[\\w-]',
    '[-\\w]',
    '[^\\W]',
    '[a[b]',
    '[\\]]',
    'a]b',
    '{',
    '}',
    'a{',
    'a{,3}',
    'a{x}',
    'a{2}',
    'a{02}',
    'a{0255}',
    'a{1,}',
    'a{1,2}?',
    'a\\{1',
    'a\\{300}',
    '[{]1',
    '[a{1]',
    '\\\\{1}',
    'a{255}',
    '\\\\\\.',
    'x'.repeat(1000),
  ],
  refused: [
    '(',
    ')',
    '[',
    '[a',
    '*a',
    'a**',
    'a{2}{3}',
    '{2}',
    '(*a)',
    'a|*',
    '^*',
    '$+',
    'a{2,1}',
    'a{256}',
    'a{1,256}',
    'a{1000}',
    'a{1',
    'a{1,',
    'a{1,2',
    'a{1,2,3}',
    'a{1x}',
    '\\\\{1',
    '[z-a]',
    '[a-b-c]',
    '[\\d-z]',
    '[a-\\d]',
    '[]',
    '[^]',
    '[]a]',
    '[^]a]',
    '(?',
    '(?i)a',
    '(?=a)',
    '(?<n>a)',
    '[[:alpha:]]',
    '[^a[.x.]]',
    '[[=a=]]',
    '***a',
    '\\',
    'a\\',
    '\\b',
    '\\1',
    '\\\\\\b',
    '[\\b]',
    'é',
    '\t',
    'x'.repeat(1001),
  ],
}

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** Asks SQL behind a savepoint. */
async function accepts(
  sql: TransactionSql,
  ask: (sql: TransactionSql) => Promise<unknown>,
): Promise<boolean> {
  return await sql
    .savepoint(async (sql) => {
      await ask(sql)
    })
    .then(
      () => true,
      (error: { code?: string }) => {
        // a violated constraint, or a trust pattern refused by name
        if (error.code !== '23514' && error.code !== 'MR007') throw error
        return false
      },
    )
}

function agree(
  what: string,
  { accepted, refused }: Values,
  inTypeScript: (value: string) => boolean,
  inSql: (sql: TransactionSql, value: string) => Promise<unknown>,
): void {
  story(`${what}: SQL and TypeScript accept and refuse the same`, async (t, sql) => {
    for (const value of [...accepted, ...refused]) {
      const expected = accepted.includes(value)
      const name = JSON.stringify(value.length > 40 ? `${value.slice(0, 10)}...` : value)
      t.equal(inTypeScript(value), expected, `TypeScript: ${name}`)
      t.equal(await accepts(sql, (sql) => inSql(sql, value)), expected, `SQL: ${name}`)
    }
  })
}

const isName = (name: string): boolean => NAME_PATTERN.test(name)
agree('names of nodes', NAMES, isName, (sql, name) =>
  sql`insert into mooring.node (name) values (${name})`.execute(),
)
agree('names of deployments', NAMES, isName, (sql, name) =>
  sql`insert into mooring.deployment (name, command, replicas) values (${name}, 'x', 0)`.execute(),
)
agree('package names', PACKAGE_NAMES, isPackageName, (sql, name) =>
  sql`insert into mooring.deployment (package_name, replicas) values (${name}, 0)`.execute(),
)
agree(
  'package versions',
  VERSIONS,
  (version) => versionKind(version) !== null,
  (sql, version) =>
    sql`
      insert into mooring.deployment (package_name, package_version, replicas)
      values ('x', ${version}, 0)`.execute(),
)
agree(
  'trust patterns',
  TRUST_PATTERNS,
  (pattern) => trustProblem(pattern) === null,
  (sql, pattern) => sql`select mooring_internal.check_trust_pattern(${pattern})`.execute(),
)
