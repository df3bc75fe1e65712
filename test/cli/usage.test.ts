import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { mooring, tempDir } from '../helpers/processes.js'
import type { ProgramOptions } from '../helpers/processes.js'

/** Runs a command to its end, in a state directory of its own. */
async function run(t: Test, args: readonly string[], options: ProgramOptions = {}) {
  const state = tempDir(t)
  const program = mooring(t, args, {
    ...options,
    env: { MOORING_STATE_DIR: state, ...options.env },
  })
  const { code } = await program.exited
  return { code, stdout: program.stdout(), stderr: program.stderr() }
}

const URL_WITH_SECRET = 'postgres://app:s3cret@127.0.0.1:1/app'

t.test('every command explains itself', async (t) => {
  await Promise.all(
    [
      [],
      ['up'],
      ['status'],
      ['explain'],
      ['events'],
      ['logs'],
      ['apply'],
      ['psql'],
      ['drain'],
      ['undrain'],
      ['reassign'],
      ['rebalance'],
      ['history'],
      ['metrics'],
      ['simulate'],
      ['simulate', 'loss'],
      ['simulate', 'drain'],
      ['simulate', 'insert'],
      ['get'],
      ['get', 'nodes'],
      ['get', 'deployments'],
      ['get', 'assignments'],
      ['describe'],
      ['describe', 'node'],
      ['describe', 'deployment'],
      ['enable'],
      ['enable', 'node'],
      ['enable', 'deployment'],
      ['disable'],
      ['disable', 'node'],
      ['disable', 'deployment'],
      ['scale'],
      ['scale', 'deployment'],
      ['restart'],
      ['restart', 'deployment'],
      ['restart', 'assignment'],
      ['delete'],
      ['delete', 'node'],
      ['delete', 'deployment'],
      ['set', 'node'],
      ['resume-reaping'],
      ['db'],
      ['db', 'up'],
      ['db', 'down'],
      ['db', 'url'],
      ['migrate'],
      ['uninstall'],
      ['worker'],
      ['agent'],
      ['show'],
      ['show', 'unit'],
      ['show', 'unit', 'agent'],
      ['show', 'unit', 'worker'],
      ['completion'],
      ['version'],
      ['cordon'],
    ].map(async (args) => {
      const { code, stdout } = await run(t, [...args, '--help'])
      t.equal(code, 0, args.join(' '))
      t.match(stdout, new RegExp(`^Usage: mooring ?${args.join(' ')}`), args.join(' '))
      t.notMatch(
        stdout,
        /stop-on-stdin-end|up-guard/,
        'what is only for machines is not in the help',
      )
    }),
  )
})

t.test('bad usage exits with 2 and names the help', async (t) => {
  for (const [args, said] of [
    [['frobnicate'], /unknown command 'frobnicate'.*mooring --help/s],
    [['status', '--frobnicate'], /unknown option '--frobnicate'.*mooring status --help/s],
    [['explain'], /missing required argument 'deployment'/],
    [
      ['agent', '--keep-logs', '7'],
      /'7' is invalid\. Add the unit: 7d, 7h\. 0 deletes as soon as possible, forever never/,
    ],
    [['agent', '--keep-packages', 'a week'], /It must be a duration/],
    [
      ['describe', 'host-a'],
      new RegExp(
        "unknown command 'host-a'\\n\\(there are `mooring describe deployment`, `mooring " +
          'describe node`; `mooring describe --help` lists the options\\)',
      ),
    ],
    [['get', 'pods'], /unknown command 'pods'.*mooring get --help/s],
    [['get', 'deployments', 'web', '-l', 'a=b'], /names and -l exclude each other/],
    [
      ['disable', 'deployment'],
      new RegExp(
        'error: which deployments\\?\\nhint: commands that change something need a target: ' +
          'names, a label selector \\(-l\\), or --all',
      ),
    ],
    [['delete', 'deployment', '-l', ''], /Labels are written key=value/],
    [['delete', 'deployment', '-l', 'a=b,'], /none may be empty/],
    [['delete', 'deployment', '-l', '=b'], /Labels are written/],
    [['delete', 'deployment', 'web', '--all'], /names, -l and --all exclude each other/],
    [['delete', 'node'], /which nodes\?/],
    [['scale', 'deployment', 'web'], /required option '--replicas <n>' not specified/],
    [['scale', 'deployment', 'web', '--replicas', '-1'], /whole number/],
    [['restart', 'deployment', 'web', '--at-once', '0'], /1 or more/],
    [['restart', 'assignment', 'web'], /'web' is no id of an assignment/],
    [['events', '--kind', 'Reaped!'], /Kinds are words/],
    [
      ['events', '--kind', 'claimed,reapd'],
      /there is no kind of event 'reapd'\nhint: did you mean reaped/,
    ],
    [['events', '-n', '99999999999'], /0 or more, and 999999999 at most/],
    [['scale', 'deployment', 'web', '--replicas', '99999999999'], /999999999 at most/],
    [['events', '--since', 'yesterday'], /duration/],
    [['events', '-n', 'many'], /whole number/],
    [['logs', '1', '--tail', '-3'], /whole number or 'all'/],
    [['agent', '--label', 'rack'], /A label is written key=value/],
    [['agent', '--log-level', 'loud'], /Allowed choices are/],
    [['db', 'sideways'], /unknown command 'sideways'/],
  ] as const) {
    const { code, stderr, stdout } = await run(t, args, { databaseUrl: URL_WITH_SECRET })
    t.equal(code, 2, args.join(' '))
    t.match(stderr, said)
    t.equal(stdout, '')
  }
})

