import t from 'tap'
import { childrenOf, readProcess } from '../../host/process-table.js'
import { testDatabase } from '../helpers/postgres.js'
import { program, tempDir } from '../helpers/processes.js'
import { MAIN } from '../helpers/root.js'
import { waitFor } from '../helpers/wait-for.js'

t.test('a worker that npx started stops with it, and one of a shell goes on', async (t) => {
  const { url } = await testDatabase(t)
  // as npx does it: npm, a shell, and the program
  const start = async (env: Record<string, string>) => {
    const shell = program(t, 'sh', ['-c', '"$0" "$@"; true', process.execPath, MAIN, 'worker'], {
      databaseUrl: url,
      cwd: tempDir(t, 'npx'),
      env,
    })
    await shell.said('worker_started')
    const worker = readProcess(childrenOf(shell.pid)[0]!)!
    t.teardown(() => alive(worker) && process.kill(worker.pid, 'SIGKILL'))
    shell.kill('SIGKILL')
    return { worker, shell }
  }
  const alive = ({ pid, startTicks }: { pid: number; startTicks: number }) =>
    readProcess(pid)?.startTicks === startTicks
  const plain = await start({ npm_execpath: '' })
  const npx = await start({ npm_execpath: '/usr/lib/npm/bin/npx-cli.js' })
  await waitFor(() => !alive(npx.worker), {
    label: 'the worker of npx has stopped',
    timeoutMs: 60_000,
  })
  t.ok(alive(plain.worker), 'a shell that ends leaves its program alone')
})
