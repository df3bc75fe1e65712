import { inspect } from 'node:util'
import t from 'tap'
import { AgentConfigError, parseAgentConfig } from '../../agent/config.js'
import { trustProblem } from '../../syntax/trust-pattern.js'
import { testDatabase } from '../helpers/postgres.js'

const databaseUrl = 'postgres://agent:s3cret@localhost/mooring'

function problemsOf(input: unknown): readonly string[] {
  try {
    parseAgentConfig(input)
    return []
  } catch (error) {
    if (error instanceof AgentConfigError) return error.problems
    throw error
  }
}

t.test('a name and a database are enough; nothing is trusted then', (t) => {
  const config = parseAgentConfig({ name: 'host-a', databaseUrl })
  t.match(config, {
    name: 'host-a',
    trust: null,
    allowExec: false,
    allowScripts: false,
    labels: null,
    maxAssignments: null,
  })
  t.match(config.stateDir, /^\//, 'the state folder does not depend on where the agent is later')
  t.end()
})

t.test('all problems are told at once, unknown keys by name, and no secret among them', (t) => {
  const problems = problemsOf({
    name: '../etc',
    databaseUrl,
    trust: '([',
    maxAssignments: -1,
    agentBaseUrl: 'ftp://x',
    trusts: 'typo',
    labels: { a: 1 },
  })
  for (const key of ['name', 'trust', 'maxAssignments', 'agentBaseUrl', 'labels.a', 'trusts'])
    t.ok(
      problems.some((problem) => problem.includes(key)),
      key,
    )
  t.notMatch(inspect(problems), /s3cret/)
  t.end()
})

t.test('a node is called by one plain word of at most 63 characters', (t) => {
  for (const name of ['a', 'A-1', 'host.example_1', 'x'.repeat(63)])
    t.same(problemsOf({ name, databaseUrl }), [], name)
  for (const name of ['', '-a', '.a', 'a b', 'a\n', 'hоst', 'a/b', 'x'.repeat(64)])
    t.equal(problemsOf({ name, databaseUrl }).length, 1, JSON.stringify(name))
  t.end()
})

const READ_ALIKE = [
  '^http-server@',
  '^@acme/[a-z-]+@\\d+\\.\\d+',
  '^(serve|http-server)@(1|2)\\.',
  '^(?:a|b)@',
  'x{1,3}',
  '[^@]+@',
  '\\\\',
  '',
]
const REFUSED = [
  '([',
  '*a',
  '(?i)a',
  '(?<=a)b',
  '(?=a)',
  '[[:alpha:]]',
  '\\bword',
  'a\\1',
  '\\p{L}',
  '***:a',
  'é',
  'a\\',
  '\\\\\\b',
]

t.test(
  'a trust pattern that Postgres and JavaScript read differently is refused here, as it is there',
  async (t) => {
    const { sql } = await testDatabase(t)
    for (const pattern of [...READ_ALIKE, ...REFUSED]) {
      const theirs = await sql`select mooring_internal.check_trust_pattern(${pattern})`.then(
        () => 'taken',
        () => 'refused',
      )
      t.equal(trustProblem(pattern) === null ? 'taken' : 'refused', theirs, pattern)
      t.equal(theirs, REFUSED.includes(pattern) ? 'refused' : 'taken', pattern)
    }
  },
)
