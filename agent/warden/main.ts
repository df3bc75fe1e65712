/**
 * The process of a warden: `node main.js FOLDER ID LEVEL`, started by client.ts, in a session of its own and with next to nothing in its environment.
 *
 * It ends when nothing runs and no agent is there, and by nothing else but SIGKILL: then the kernel takes what it ran with it (containment.ts), or the
 * dead-man timer does at the deadline.
 */
import { chmodSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { basename, join } from 'node:path'
import { readProcess } from '../../host/process-table.js'
import { makeCell } from './namespace.js'
import { createCells } from './namespace-pool.js'
import { CONTAINMENT_LEVELS, detectContainment } from './containment.js'
import { createDeadMan } from './dead-man.js'
import { createLocalHost } from './local-host.js'
import { createWarden } from './warden.js'
import { addressOf, receive, send } from './protocol.js'
import type { ToWarden } from './protocol.js'

/** Its agent connects at once, or has died meanwhile. */
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
// with the mark of the warden itself: whoever looks for what it left behind finds them
const cells =
  containment.level === 'pid-namespace'
    ? createCells(() => makeCell(containment.wrapper, process.env['MOORING_RUN'] ?? ''))
    : undefined
const warden = createWarden({
  id,
  containment: containment.level,
  host: createLocalHost({
    ...(cells ? { cells } : { wrapper: containment.wrapper }),
    onNoLog: ({ mark }, code) => say({ t: 'no_log', mark, code: code ?? null }),
    onStuck: (mark) => say({ t: 'stuck', mark }),
  }),
  deadMan: createDeadMan(),
  onEmpty: endIfIdle,
})

function say(message: Parameters<typeof send>[1]): void {
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
    warden.attach(say)
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
  cells?.close()
  for (const file of ['warden.sock', 'warden.json']) rmSync(join(folder, file), { force: true })
  process.exit(0)
}

// a connection that could not be accepted is its agent's to try again
server.on('error', (error) => {
  if (!server.listening) throw error
})
// whoever starts a warden has made sure that there is no other in this folder
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
    // for people and tools that look for it; its agent does not
  }
  setTimeout(endIfIdle, FIRST_AGENT_WITHIN_MS)
})
