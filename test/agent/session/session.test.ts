import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { deployment } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { tempDir } from '../../helpers/processes.js'
import { tcpProxy } from '../../helpers/tcp-proxy.js'
import { waitFor } from '../../helpers/wait-for.js'
import { alive, placements, running, scaleDown, sleeper, testAgent } from '../fleet.js'

const node = (sql: Awaited<ReturnType<typeof testDatabase>>['sql']) =>
  sql<
    { session: string | null; health: string }[]
  >`select session, health from mooring.node_status where node = 'host-a'`.then((rows) => rows[0])

t.test(
  'an agent registers, runs its assignments without a worker, and releases all at a graceful stop',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await scaleDown(sql)
    const { agent, events } = testAgent(t, url)
    await sleeper(sql, { replicas: 3 })
    await agent.start()
    const rows = await running(sql, 3)
    t.ok(rows.every(({ pid }) => alive(pid)))
    await agent.stop()
    t.notOk(
      rows.some(({ pid }) => alive(pid)),
      'all processes are gone',
    )
    t.same(
      (await placements(sql)).map((row) => row.node),
      [null, null, null],
      'all of it waits for another node',
    )
    t.equal((await node(sql))?.session, null)
    t.equal(events('node_left').length, 1)
    await waitFor(
      async () =>
        (
          await sql`
            select 1 from pg_stat_activity
            where datname = current_database() and application_name like 'mooring agent%'`
        ).length === 0,
      { label: 'no connection is left' },
    )
  },
)

t.test(
  'stop is legal before start, twice, and while the database has never been there',
  async (t) => {
    const never = 'postgres://nobody:s3cret@127.0.0.1:1/none'
    const unstarted = testAgent(t, never)
    await unstarted.agent.stop()
    await unstarted.agent.start()
    const away = testAgent(t, never)
    await away.agent.start()
    await waitFor(() => away.events('database_away').length, {
      label: 'it says that the database is away',
    })
    await Promise.all([away.agent.stop(), away.agent.stop()])
    t.equal(away.events('database_away').length, 1, 'said once')
    t.notMatch(away.text(), /s3cret/)
  },
)

t.test('a database that is down when the agent starts is waited for', async (t) => {
  const { url, sql } = await testDatabase(t)
  const proxy = await tcpProxy(t, url)
  proxy.reset()
  const { agent, events } = testAgent(t, proxy.url)
  await agent.start()
  await waitFor(() => events('database_away').length, { label: 'it has tried' })
  proxy.restore()
  await waitFor(async () => (await node(sql))?.health === 'HEALTHY', { label: 'registered' })
  await agent.stop()
})

t.test(
  'a database without the schema is told once, and the agent goes on as soon as it is there',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await sql`alter schema mooring rename to not_yet`
    const { agent, events } = testAgent(t, url)
    await agent.start()
    await waitFor(() => events('database_unfit').length, { label: 'it says what is missing' })
    t.match(events('database_unfit')[0], { code: '3F000', hint: /mooring migrate/ })
    await sql`alter schema not_yet rename to mooring`
    await waitFor(async () => (await node(sql))?.health === 'HEALTHY', { label: 'registered' })
    await agent.stop()
  },
)

t.test(
  'a database of another version is not used, and the agent goes on as soon as the versions agree',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    const [{ theirs } = { theirs: '' }] = await sql<
      { theirs: string }[]
    >`select pg_get_functiondef('mooring.schema_version'::regproc) as theirs`
    await sql`
      create or replace function mooring.schema_version()
      returns int language sql as 'select 999'`
    const { agent, events } = testAgent(t, url)
    await agent.start()
    await waitFor(() => events('schema_differs').length, { label: 'it says so' })
    t.match(events('schema_differs')[0], { database: 999, msg: /newer than this program/ })
    t.equal(await node(sql), undefined, 'and has taken no name')
    await sql.unsafe(theirs)
    await waitFor(async () => (await node(sql))?.health === 'HEALTHY', { label: 'registered' })
    await agent.stop()
  },
)

t.test(
  'two agents of one name: the second says so once, waits, and takes over when the first has left',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await scaleDown(sql)
    const first = testAgent(t, url)
    await first.agent.start()
    await waitFor(async () => (await node(sql))?.health === 'HEALTHY', {
      label: 'the first is registered',
    })
    const session = (await node(sql))?.session
    const second = testAgent(t, url)
    await second.agent.start()
    await waitFor(() => second.events('name_taken').length, { label: 'the second is refused' })
    t.match(second.events('name_taken')[0], {
      msg: /^another live agent is called host-a; free in \d+\.\d s/,
    })
    await waitFor(
      async () => (await sql`select 1 from mooring.heartbeat where sampled_at is not null`).length,
      { label: 'the first beats on' },
    )
    t.equal((await node(sql))?.session, session)
    await first.agent.stop()
    await waitFor(async () => ![session, null, undefined].includes((await node(sql))?.session), {
      label: 'the second has the name',
    })
    t.equal(second.events('name_taken').length, 1)
    await second.agent.stop()
  },
)

