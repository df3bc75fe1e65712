/** The script of a namespace's runner, in each shell that may run it. */
import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { runnerScript } from '../../../agent/warden/runner-script.js'
import { findProgram } from '../../../agent/warden/start-errors.js'

const SHELLS = [['dash'], ['bash'], ['bash', '--posix'], ['busybox', 'sh']].filter(
  ([program]) => findProgram(program!, '/usr/local/bin:/usr/bin:/bin') !== null,
)

/** Names that a shell reserves. ORDINARY holds names that only look like them. */
const KEPT = [
  '_',
  'OPTIND',
  'LINENO',
  'UID',
  'EUID',
  'PPID',
  'RANDOM',
  'SRANDOM',
  'SECONDS',
  'EPOCHSECONDS',
  'EPOCHREALTIME',
  'HISTCMD',
  'GROUPS',
  'FUNCNAME',
  'DIRSTACK',
  'PIPESTATUS',
  'SHELLOPTS',
  'SHLVL',
  'BASHOPTS',
  'BASHPID',
  ...[
    'ALIASES',
    'ARGC',
    'ARGV',
    'CMDS',
    'COMMAND',
    'LINENO',
    'SOURCE',
    'SUBSHELL',
    'VERSINFO',
    'REMATCH',
    'MONOSECONDS',
    'TRAPSIG',
  ].map((name) => `BASH_${name}`),
]
const ORDINARY = [
  'EPOCH_API_KEY',
  'EPOCHS',
  'BASHO_TOKEN',
  'BASH',
  'BASH_ENV',
  'BASH_TOKEN',
  'BASH_VERSION',
  'BASH_ARGV0',
  'BASH_COMPAT',
  'BASH_XTRACEFD',
  'BASH_EXECUTION_STRING',
  'BASH_LOADABLES_PATH',
  'UID_SECRET',
  'SECONDS_KEY',
  'OPTARG',
  'OPTERR',
  'REPLY',
  'MAPFILE',
  'COPROC',
  'COMPREPLY',
  'COMP_WORDBREAKS',
  'TIMEFORMAT',
  'TMOUT',
  'MAILCHECK',
  'MAIL',
  'IGNOREEOF',
  'POSIXLY_CORRECT',
  'GLOBIGNORE',
  'HISTSIZE',
  'HISTFILE',
  'HOSTNAME',
  'HOSTTYPE',
  'OSTYPE',
  'LINES',
  'COLUMNS',
  'LC_CTYPE',
  'LANG',
  'SHELL',
  'PWD',
  'OLDPWD',
  'HOME',
  'CDPATH',
  'IFS',
  'PS1',
  'PS4',
  'PROMPT_COMMAND',
  'FUNCNEST',
  'CHILD_MAX',
  'ENV',
  'USER',
  'LD_PRELOAD_X',
]
const VALUES = ['', 'x y', '7', '5.1', '/nowhere', 's3cret']

/** tap adds these to the environment of everything a test starts. */
const BY_TAP = /^(NODE_OPTIONS|_TAPJS\w*)=/

const scriptFor = (env: Record<string, string>): string =>
  runnerScript({ argv: ['/usr/bin/env', '-0'], cwd: '/', env, runId: 'x', logFile: null })

async function outputOf(shell: readonly string[], env: Record<string, string>): Promise<string[]> {
  const [program, ...args] = shell
  const child = spawn(program!, [...args, '-s'], {
    stdio: ['pipe', 'pipe', 'ignore', 'pipe'],
    env: { MOORING_RUN: 'warden' },
  })
  // the program's output goes to our pipe, not to its log
  child.stdin!.end(scriptFor(env).replace('exec </dev/null >/dev/null 2>&1', 'exec </dev/null'))
  const [out, report] = await Promise.all([text(child.stdout!), text(child.stdio[3] as Readable)])
  return [
    report,
    ...out
      .split('\0')
      .filter((entry) => entry !== '' && !BY_TAP.test(entry))
      .sort(),
  ]
}

t.test('whatever a variable is called and holds, the program has it', async (t) => {
  t.ok(SHELLS.length > 0)
  for (const shell of SHELLS) {
    for (const value of VALUES) {
      const env = Object.fromEntries([...KEPT, ...ORDINARY, 'a.b-c'].map((name) => [name, value]))
      const entries = Object.entries({ ...env, MOORING_RUN: 'x' })
        .map(([name, text]) => `${name}=${text}`)
        .sort()
      t.strictSame(
        await outputOf(shell, env),
        ['up\n', ...entries],
        `${shell.join(' ')}: ${JSON.stringify(value)}`,
      )
    }
  }
})

t.test('no shell adds anything of its own', async (t) => {
  for (const shell of SHELLS)
    t.strictSame(
      (await outputOf(shell, { A: '1' })).filter((entry) => !entry.startsWith('_=')),
      ['up\n', 'A=1', 'MOORING_RUN=x'],
      shell.join(' '),
    )
})

t.test('no value is on a command line because its name begins like one that a shell keeps', (t) => {
  const programOf = (name: string): string =>
    scriptFor({ [name]: 's3cret' })
      .split(' && ')
      .at(-1)!
  for (const name of ORDINARY) t.notMatch(programOf(name), /s3cret/, name)
  for (const name of KEPT) t.match(programOf(name), /s3cret/, `${name}, which has no other way`)
  t.end()
})
