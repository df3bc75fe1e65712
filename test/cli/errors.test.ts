import t from 'tap'
import {
  CommandError,
  isConnectionProblem,
  problemOf,
  renderProblem,
  UsageError,
  withoutSecrets,
} from '../../cli/errors.js'

const failure = (fields: object, message = 'as the server says it') =>
  Object.assign(new Error(message), fields)

t.test('a refused connection names the address and the next command', async (t) => {
  const problem = problemOf(failure({ code: 'ECONNREFUSED', address: '127.0.0.1', port: 5499 }))
  t.equal(problem.message, 'no database server answers at 127.0.0.1:5499')
  t.match(problem.hint, /DATABASE_URL|mooring up/)
  t.equal(problem.exitCode, 1)
})

t.test(
  'where TLS is asked for, a broken connection may mean that the server has none',
  async (t) => {
    const before = process.env['DATABASE_URL']
    t.teardown(() => {
      if (before === undefined) delete process.env['DATABASE_URL']
      else process.env['DATABASE_URL'] = before
    })
    for (const [url, hint] of [
      ['postgres://h/d?sslmode=require', /may not speak TLS/],
      ['postgres://h/d?sslmode=disable', /^try again in a moment$/],
      ['postgres://h/d', /^try again in a moment$/],
    ] as const) {
      process.env['DATABASE_URL'] = url
      for (const code of ['ECONNRESET', 'CONNECTION_CLOSED'])
        t.match(problemOf(failure({ code })).hint, hint, url)
    }
  },
)

t.test(
  'where none of several hosts is a primary, the message says what each of them did',
  async (t) => {
    t.match(
      problemOf(
        failure(
          { code: 'ECONNREFUSED' },
          'no host of DATABASE_URL is a primary that answers (a:1 is a standby)',
        ),
      ).message,
      'a:1 is a standby',
    )
  },
)

t.test('several addresses refused at once speak as one', async (t) => {
  const first = failure({ code: 'ECONNREFUSED', address: '::1', port: 1 })
  t.match(
    problemOf(new AggregateError([first, first])).message,
    /no database server answers at ::1:1/,
  )
})

t.test('a name in use says when it is free', async (t) => {
  const problem = problemOf(
    failure(
      { code: 'MR002', detail: '{"free_in_ms":7340}' },
      'another live agent is called host-a',
    ),
  )
  t.equal(
    problem.message,
    'another live agent is called host-a; the name is free in 7.3 s at the earliest',
  )
  t.notOk(problem.detail)
})

t.test('the hint of the server is better than ours', async (t) => {
  t.equal(
    problemOf(failure({ code: 'MR003', hint: 'Did you mean host-a?' })).hint,
    'Did you mean host-a?',
  )
})

t.test('bad usage ends with 2, a failure with 1', async (t) => {
  t.equal(problemOf(new UsageError('no such option')).exitCode, 2)
  t.equal(problemOf(new CommandError('the work failed')).exitCode, 1)
  t.equal(problemOf('thrown text').exitCode, 1)
})

t.test('the password of a database address is never shown', async (t) => {
  const url = 'postgres://app:s3cr%40t@db.example/app'
  for (const text of [
    `cannot reach ${url}`,
    'password s3cr@t is wrong',
    'raw s3cr%40t',
    'other postgres://u:pass@h/db',
  ]) {
    t.notMatch(withoutSecrets(text, url), /s3cr|:pass@/, text)
  }
  t.equal(
    withoutSecrets('cannot reach postgres://u:p@h/db', undefined),
    'cannot reach postgres://u:***@h/db',
  )
})

t.test('an error as JSON is one line for programs', async (t) => {
  const text = renderProblem(
    problemOf(failure({ code: 'MR006', detail: 'it owns 3', hint: 'drain it' }, 'refused')),
    true,
  )
  t.same(JSON.parse(text), {
    error: { message: 'refused', code: 'MR006', detail: 'it owns 3', hint: 'drain it' },
  })
})

t.test('only trouble with the connection is worth waiting for', async (t) => {
  for (const code of [
    'ECONNREFUSED',
    'ETIMEDOUT',
    'CONNECTION_CLOSED',
    'CONNECT_TIMEOUT',
    '57P01',
    '57P03',
    '08006',
    '53300',
    '58030',
  ])
    t.ok(isConnectionProblem(failure({ code })), code)
  for (const code of ['42P01', 'MR002', '28P01', '3D000', undefined])
    t.notOk(isConnectionProblem(failure({ code })), String(code))
})
