// Completion as a shell asks for it: by commander's own tree, and by the names of the database.
import { execFile } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual, promisify } from 'node:util'
import { Command, Option } from 'commander'
import t from 'tap'
import type { Test } from 'tap'
import { completionOf } from '../../../cli/terminal/completion.js'
import { rudeServer } from '../../helpers/rude-server.js'
import { tempDir } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'
import { fleet, run } from '../fleet.js'

t.test('the tree says what may follow', (t) => {
  const program = new Command('tool')
  const restart = program.command('restart')
  restart.command('deployment', { isDefault: true }).argument('[deployment...]').option('--at <n>')
  restart.command('assignment').alias('assignments').argument('<assignment>')
  program
    .command('move')
    .argument('<assignment|deployment>')
    .argument('<node>')
    .option('--node <node>', '')
    .addOption(new Option('-m, --mode <mode>').choices(['fast', 'safe']))
    .addOption(new Option('--secret').hideHelp())
  program.command('hidden', { hidden: true })
  for (const [typed, words, kinds] of [
    [[''], ['restart', 'move', 'help'], []],
    [['restart', ''], ['deployment', 'assignment', 'help'], ['deployment']],
    [['restart', 'web', ''], [], ['deployment']],
    [['restart', '--at', '2', ''], ['deployment', 'assignment', 'help'], ['deployment']],
    [['restart', '--'], ['--help', '--at', '--help'], []],
    [['restart', 'assignments', ''], [], ['assignment']],
    [['restart', 'assignment', '7', ''], [], []],
    [['move', ''], [], ['deployment', 'assignment']],
    [['move', '--mode', 'fast', '7', ''], [], ['node']],
    [['move', '-m', ''], ['fast', 'safe'], []],
    [['move', '--node', ''], [], ['node']],
    [['move', '--mode=fast', ''], [], ['deployment', 'assignment']],
    [['move', '-'], ['--node', '--mode', '--help'], []],
  ] as const)
    t.same(completionOf(program, typed), { words, kinds }, typed.join(' '))
  t.end()
})

/** What bash offers for a line that is not finished. */
async function inBash(t: Test, { url, state }: { url: string; state: string }, ...words: string[]) {
  const bin = tempDir(t, 'bin')
  const main = join(import.meta.dirname, '../../../cli/main.js')
  writeFileSync(join(bin, 'mooring'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`)
  chmodSync(join(bin, 'mooring'), 0o755)
  const { stdout, stderr } = await promisify(execFile)(
    'bash',
    [
      '--norc',
      '-c',
      `source <(mooring completion bash)
       complete -p mooring >&2
       COMP_WORDS=(mooring "$@") COMP_CWORD=$#
       _mooring
       printf '%s\\n' "\${COMPREPLY[@]}"`,
      'bash',
      ...words,
    ],
    { env: { PATH: `${bin}:${process.env['PATH']}`, DATABASE_URL: url, MOORING_STATE_DIR: state } },
  )
  t.match(stderr, '-F _mooring mooring')
  return stdout.split('\n').filter(Boolean)
}

t.test('bash completes commands, options and the names of the database', async (t) => {
  const place = await fleet(t, 'web', 'web-2')
  // names are left out where the machine takes a second to ask, so it is asked again
  const offers = (words: string[], expected: string[]) =>
    waitFor(async () => isDeepStrictEqual(await inBash(t, place, ...words), expected), {
      label: `${words.join(' ')} is completed`,
    })
  await offers(['rest'], ['restart'])
  await offers(['restart', 'w'], ['web', 'web-2'])
  await offers(['get', 'nodes', 'h'], ['host-a'])
  await offers(['get', 'nodes', '--wi'], ['--wide'])
  await offers(['get', 'assignments', '--deployment', 'o'], ['odd'])
  t.same(await inBash(t, place, 'apply', 'fl'), [], 'bash goes on with files')
})

t.test('a database that does not answer costs only its names', async (t) => {
  const { port } = await rudeServer(t, () => {})
  const place = { url: `postgres://app:s3cret@127.0.0.1:${port}/app`, state: tempDir(t) }
  t.same(await run(t, place, ['complete', '--', 'restart', 'dep']), {
    code: 0,
    stdout: 'deployment\n',
    stderr: '',
  })
})

t.test('the scripts of the other shells ask the same command', async (t) => {
  const place = { url: '', state: tempDir(t) }
  for (const shell of ['zsh', 'fish'])
    t.match((await run(t, place, ['completion', shell])).stdout, 'mooring complete -- ')
  t.match(await run(t, place, ['completion', 'csh']), { code: 2, stderr: /bash, zsh, fish/ })
})
