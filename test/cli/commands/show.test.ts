/** `mooring show unit`: systemd takes the file, and reads the arguments that were meant. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { unitFile } from '../../../cli/terminal/unit-file.js'
import { mooring, tempDir } from '../../helpers/processes.js'
import { MAIN } from '../../helpers/root.js'

const ODD = ['--trust', '^(a|"b c")$', '--label', 'note=100% $HOME \\d', '--name', 'host-a']

t.test('the command prints a unit of this very program', async (t) => {
  for (const unit of ['agent', 'worker']) {
    const program = mooring(t, ['show', 'unit', unit, '--user', 'app', '--', '--log-level', 'warn'])
    t.equal((await program.exited).code, 0, program.stderr())
    const text = program.stdout()
    const started = /^ExecStart=(.*)$/m.exec(text)?.[1]
    const user = unit === 'agent' ? ' --workload-user app' : ''
    t.equal(started, `${process.execPath} ${MAIN} ${unit}${user} --log-level warn`)
    t.equal(/^KillMode=process$/m.test(text), unit === 'agent')
    t.equal(/^User=app$/m.test(text), unit === 'worker')
    t.match(text, /^EnvironmentFile=\/etc\/mooring\/mooring\.env$/m)
  }
})

t.test('arguments are quoted for systemd, and a workload user that is given stays', async (t) => {
  const text = unitFile('agent', {
    node: '/opt/no de/bin/node',
    script: '/opt/mooring',
    user: 'mooring',
    options: [...ODD, '--workload-user=www-data'],
  })
  t.equal(
    /^ExecStart=(.*)$/m.exec(text)?.[1],
    '"/opt/no de/bin/node" /opt/mooring agent --trust "^(a|\\"b c\\")$$" ' +
      '--label "note=100%% $$HOME \\\\d" --name host-a --workload-user=www-data',
  )
})

const systemd = spawnSync('systemd-analyze', ['--version']).status === 0
t.test(
  'systemd-analyze finds nothing to say',
  { skip: systemd ? false : 'there is no systemd-analyze here' },
  async (t) => {
    for (const unit of ['agent', 'worker'] as const) {
      const file = join(tempDir(t, 'unit'), `mooring-${unit}.service`)
      writeFileSync(
        file,
        unitFile(unit, { node: process.execPath, script: MAIN, user: 'mooring', options: ODD }),
      )
      const { status, stdout, stderr } = spawnSync(
        'systemd-analyze',
        ['verify', '--man=no', file],
        {
          encoding: 'utf8',
        },
      )
      const ours = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('mooring-'))
      t.strictSame(ours, [])
      t.equal(status, 0, stderr)
    }
  },
)
