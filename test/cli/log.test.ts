import { join } from 'node:path'
import t from 'tap'
import { AS_OWN_USER, program, tempDir } from '../helpers/processes.js'
import { MAIN, ROOT } from '../helpers/root.js'
import { rudeServer } from '../helpers/rude-server.js'
import { testDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'

const AGENT = ['agent --name host-a', ...AS_OWN_USER].join(' ')

for (const command of [AGENT, 'worker']) {
  t.test(
    `where the log cannot be written (a full disk), mooring ${command} goes on without`,
    { skip: process.platform !== 'linux' },
    async (t) => {
      const database = await rudeServer(t, (socket) => void socket.end())
      const logless = program(
        t,
        'sh',
        ['-c', `exec "$0" "$1" ${command} 2>/dev/full`, process.execPath, MAIN],
        { databaseUrl: `postgres://u:p@127.0.0.1:${database.port}/d`, cwd: tempDir(t, 'logless') },
      )
      // it has complained of the database by then, and of its end later
      await waitFor(() => database.connections() >= 4, { label: 'it tries again' })
      logless.kill('SIGTERM')
      t.same(await logless.exited, { code: 0, signal: null })
    },
  )
}

for (const [command, sign] of [
  [AGENT, 'select max(h.beat_at) as at from mooring.heartbeat h'],
  ['worker', 'select max(w.ticked_at) as at from mooring_internal.worker w'],
] as const)
  t.test(`while nobody reads its log, mooring ${command} goes on`, async (t) => {
    const { url, sql } = await testDatabase(t)
    const stuck = program(
      t,
      'sh',
      [
        '-c',
        // open for reading too, so that the pipe has a reader, which never reads
        'mkfifo pipe; exec 3<> pipe; head -c 65536 /dev/zero >&3; ' +
          `exec "$0" "$1" ${command} --log-level trace 2>&3`,
        process.execPath,
        MAIN,
      ],
      { databaseUrl: url, cwd: tempDir(t, 'stuck') },
    )
    const at = async () => (await sql.unsafe<{ at: Date | null }[]>(sign))[0]!.at
    const first = await waitFor(at, { label: 'it came' })
    await waitFor(async () => (await at())! > first, { label: 'and goes on' })
    stuck.kill('SIGTERM')
    t.same(await stuck.exited, { code: 0, signal: null })
  })

t.test('the time of a log line is readable', async (t) => {
  const writing = program(t, process.execPath, [
    '--input-type=module',
    '-e',
    `import { createLog } from ${JSON.stringify(join(ROOT, 'dist', 'cli', 'log.js'))}
    createLog('info').info({ event: 'hello' }, 'hello')`,
  ])
  await writing.exited
  const { time } = JSON.parse(writing.stderr()) as { time: string }
  t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
})
