import t from 'tap'
import { program, tempDir } from '../helpers/processes.js'
import { MAIN } from '../helpers/root.js'
import { rudeServer } from '../helpers/rude-server.js'
import { waitFor } from '../helpers/wait-for.js'

for (const command of ['agent --name host-a', 'worker']) {
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
