// What becomes of what a command prints: on a full disk, on a pipe that takes less than all of it,
// and when the reader has gone.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { logFileOf } from '../../../state-folder/log-reader.js'
import { program } from '../../helpers/processes.js'
import { MAIN } from '../../helpers/root.js'
import { fleet } from '../fleet.js'

/** `mooring ...` in a line of shell: the pipes and files are those a user has. */
function shell(t: Test, line: string, place: { url?: string; state?: string }) {
  return program(t, 'sh', ['-c', `mooring() { ${process.execPath} ${MAIN} "$@"; }\n${line}`], {
    ...(place.url ? { databaseUrl: place.url } : {}),
    env: { MOORING_STATE_DIR: place.state ?? '.' },
  })
}

const FULL = { skip: existsSync('/dev/full') ? false : 'there is no /dev/full here' }

t.test('an output that cannot be written is an error that says so, at once', FULL, async (t) => {
  const place = await fleet(t, 'web')
  for (const args of [
    'status',
    'events --json',
    'metrics',
    'get deployments',
    'db url',
    '--help',
  ]) {
    const run = shell(t, `mooring ${args} > /dev/full`, place)
    const { code } = await run.exited
    t.equal(code, 1, args)
    t.match(
      run.stderr(),
      /^(error: |\{"error":\{"message":")cannot write the output: no space left on device/,
      args,
    )
  }
  const json = shell(t, 'mooring status --json > /dev/full', place)
  await json.exited
  t.match(JSON.parse(json.stderr()), { error: { message: /cannot write/ } })
})

t.test('what follows ends too when its disk is full', FULL, async (t) => {
  const place = await fleet(t, 'web')
  for (const args of ['events -f', 'get deployments --watch']) {
    const run = shell(t, `mooring ${args} > /dev/full`, place)
    t.equal((await run.exited).code, 1, args)
    t.match(run.stderr(), /no space left on device/)
  }
})

t.test(
  'a log that does not fit on the disk ends the command, which would wait for room for ever',
  FULL,
  async (t) => {
    const place = await fleet(t, 'web')
    // as the agent of a host that is read where its files are
    const id = place.ids['web']!.assignment_id
    const folder = join(place.state, 'agents', 'host-a')
    mkdirSync(dirname(logFileOf(folder, id)), { recursive: true })
    writeFileSync(logFileOf(folder, id), 'a line\n'.repeat(1000))
    const run = shell(t, `mooring logs ${id} > /dev/full`, {
      state: place.state,
      url: 'postgres://app@127.0.0.1:1/app',
    })
    t.equal((await run.exited).code, 1)
    t.match(run.stderr(), /cannot write the output/)
  },
)

t.test('what a pipe does not take at once is waited for', async (t) => {
  const url = `postgres://app@db/app?application_name=${'x'.repeat(120_000)}`
  const run = shell(t, 'mooring db url | wc -c', { url })
  await run.exited
  t.equal(Number(run.stdout()), url.length + 1)
})

t.test('negative control: a reader that has seen enough is no failure', async (t) => {
  const place = await fleet(t, 'web')
  const run = shell(t, '{ mooring events --json; echo "it ended with $?" >&2; } | true', place)
  await run.exited
  t.match(run.stderr(), /^it ended with 0\n$/)
})
