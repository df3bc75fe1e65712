/**
 * A process that bears witness: every 15 ms it appends a line to a file of its own. The judge reads
 * these files and knows nothing else.
 *
 * Names come from the environment: FAULTS_FOLDER, FAULTS_MANNERS (plain, stubborn, daemon, shedder,
 * writer) and the MOORING_* of an assignment. An instance is one start by an agent. Its children
 * stamp under their own pid and the instance of their parent.
 *
 * The clock is CLOCK_MONOTONIC, which all processes of a machine share. It differs from the boot
 * clock by the time for which the machine was suspended. So the rig discards a run with a suspend
 * in it.
 */
import { spawn } from 'node:child_process'
import { appendFileSync, readFileSync, readlinkSync, writeSync } from 'node:fs'

const PERIOD_MS = 15
const {
  MOORING_ASSIGNMENT_ID: assignment,
  MOORING_EPOCH: epoch,
  MOORING_NODE: node,
  FAULTS_FOLDER: folder,
  FAULTS_MANNERS: manners = 'plain',
} = process.env
const nowMs = () => Number(process.hrtime.bigint() / 1000n) / 1000
// in a PID namespace of its own a process does not know the number that the host knows it by; the
// host's /proc does
const pid = Number(readlinkSync('/proc/self'))
const copy =
  process.env.FAULTS_COPY ??
  `${pid}-${Math.round(nowMs())}-${Math.random().toString(36).slice(2, 8)}`
const role = process.env.FAULTS_COPY ? 'grandchild' : 'main'
const file = `${folder}/${assignment}.${node}.${pid}.${Math.round(nowMs())}.stamps`

const stamp = (event) => {
  try {
    appendFileSync(
      file,
      `${nowMs()} ${event} ${assignment} ${epoch} ${node} ${pid} ${copy} ${role}\n`,
    )
  } catch {
    // the disk under test is another one
  }
}
const say = (text) => {
  try {
    writeSync(1, `${text}\n`)
  } catch {
    // a full disk is no reason to end
  }
}

stamp('start')
setInterval(() => stamp('alive'), PERIOD_MS)

const patient = manners === 'plain' || manners === 'writer'
process.on('SIGTERM', () => {
  say('asked to end')
  if (!patient || role === 'grandchild') return
  setTimeout(() => {
    stamp('end')
    process.exit(0)
  }, 50)
})
if (role === 'main') {
  setInterval(() => say(`copy ${copy} lives`), 200)
  if (manners === 'daemon' || manners === 'shedder') startDaemon()
  if (manners === 'writer') void write()
}

/**
 * A grandchild in a session of its own whose parent is init: the shell between them ends at once. A
 * shedder leaves its environment behind as well.
 */
function startDaemon() {
  const own = {
    FAULTS_COPY: copy,
    FAULTS_FOLDER: folder,
    FAULTS_MANNERS: manners,
    MOORING_ASSIGNMENT_ID: assignment,
    MOORING_EPOCH: epoch,
    MOORING_NODE: node,
  }
  const env = manners === 'shedder' ? own : { ...process.env, ...own }
  spawn('/bin/sh', ['-c', 'setsid "$0" "$1" & exit 0', process.execPath, process.argv[1]], {
    env,
    detached: true,
    stdio: 'ignore',
  }).on('error', () => {})
}

/**
 * Writes what two instances must never write, as the documentation asks: assert_owner first, in the
 * same transaction.
 */
async function write() {
  const { default: postgres } = await import('postgres')
  for (;;) {
    try {
      const sql = postgres(readFileSync(`${folder}/url.${node}`, 'utf8'), {
        max: 1,
        fetch_types: false,
        connect_timeout: 2,
        onnotice() {},
        connection: { application_name: 'faults: writer' },
      })
      try {
        for (;;) {
          await sql.begin(async (tx) => {
            await tx`select mooring.assert_owner(${assignment}, ${epoch})`
            // the moment in which a zombie would do harm
            await pause(20)
            await tx`
              insert into faults.written (assignment_id, epoch, node, pid)
              values (${assignment}, ${epoch}, ${node}, ${pid})`
          })
          await pause(30)
        }
      } finally {
        sql.end({ timeout: 0 }).catch(() => {})
      }
    } catch (error) {
      say(`not written: ${error.code ?? error.message}`)
      await pause(100)
    }
  }
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
process.on('unhandledRejection', (error) => say(`unhandled: ${error}`))
