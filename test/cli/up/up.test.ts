import postgres from 'postgres'
import t from 'tap'
import type { Test } from 'tap'
import { clusterUrl } from '../../../postgres/embedded/cluster.js'
import { postmasterPid } from '../../../postgres/embedded/postmaster.js'
import { isAlive } from '../../../host/lock-file.js'
import { readUpRecord } from '../../../cli/up/up-lock.js'
import type { UpRecord } from '../../../cli/up/up-lock.js'
import { emptyDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'

const STARTED_WITHIN_MS = 60_000
const STOPPED_WITHIN_MS = 60_000

function up(t: Test, state: string, args: readonly string[] = [], databaseUrl?: string) {
  return mooring(t, ['up', ...args], {
    env: { MOORING_STATE_DIR: state },
    ...(databaseUrl ? { databaseUrl } : {}),
  })
}

/** Processes of an `up` by name, once all are there. */
async function children(state: string, { pid }: { pid: number }) {
  const record = await waitFor(
    (): UpRecord | null => {
      const found = readUpRecord(state)
      return found?.pid === pid &&
        ['worker', 'host-a', 'host-b'].every((name) =>
          found.children.some((child) => child.name === name),
        )
        ? found
        : null
    },
    { label: 'up has started its children', timeoutMs: STARTED_WITHIN_MS },
  )
  return Object.fromEntries(record.children.map((child) => [child.name, child]))
}

async function everythingIsGone(marks: Awaited<ReturnType<typeof children>>, state: string) {
  await waitFor(() => !Object.values(marks).some(isAlive), {
    label: 'no child is left',
    timeoutMs: STOPPED_WITHIN_MS,
    show: () => marks,
  })
  await waitFor(async () => (await clusterUrl({ stateDir: state })) === undefined, {
    label: 'the embedded server has stopped',
    timeoutMs: STOPPED_WITHIN_MS,
  })
}

t.test(
  'up --demo runs 21 deployments on two hosts, Ctrl-C stops them, and the next up keeps the data',
  async (t) => {
    const state = tempDir(t)
    const first = up(t, state, ['--demo'])
    await first.said('21 of 21 assigned, 21 running', STARTED_WITHIN_MS)
    const marks = await children(state, first)
    // eslint-disable-next-line no-control-regex
    t.notMatch(first.stdout(), /\x1b/, 'no escape codes on a pipe')
    t.match(first.stdout(), /psql beside it: npx mooring psql/)
    const [, address] = /hello, answers at (http:\/\/127\.0\.0\.1:\d+)/.exec(first.stdout())!
    // its process runs, and listens a moment later
    const answered = async () => (await fetch(address!).catch(() => null))?.status
    t.ok(
      await waitFor(async () => (await answered()) === 200, { label: `${address} answers` }),
      'the demo has a page to open',
    )
    t.match(first.stdout(), /node host-a: HEALTHY, 1[01] assigned, 1[01] running/)
    t.match(first.stdout(), /node host-b: HEALTHY, 1[01] assigned, 1[01] running/)

    const second = up(t, state)
    t.equal((await second.exited).code, 1)
    t.match(second.stderr(), new RegExp(`runs already in .*: pid ${first.pid}, since`))

    const sql = postgres((await clusterUrl({ stateDir: state }))!, { max: 1 })
    // however slow the machine is
    await sql`update mooring.setting set return_wait = '2 min'`
    await sql.end({ timeout: 1 })
    first.kill('SIGINT')
    t.equal((await first.exited).code, 0)
    t.match(first.stdout(), /stopped; the data stays/)
    await everythingIsGone(marks, state)
    t.equal(readUpRecord(state), null)

    const again = up(t, state, ['--demo', '--json'])
    await again.said('"running":21', STARTED_WITHIN_MS)
    const changes = again
      .stdout()
      .trim()
      .split('\n')
      .map(
        (line) =>
          JSON.parse(line) as {
            type: string
            at: string
            text?: string
            fleet?: { deployments: number }
          },
      )
    t.equal(
      changes.filter((change) => change.type === 'fleet').at(-1)?.fleet?.deployments,
      21,
      'the demo is inserted once',
    )
    t.notOk(changes.some((change) => /inserted/.test(change.text ?? '')))
    const next = postgres((await clusterUrl({ stateDir: state }))!, { max: 1 })
    const shares = await next<
      { assigned: number }[]
    >`select n.assignments as assigned from mooring.node_status n`
    await next.end({ timeout: 1 })
    t.ok(
      shares.every(({ assigned }) => assigned >= 9 && assigned <= 12),
      'the agent that came first has not taken everything: ' +
        `${shares.map(({ assigned }) => assigned).join(' and ')}`,
    )
    t.ok(changes.every((change) => !Number.isNaN(Date.parse(change.at))))
    again.kill('SIGTERM')
    t.equal((await again.exited).code, 0)
  },
)

t.test(
  'nothing outlives an up that was killed without warning, and the next one starts at once',
  async (t) => {
    const state = tempDir(t)
    const first = up(t, state)
    const marks = await children(state, first)
    await first.said('2 of 2 nodes healthy', STARTED_WITHIN_MS)
    first.kill('SIGKILL')
    await first.exited

    const next = up(t, state)
    const newMarks = await children(state, next)
    t.notOk(Object.values(marks).some(isAlive), 'the old children ended before the new ones began')
    await next.said('2 of 2 nodes healthy', STARTED_WITHIN_MS)
    next.kill('SIGKILL')
    await next.exited
    await everythingIsGone(newMarks, state)
    await waitFor(() => readUpRecord(state) === null, { label: 'the record is removed' })
  },
)

t.test('what dies under up is started again: an agent, and the embedded server', async (t) => {
  const state = tempDir(t)
  const program = up(t, state)
  const { 'host-a': agent } = await children(state, program)
  await program.said('2 of 2 nodes healthy', STARTED_WITHIN_MS)
  process.kill(agent!.pid, 'SIGKILL')
  await program.said(/process host-a: waiting: ended by SIGKILL.*again in 1 s/)
  await program.said(/process host-a: running \(pid \d+\), restarts 1/)

  const sql = postgres((await clusterUrl({ stateDir: state }))!, { max: 1 })
  const [server] = await sql<
    { data_directory: string }[]
  >`select current_setting('data_directory') as data_directory`
  await sql.end({ timeout: 1 })
  process.kill(postmasterPid(server!.data_directory), 'SIGKILL')
  await program.said('was started again', STARTED_WITHIN_MS)
  await program.said('the database answers again', STARTED_WITHIN_MS)
  program.kill('SIGINT')
  t.equal((await program.exited).code, 0)
})

t.test('with DATABASE_URL the server is neither started nor stopped', async (t) => {
  const { url, sql } = await emptyDatabase(t)
  const state = tempDir(t)
  const program = up(t, state, [], url)
  await program.said('2 of 2 nodes healthy', STARTED_WITHIN_MS)
  t.match(program.stdout(), /database: DATABASE_URL, postgres:\/\/[^ ]*:\*\*\*@/)
  t.equal(await clusterUrl({ stateDir: state }), undefined)
  program.kill('SIGINT')
  t.equal((await program.exited).code, 0)
  t.match(
    await sql`select count(*)::int as live from mooring.node_status n where n.health = 'HEALTHY'`,
    [{ live: 0 }],
    'both agents left',
  )
})

t.test('a second Ctrl-C does not wait for work that does not want to end', async (t) => {
  const state = tempDir(t)
  const program = up(t, state, ['--allow-exec'])
  await program.said('2 of 2 nodes healthy', STARTED_WITHIN_MS)
  const sql = postgres((await clusterUrl({ stateDir: state }))!, { max: 1 })
  t.teardown(() => sql.end({ timeout: 1 }))
  await sql`
    insert into mooring.deployment (name, command, args, stop_grace)
    values ('stubborn', 'sh', ${sql.json(['-c', 'trap "" TERM; while :; do sleep 0.1; done'])},
      '10 min')
  `
  await program.said('1 running', STARTED_WITHIN_MS)
  const marks = await children(state, program)
  program.kill('SIGINT')
  await program.said(/process host-[ab]: stopping/)
  await waitFor(
    () => {
      program.kill('SIGINT')
      return program.ended()
    },
    { label: 'up ends at the second Ctrl-C', timeoutMs: STOPPED_WITHIN_MS },
  )
  t.equal((await program.exited).code, 0)
  await everythingIsGone(marks, state)
})