t.test('an agent with a bad name and a bad trust pattern is told of both', async (t) => {
  const { code, stderr } = await run(t, ['agent', '--name', 'no spaces', '--trust', '^(http'], {
    databaseUrl: URL_WITH_SECRET,
  })
  t.equal(code, 2)
  t.match(stderr, /name: must be 1 to 63/)
  t.match(stderr, /trust: is no regular expression/)
  t.match(stderr, /mooring agent --help/)
})

t.test('up refuses a bad trust pattern before it starts anything', async (t) => {
  const { code, stderr, stdout } = await run(t, ['up', '--trust', '^(http'])
  t.equal(code, 2)
  t.match(stderr, /--trust: is no regular expression/)
  t.equal(stdout, '')
})

t.test('a bad DATABASE_URL is refused by part, and never shown', async (t) => {
  for (const [url, part] of [
    ['mysql://app:s3cret@db/app', /DATABASE_URL: scheme/],
    ['postgres://app:s3cret@db:99999/app', /DATABASE_URL: port/],
    ['postgres://app:s3cret@db', /DATABASE_URL: database/],
    ['postgres://app:s3cret@/app', /DATABASE_URL: host/],
    ['postgres://app:s3cret@db/app?sslmode=maybe', /DATABASE_URL: sslmode/],
  ] as const) {
    for (const args of [
      ['status'],
      ['agent', '--name', 'host-a', '--trust', 'x'],
      ['worker'],
      ['migrate'],
      ['uninstall'],
    ]) {
      const { code, stderr } = await run(t, args, { databaseUrl: url })
      t.equal(code, 2, `${args[0]} ${url}`)
      t.match(stderr, part)
      t.notMatch(stderr, /s3cret/)
    }
  }
})

t.test('a database that does not answer is a failure with a way out', async (t) => {
  const { code, stderr } = await run(t, ['status'], { databaseUrl: URL_WITH_SECRET })
  t.equal(code, 1)
  t.match(stderr, /error: no database server answers at 127\.0\.0\.1:1\nhint: .*DATABASE_URL/)
  t.notMatch(stderr, /s3cret| at .*\.js/)
})

t.test('a stack trace is for --debug', async (t) => {
  const { stderr } = await run(t, ['status', '--debug'], { databaseUrl: URL_WITH_SECRET })
  t.match(stderr, /\n +at /)
  t.notMatch(stderr, /s3cret/)
})

t.test('with --json bad usage is JSON too, whoever finds it', async (t) => {
  for (const [args, said] of [
    [['scale', 'deployment', '1', '--replicas', 'x', '--json'], /--replicas.*whole number/],
    [['status', '--json', '--frobnicate'], /^unknown option '--frobnicate'/],
    [['explain', '--json'], /^missing required argument/],
    [['events', '--json', '--kind', 'reapd'], /no kind of event/],
    [['disable', 'deployment', '--json'], /^which deployments/],
  ] as const) {
    const { code, stderr } = await run(t, args, { databaseUrl: URL_WITH_SECRET })
    t.equal(code, 2, args.join(' '))
    t.match(JSON.parse(stderr), { error: { message: said, hint: String } }, args.join(' '))
  }
})

t.test('migrate says what status says of a server that does not answer', async (t) => {
  const { code, stderr } = await run(t, ['migrate'], { databaseUrl: URL_WITH_SECRET })
  t.equal(code, 1)
  t.match(stderr, /error: no database server answers at 127\.0\.0\.1:1\nhint: .*DATABASE_URL/)
})

t.test('with --json an error is JSON too', async (t) => {
  const { stderr } = await run(t, ['status', '--json'], { databaseUrl: URL_WITH_SECRET })
  t.match(JSON.parse(stderr), { error: { code: 'ECONNREFUSED', message: String } })
})

t.test(
  'without DATABASE_URL and without an embedded server the way to start one is named',
  async (t) => {
    const { code, stderr } = await run(t, ['status'])
    t.equal(code, 1)
    t.match(stderr, /no embedded server runs in .*\nhint: .*`mooring up`.*`mooring db up`/)
  },
)

t.test('db down keeps its hands off the server of DATABASE_URL', async (t) => {
  const { code, stderr } = await run(t, ['db', 'down'], { databaseUrl: URL_WITH_SECRET })
  t.equal(code, 1)
  t.match(stderr, /DATABASE_URL is set/)
})

t.test('db url prints the address that wins', async (t) => {
  t.equal(
    (await run(t, ['db', 'url'], { databaseUrl: URL_WITH_SECRET })).stdout,
    `${URL_WITH_SECRET}\n`,
  )
})

t.test(
  'a file that cannot be applied is bad usage, told before any database is asked',
  async (t) => {
    const dir = tempDir(t)
    const file = (name: string, text: string) => {
      writeFileSync(join(dir, name), text)
      return join(dir, name)
    }
    for (const [path, said] of [
      [join(dir, 'none.json'), /there is no such file/],
      [file('empty.json', ' \n'), /is empty/],
      [file('broken.json', '{"deployments": ['), /is no JSON/],
      [
        file('wrong.json', '[{"name": "web", "package_name": "x", "replicas": "3"}]'),
        /deployments\[0\] \(web\)\.replicas/,
      ],
    ] as const) {
      const { code, stderr } = await run(t, ['apply', path], { databaseUrl: URL_WITH_SECRET })
      t.equal(code, 2, path)
      t.match(stderr, said)
    }
  },
)
