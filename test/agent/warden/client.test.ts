/** Agent and warden as two processes: each notices the other's end, and nothing stays running. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'
import { withRunIdPrefix, readProcess } from '../../../host/process-table.js'
import { runIdPrefix } from '../../../state-folder/process-files.js'
import { attachWarden, silenceMs } from '../../../agent/warden/client.js'
import { killLeftovers } from '../../../agent/warden/leftovers.js'
import type { WardenClient } from '../../../agent/warden/client.js'
import type { ManagedProcess } from '../../../agent/warden/process-runner.js'
import { WARDEN_PROGRAM } from '../../helpers/processes.js'
import { signalProcess } from '../../../agent/warden/process-tree.js'
import { waitFor } from '../../helpers/wait-for.js'
import { silent, temporaryFolder } from '../rig.js'

/** Ignores SIGTERM; its child has forked twice and left the session. */
const RUDE = [
  'sh',
  '-c',
  'trap "" TERM; setsid -f sh -c \'trap "" TERM; while :; do sleep 0.02; done\'; ' +
    'while :; do sleep 0.02; done',
]
const FAR_MS = 600_000

async function folderOf(t: Test): Promise<string> {
  const folder = await temporaryFolder(t)
  const prefix = runIdPrefix(folder)
  t.teardown(async () => {
    await waitFor(
      () => {
        const left = withRunIdPrefix(prefix)
        for (const p of left) signalProcess(p, 'SIGKILL')
        return left.length === 0
      },
      { label: 'everything of this folder has ended' },
    )
  })
  return folder
}

const attach = (folder: string): Promise<WardenClient> =>
  attachWarden({ folder, log: silent, program: WARDEN_PROGRAM })

function run(warden: WardenClient, id: string, argv: readonly string[] = RUDE): ManagedProcess {
  warden.renew([[id, '1', bootMs() + FAR_MS, bootMs() + FAR_MS]])
  return warden.start({
    argv,
    cwd: '/',
    env: { PATH: process.env['PATH']! },
    logFile: null,
    runId: `${warden.runIdPrefix}${id}`,
    about: {
      assignment_id: id,
      epoch: '1',
      generation: '1',
      stop_grace_ms: 100,
      leased: true,
      restarts: 0,
    },
  })
}

const bootMs = (): number => Math.round(Number(process.hrtime.bigint() / 1_000_000n))
const alive = (runId: string): number => withRunIdPrefix(runId).length

t.test(
  'what it starts runs, ends, and is gone; without work and without agent the warden ends',
  async (t) => {
    const folder = await folderOf(t)
    const warden = await attach(folder)
    const [rude, brief] = [run(warden, '1'), run(warden, '2', ['sh', '-c', 'exit 3'])]
    t.match(await brief.exit, { code: 3 })
    await brief.gone
    t.match(await rude.started, { pid: rude.pid()! })
    rude.end(50)
    await rude.gone
    t.match(await rude.exit, { signal: 'SIGKILL' })
    t.equal(alive(warden.runIdPrefix + '1'), 0)
    await warden.close()
    await warden.close()
    await waitFor(() => readProcess(warden.pid) === null, { label: 'it ends' })
    t.notOk(existsSync(join(folder, 'warden.sock')))
    await waitFor(() => alive(warden.runIdPrefix) === 0, { label: 'and with it what stood ready' })
  },
)

/** An agent that has gone, and what its warden runs still. */
async function goneAgent(
  t: Test,
): Promise<{ folder: string; first: WardenClient; kept: ManagedProcess }> {
  const folder = await folderOf(t)
  const first = await attach(folder)
  const kept = run(first, '1')
  await kept.started
  await first.close()
  return { folder, first, kept }
}

t.test('an agent that goes leaves everything to the next one', async (t) => {
  const { folder, first, kept } = await goneAgent(t)
  const second = await attach(folder)
  t.equal(second.pid, first.pid)
  t.match(
    second.inherited.map((each) => [each.about.assignment_id, each.pid()]),
    [['1', kept.pid()]],
  )
  second.inherited[0]!.end(0)
  await second.inherited[0]!.gone
  t.equal(alive(first.runIdPrefix + '1'), 0)
  await second.close()
})