t.test(
  'a session that is over stops everything, then registers again with a new uuid and new processes',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await scaleDown(sql)
    const { agent, events } = testAgent(t, url)
    await sleeper(sql)
    await agent.start()
    const [before] = await running(sql, 1)
    const session = (await node(sql))?.session
    // what a second agent does when the lease of the first has run out
    await sql`
      update mooring.heartbeat
      set session = gen_random_uuid(), beat_at = clock_timestamp() - interval '9.8 s'`
    await waitFor(() => events('session_over').length, { label: 'the agent hears of it' })
    await waitFor(() => events('registered').length === 2, { label: 'registered again' })
    t.notOk(alive(before!.pid), 'the old process was gone before')
    t.not(events('registered')[1]?.['session'], session)
    const after = await waitFor(
      async () =>
        (await placements(sql)).find(
          (row) => row.run_state === 'running' && row.pid !== before!.pid,
        ),
      { label: 'it runs again', show: () => placements(sql) },
    )
    t.ok(alive(after.pid))
    await agent.stop()
  },
)

t.test(
  'an agent that is cut off stops its processes before its lease ends, and continues afterwards',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await scaleDown(sql)
    const proxy = await tcpProxy(t, url)
    const { agent, events } = testAgent(t, proxy.url)
    const stamps = join(tempDir(t, 'stamps'), 'stamps')
    // the workload records when it was alive, because this test may look late
    await deployment(sql, {
      name: 'stops',
      command: 'sh',
      args: ['-c', `while :; do date +%s%3N >> ${stamps}; sleep 0.02; done`],
    })
    await sleeper(sql, { name: 'kept', on_lost: 'keep' })
    await sleeper(sql, { name: 'daemon', type: 'daemon' })
    await agent.start()
    const before = await running(sql, 3)
    const fenced = before.find((row) => row.deployment_id === '1')!
    const [beat] = await sql<
      { at: number }[]
    >`select extract(epoch from h.beat_at)::float8 * 1000 as at from mooring.heartbeat h`
    await waitFor(() => existsSync(stamps), { label: 'it has spoken' })
    proxy.cut()
    await waitFor(() => !alive(fenced.pid), { label: 'the process of the deployment is gone' })
    const lastWord = Number(readFileSync(stamps, 'utf8').split('\n').at(-2))
    const [last] = await sql<
      { at: number }[]
    >`select extract(epoch from h.beat_at)::float8 * 1000 as at from mooring.heartbeat h`
    t.ok(last!.at >= beat!.at)
    t.ok(
      lastWord < last!.at + 10_000,
      `last output ${Math.round(lastWord - last!.at)} ms after the last beat, of a lease of 10,000`,
    )
    t.ok(
      before.filter((row) => row !== fenced).every(({ pid }) => alive(pid)),
      'daemons and what is to be kept run on',
    )
    t.equal(events('lease_ending').length, 1)
    proxy.restore()
    const again = await waitFor(
      async () =>
        (await placements(sql)).find(
          (row) =>
            row.deployment_id === '1' && row.run_state === 'running' && row.pid !== fenced.pid,
        ),
      { label: 'it runs again', show: () => placements(sql) },
    )
    t.ok(alive(again.pid))
    await agent.stop()
  },
)

t.test('killed connections cost no process and no lease', async (t) => {
  const { url, sql } = await testDatabase(t)
  await scaleDown(sql)
  const { agent, events } = testAgent(t, url)
  await sleeper(sql, { replicas: 5 })
  await agent.start()
  const before = await running(sql, 5)
  const beatAt = async () =>
    (await sql<{ at: string }[]>`select h.beat_at::text as at from mooring.heartbeat h`)[0]!.at
  for (let bursts = 0; bursts < 3; bursts += 1) {
    for (let kills = 0; kills < 4;) {
      const killed = await sql`
          select pg_terminate_backend(a.pid) from pg_stat_activity a
          where a.datname = current_database() and a.application_name like 'mooring agent%'`
      if (killed.length > 0) kills += 1
    }
    const before = await beatAt()
    await waitFor(async () => (await beatAt()) !== before, { label: 'it beats again' })
  }
  await sleeper(sql)
  const after = await running(sql, 6)
  t.strictSame(
    before.map((row) => [row.assignment_id, row.pid, row.epoch]),
    after.slice(0, 5).map((row) => [row.assignment_id, row.pid, row.epoch]),
  )
  t.equal(events('lease_ending').length, 0)
  await agent.stop()
  t.equal(events('node_left').length, 1)
})

t.test(
  'a graceful stop with a dead database ends the processes and says that the lease has to run out',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await scaleDown(sql)
    const proxy = await tcpProxy(t, url)
    const { agent, events } = testAgent(t, proxy.url, { leaveTimeoutMs: 300 })
    await sleeper(sql)
    await agent.start()
    const [row] = await running(sql, 1)
    proxy.cut()
    await agent.stop()
    t.notOk(alive(row!.pid))
    t.equal(events('leave_failed').length, 1)
  },
)

t.test(
  'a name or a pattern that the database refuses ends the agent with its message',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await sql`
      create or replace function mooring_internal.check_trust_pattern(pattern text)
      returns void language plpgsql as $$ begin
      raise exception using errcode = 'MR007', message = 'not this one'; end $$`
    const { agent } = testAgent(t, url)
    await agent.start()
    await t.rejects(agent.done, { code: 'MR007', message: 'not this one' })
  },
)
