/**
 * The process of a warden: `node main.js FOLDER ID LEVEL`. client.ts starts it in a session of its
 * own with an almost empty environment. It ends when it runs nothing and has no agent. Otherwise
 * only SIGKILL ends it; then the kernel (containment.ts) or the dead-man timer ends its processes.
 */
import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { basename, join } from 'node:path'
import { readProcess } from '../../host/process-table.js'
import { createNamespace } from './namespace.js'
import { createNamespacePool } from './namespace-pool.js'
import { CONTAINMENT_LEVELS, detectContainment } from './containment.js'
import { createDeadMan } from './dead-man.js'
import { createLocalRunner } from './local-runner.js'
import { createWarden } from './warden.js'
import type { Warden } from './warden.js'
import { addressOf, receive, send } from './protocol.js'
import type { ToWarden } from './protocol.js'

/** The agent that started it connects at once, unless it has died. */
const FIRST_AGENT_WITHIN_MS = 10_000

const [folder, id, most] = process.argv.slice(2) as [string, string, string]
const level = CONTAINMENT_LEVELS.find((name) => name === most)
if (level === undefined) throw new Error(`no level of containment is called ${most}`)

// for ps and pkill -f
process.title = `mooring-warden ${basename(folder)}`
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGPIPE', 'SIGUSR1', 'SIGUSR2'] as const)
  process.on(signal, () => {})

let agent: { socket: Socket; pid: number } | null = null
const containment = detectContainment(level)
// they carry the run id of the warden, so a later agent finds them as leftovers
const namespaces =
  containment.level === 'pid-namespace'
    ? createNamespacePool(() =>
        createNamespace(containment.wrapper, process.env['MOORING_RUN'] ?? ''),
      )
    : undefined
const deadMan = createDeadMan({ onEnded: () => warden.rearm() })
const warden: Warden = createWarden({
  id,
  containment: containment.level,
  runner: createLocalRunner({
    ...(namespaces ? { namespaces } : { wrapper: containment.wrapper }),
    onNoLog: ({ runId }, code) => sendToAgent({ t: 'no_log', runId, code: code ?? null }),
    onStuck: (runId) => sendToAgent({ t: 'stuck', runId }),
  }),
  deadMan,
  onEmpty: endIfIdle,
})

function sendToAgent(message: Parameters<typeof send>[1]): void {
  if (agent) send(agent.socket, message)
}

const server = createServer((socket) => {
  socket.on('error', () => {})
  receive<ToWarden>(socket, (message) => {
    if (socket === agent?.socket) return warden.receive(message)
    if (message.t !== 'hello') return void socket.destroy()
    if (agent) {
      send(socket, { t: 'busy', pid: agent.pid })
      return void socket.end()
    }
    agent = { socket, pid: message.pid }
    warden.attach(sendToAgent)
  })
  socket.once('close', () => {
    if (socket !== agent?.socket) return
    agent = null
    warden.detach()
    endIfIdle()
  })
})

function endIfIdle(): void {
  if (agent !== null || warden.running() > 0) return
  deadMan.arm([])
  namespaces?.close()
  // a successor may have put its own in their place
  if (isMine())
    for (const file of ['warden.sock', 'warden.json']) rmSync(join(folder, file), { force: true })
  process.exit(0)
}

function isMine(): boolean {
  try {
    const about = JSON.parse(readFileSync(join(folder, 'warden.json'), 'utf8')) as { id?: unknown }
    return about.id === id
  } catch {
    return true
  }
}

// when one connection cannot be accepted, its agent tries again
server.on('error', (error) => {
  if (!server.listening) throw error
})
// client.ts starts a warden only when there is no other in this folder
rmSync(join(folder, 'warden.sock'), { force: true })
const { address, release } = addressOf(folder)
server.listen(address, () => {
  chmodSync(address, 0o600)
  release()
  const about = join(folder, 'warden.json')
  try {
    writeFileSync(
      `${about}.new`,
      JSON.stringify({
        pid: process.pid,
        start_ticks: readProcess(process.pid)?.startTicks ?? null,
        id,
        containment: containment.level,
      }),
      { mode: 0o600 },
    )
    renameSync(`${about}.new`, about)
  } catch {
    // the file is for people and tools; no agent reads it
  }
  setTimeout(endIfIdle, FIRST_AGENT_WITHIN_MS)
})