t.test('one agent at a time: a second one is refused and ends nothing', async (t) => {
  const folder = await folderOf(t)
  const warden = await attach(folder)
  await run(warden, '1').started
  await t.rejects(attach(folder), {
    message: new RegExp(`in the hands of another agent, pid ${process.pid}`),
  })
  t.ok(alive(warden.runIdPrefix + '1') > 0)
  await warden.close()
})

for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
  t.test(
    `a warden that gets ${signal} is lost, and reported so when nothing of it is left`,
    async (t) => {
      const warden = await attach(await folderOf(t))
      const processes = [run(warden, '1'), run(warden, '2')]
      await Promise.all(processes.map((each) => each.started))
      warden.watch(100, 400)
      process.kill(warden.pid, signal)
      await Promise.all(processes.map((each) => each.gone))
      t.ok(warden.lost.aborted)
      t.equal(alive(warden.runIdPrefix), 0)
      t.match(await processes[0]!.exit, { signal: 'SIGKILL' })
      const late = run(warden, '3')
      await late.gone
      t.match(await late.started, null, 'and nothing is started by it any more')
    },
  )
}

t.test(
  'a warden may be silent for a beat + 400 ms, at least 3.4 s or a third of the lease',
  async (t) => {
    t.equal(silenceMs(3_000, 12_000), 3_400, 'by default')
    t.equal(silenceMs(200, 1_500), 600)
    t.equal(silenceMs(200, 6_000), 2_000)
    t.equal(silenceMs(200, 3_600_000), 3_400)
    t.equal(silenceMs(10_000, 12_000), 10_400)
  },
)

t.test(
  'what kept the warden from answering while it kept the agent from listening too is no silence',
  async (t) => {
    const warden = await attach(await folderOf(t))
    await run(warden, '1').started
    warden.watch(3_000, 12_000)
    // the machine stands still, right after a question
    warden.renew([])
    process.kill(warden.pid, 'SIGSTOP')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 4_000)
    process.kill(warden.pid, 'SIGCONT')
    t.match(await run(warden, '2', ['true']).exit, { code: 0 }, 'it goes on')
    t.notOk(warden.lost.aborted)
    t.ok(alive(warden.runIdPrefix + '1') > 0)
    await warden.close()
  },
)

t.test(
  'a warden that is late to answer the next agent is waited for, and keeps what it runs',
  async (t) => {
    const { folder, first, kept } = await goneAgent(t)
    process.kill(first.pid, 'SIGSTOP')
    const attaching = attach(folder)
    await Promise.race([attaching, pause(3_000)])
    t.ok(alive(first.runIdPrefix + '1') > 0)
    process.kill(first.pid, 'SIGCONT')
    const second = await attaching
    t.equal(second.pid, first.pid)
    t.match(
      second.inherited.map((each) => each.pid()),
      [kept.pid()],
    )
    await second.close()
  },
)

t.test('one row that cannot be started ends nothing else', async (t) => {
  const warden = await attach(await folderOf(t))
  const good = run(warden, '1')
  await good.started
  for (const [nr, program] of [
    'x'.repeat(300),
    '/usr/bin/env/x',
    `/${'x/'.repeat(2_000)}`,
  ].entries())
    t.match(
      await run(warden, `bad-${nr}`, [program]).exit,
      { error: /cannot start/ },
      program.slice(0, 20),
    )
  t.notOk(warden.lost.aborted)
  t.equal(alive(good.runId) > 0, true)
  good.end(0)
  await good.gone
  await warden.close()
})

t.test('an agent can leave a warden that is stopped', async (t) => {
  const warden = await attach(await folderOf(t))
  const left = run(warden, '1')
  await left.started
  process.kill(warden.pid, 'SIGSTOP')
  await warden.close()
  t.notOk(warden.lost.aborted)
  process.kill(warden.pid, 'SIGCONT')
})

