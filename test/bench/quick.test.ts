import { join } from 'node:path'
import t from 'tap'
import { program, tempDir } from '../helpers/processes.js'
import { ROOT } from '../helpers/root.js'

interface Printed {
  figures: { benchmark: string; what: string; median: number; n: number }[]
}

const BENCH = join(ROOT, 'dist', 'bench', 'main.js')

t.test(
  'every benchmark still runs, and what it measures is checked (not how fast it is)',
  async (t) => {
    const bench = program(t, process.execPath, [BENCH, '--quick', '--json'], {
      cwd: tempDir(t, 'bench'),
    })
    const { code } = await bench.exited
    t.equal(code, 0, bench.stderr())
    const { figures } = JSON.parse(bench.stdout()) as Printed
    t.same(
      [...new Set(figures.map(({ benchmark }) => benchmark))],
      [
        'insert-to-assigned',
        'insert-to-spawned',
        'failover',
        'agent/killed',
        'agent/warden',
        'database/restart',
        'database/away',
        'drain',
        'claim/all',
        'claim/listeners',
        'claim/snapshot',
        'claim/one',
        'claim/history',
        'claim/policies',
        'claim/signatures',
        'claim/unplaceable',
        'insert-burst',
        'reap',
        'heartbeat',
        'looks',
      ],
    )
    for (const { what, median, n } of figures) t.ok(Number.isFinite(median) && n > 0, what)
  },
)

t.test('a name that no benchmark has is bad usage', async (t) => {
  const bench = program(t, process.execPath, [BENCH, 'claims'], { cwd: tempDir(t, 'bench') })
  t.equal((await bench.exited).code, 2)
  t.match(bench.stderr(), 'no benchmark is named claims')
})
