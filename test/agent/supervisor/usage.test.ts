import { spawn } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { createUsageSampler } from '../../../agent/supervisor/usage.js'
import { waitFor } from '../../helpers/wait-for.js'
import { owned, printed, rig, temporaryFolder } from '../rig.js'

t.test(
  'Y19, defect 2: the cpu share of the first sample is null and not 0, for lack of an earlier one',
  async (t) => {
    const sampler = createUsageSampler({ stateDir: await temporaryFolder(t) })
    const first = await sampler.sample([])
    t.equal(first.cpu_pct, null)
    t.ok(first.memory_mb! > 10)
    t.ok(first.disk_free_pct! > 0 && first.disk_free_pct! <= 100)
    t.ok(first.disk_free_bytes! > 0)
  },
)

t.test(
  'Y18: a busy workload and what it started count, also out of its group; a stranger does not',
  async (t) => {
    const r = await rig(t)
    const sampler = createUsageSampler({ stateDir: r.stateDir })
    const program =
      "const held = Buffer.alloc(100 << 20, 1); console.log('ready=1'); for (;;) held[0]++"
    const burn = `"${process.execPath}" -e "${program}"`
    const a = owned({ script: `setsid ${burn} & wait` })
    r.supervisor.reconcile([a], { mayStart: true })
    const alone = await sampler.sample([])
    await printed(r, a, 'ready')
    const stranger = spawn(
      process.execPath,
      ['-e', 'const held = Buffer.alloc(300 << 20, 1); setInterval(() => held[0]++, 1000)'],
      { stdio: 'ignore', detached: true, env: {} },
    )
    t.teardown(() => {
      stranger.kill('SIGKILL')
    })
    const busy = await waitFor(
      async () => {
        const sample = await sampler.sample(r.supervisor.pids())
        return sample.cpu_pct! > 1 ? sample : null
      },
      { label: 'the workload is seen to use the cpu' },
    )
    t.ok(busy.cpu_pct! <= 100)
    t.ok(busy.memory_mb! > 100)
    t.type(alone.memory_mb, 'number')
  },
)

t.test('a folder that is not there has no free disk to report: null, not 0', async (t) => {
  const sampler = createUsageSampler({ stateDir: join(await temporaryFolder(t), 'gone') })
  t.match(await sampler.sample([]), {
    disk_free_pct: null,
    disk_free_bytes: null,
    memory_mb: Number,
  })
})

t.test('roots that have ended do not disturb', async (t) => {
  const sampler = createUsageSampler({ stateDir: await temporaryFolder(t) })
  await sampler.sample([999_999_999])
  t.type((await sampler.sample([999_999_999])).memory_mb, 'number')
})