t.test(
  'where a warden cannot be reached there is a new one, and what the old one ran is a leftover',
  async (t) => {
    const folder = await folderOf(t)
    const first = await attach(folder)
    await run(first, '1').started
    // it cannot be reached: as one that speaks another language
    rmSync(join(folder, 'warden.sock'))
    const second = await attach(folder)
    t.not(second.pid, first.pid)
    t.ok(alive(first.runIdPrefix + '1') > 0, 'the agent has not been let in')
    await killLeftovers(folder, silent, { keep: second.runIdPrefix, graceMs: 100 })
    t.equal(readProcess(first.pid), null)
    t.equal(alive(first.runIdPrefix + '1'), 0)
    t.same(second.inherited, [])
    await second.close()
  },
)

t.test(
  'a folder with a path longer than the kernel takes for a socket is as good as another',
  async (t) => {
    const folder = join(await folderOf(t), 'x'.repeat(120))
    mkdirSync(folder)
    const prefix = runIdPrefix(folder)
    const warden = await attach(folder)
    await run(warden, '1', ['true']).gone
    await warden.close()
    await waitFor(() => withRunIdPrefix(prefix).length === 0, { label: 'it ends' })
  },
)

/** An agent reduced to a warden, the rude workload and a lease of leaseMs that it renews. */
async function holder(
  t: Test,
  folder: string,
  leaseMs: number,
): Promise<{ child: ChildProcess; warden: number; runId: string }> {
  const client = pathToFileURL(join(WARDEN_PROGRAM, '..', 'client.js')).href
  const script = `
    const { attachWarden } = await import(${JSON.stringify(client)})
    const log = { info() {}, warn() {}, error() {}, debug() {} }
    const warden = await attachWarden({ folder: ${JSON.stringify(folder)}, log })
    const renew = () => {
      const now = Math.round(Number(process.hrtime.bigint() / 1_000_000n))
      warden.renew([['1', '1', now + ${leaseMs - 200}, now + ${leaseMs}]])
    }
    renew()
    setInterval(renew, 200)
    const process1 = warden.start({
      argv: ${JSON.stringify(RUDE)},
      cwd: '/',
      env: { PATH: process.env.PATH },
      logFile: null,
      runId: warden.runIdPrefix + '1',
      about: {
        assignment_id: '1',
        epoch: '1',
        generation: '1',
        stop_grace_ms: 100,
        leased: true,
        restarts: 0,
      },
    })
    await process1.started
    console.log(JSON.stringify({ warden: warden.pid, runId: warden.runIdPrefix + '1' }))`
  const child = spawn(
    'env',
    ['-u', 'NODE_OPTIONS', process.execPath, '--input-type=module', '-e', script],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  t.teardown(() => {
    child.kill('SIGKILL')
  })
  let said = ''
  child.stdout!.on('data', (text: Buffer) => {
    said += text.toString()
  })
  const line = await waitFor(() => (said.includes('\n') ? said : null), {
    label: 'the holder holds',
  })
  return { child, ...(JSON.parse(line) as { warden: number; runId: string }) }
}

t.test('whatever is killed or stopped, nothing outlives the lease', async (t) => {
  const faults: [string, (pids: { agent: number; warden: number }) => void][] = [
    ['the agent killed', ({ agent }) => process.kill(agent, 'SIGKILL')],
    ['the agent stopped', ({ agent }) => process.kill(agent, 'SIGSTOP')],
    [
      'both killed',
      ({ agent, warden }) => {
        process.kill(agent, 'SIGKILL')
        process.kill(warden, 'SIGKILL')
      },
    ],
    [
      'both stopped',
      ({ agent, warden }) => {
        process.kill(agent, 'SIGSTOP')
        process.kill(warden, 'SIGSTOP')
      },
    ],
  ]
  for (const [fault, inject] of faults) {
    await t.test(fault, async (t) => {
      const { child, warden, runId } = await holder(t, await folderOf(t), 4_000)
      t.ok(alive(runId) > 0)
      inject({ agent: child.pid!, warden })
      await waitFor(() => alive(runId) === 0, { label: 'everything it ran is dead' })
    })
  }
})
