import { appendFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { createAgentDb, type AgentDb } from '../../../agent/session/verbs.js'
import { createNotificationListener } from '../../../agent/session/notifications.js'
import { createLogRequests, type LogRequestsOptions } from '../../../agent/session/log-requests.js'
import { assignments, deployment, node } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'
import { heardLog, scaleDown, testAgent } from '../fleet.js'
import { temporaryFolder } from '../rig.js'

/** The part that answers, on a real database, with a folder of logs. The test gives the hints. */
async function answering(t: Test, more: Partial<LogRequestsOptions> = {}) {
  const { sql, url } = await testDatabase(t)
  const host = await node(sql, { name: 'host-a' })
  const id = (await assignments(sql, await deployment(sql)))[0]!.id
  const folder = await temporaryFolder(t)
  await mkdir(join(folder, 'logs'))
  const db = createAgentDb({ databaseUrl: url, node: 'host-a' })
  const over: unknown[] = []
  const heard = heardLog()
  const calls = { look: 0, answer: 0 }
  const counted: Pick<AgentDb, 'logRequestsOf' | 'answerLog'> = {
    logRequestsOf: (...args) => {
      calls.look += 1
      return db.logRequestsOf(...args)
    },
    answerLog: (...args) => {
      calls.answer += 1
      return db.answerLog(...args)
    },
  }
  const requests = createLogRequests({
    db: counted,
    node: 'host-a',
    session: host.session,
    folder,
    whyGone: () => null,
    onSessionOver: (error) => over.push(error),
    log: heard.log,
    ...more,
  })
  t.teardown(async () => {
    db.close()
    await requests.stop()
  })
  const ask = async (args = ''): Promise<string> =>
    (
      await sql.unsafe<{ r: string }[]>(
        `select mooring.request_log(${id}, node => 'host-a'${args}) as r`,
      )
    )[0]!.r
  const read = (request: string) =>
    waitFor(async () => (await sql`select r.* from mooring.read_log(${request}) r`)[0], {
      label: 'it is answered',
      show: () => heard.text(),
    })
  return {
    sql,
    host,
    id,
    file: join(folder, 'logs', `${id}.log`),
    requests,
    over,
    heard,
    calls,
    ask,
    read,
  }
}

t.test(
  'Y39: a slice is read from the start, from the end, as the last lines, and on from there',
  async (t) => {
    const { file, requests, ask, read } = await answering(t)
    await writeFile(file, 'one\ntwo\nthree\n')
    for (const [args, data] of [
      [', from_byte => 4, max_bytes => 3', 'two'],
      [', from_byte => -6', 'three\n'],
      [', tail_lines => 2', 'two\nthree\n'],
      ['', 'one\ntwo\nthree\n'],
    ] as const) {
      const request = await ask(args)
      requests.hint()
      t.equal(((await read(request))['data'] as Buffer).toString(), data, args)
    }
    const first = await ask(', from_byte => 0, max_bytes => 4')
    requests.hint()
    const { next, more, size } = (await read(first)) as {
      next: string
      more: boolean
      size: string
    }
    t.match({ more, size }, { more: true, size: '14' })
    const second = await ask(`, after => '${next}'`)
    requests.hint()
    t.match(await read(second), { data: Buffer.from('two\nthree\n'), start_byte: '4', more: false })
  },
)

t.test(
  'Y40: a request may wait for new output: it is answered when that comes, or when its time ends',
  async (t) => {
    const { file, requests, ask, read, calls } = await answering(t)
    await writeFile(file, 'old\n')
    const request = await ask(`, from_byte => 4, wait => '30 s'`)
    requests.hint()
    await waitFor(() => calls.look === 1, { label: 'the agent knows of it' })
    await appendFile(file, 'new\n')
    t.match(await read(request), { data: Buffer.from('new\n') })
    const vain = await ask(`, from_byte => 8, wait => '100 ms'`)
    requests.hint()
    t.match(await read(vain), { data: Buffer.alloc(0), more: false, error: null })
    t.equal(calls.look, 2, 'meanwhile the file was looked at, not the database')
  },
)

t.test('that there is no log is an answer, and so is what cannot be read', async (t) => {
  const { file, id, requests, ask, read } = await answering(t)
  const none = await ask()
  requests.hint()
  t.match(await read(none), {
    data: null,
    size: '0',
    error: `assignment ${id} has no log on host-a: it has written nothing there`,
  })
  await mkdir(file)
  const folder = await ask()
  requests.hint()
  t.match(await read(folder), {
    data: null,
    size: null,
    error: new RegExp(`could not be read on host-a: .*is no regular file`),
  })
})

t.test(
  'Y40: a log that begins while a reader waits for it is read from its beginning',
  async (t) => {
    const { file, requests, ask, read, calls } = await answering(t)
    const request = await ask(`, from_byte => 0, wait => '30 s'`)
    requests.hint()
    await waitFor(() => calls.look === 1, { label: 'the agent knows of it' })
    await writeFile(file, 'first words\n')
    t.match(await read(request), { data: Buffer.from('first words\n') })
  },
)

t.test('a storm of hints is a few looks, and none of them costs more', async (t) => {
  const { file, requests, ask, read, calls } = await answering(t)
  await writeFile(file, 'x\n')
  const from = performance.now()
  for (let hint = 0; hint < 100_000; hint++) {
    requests.hint()
    if (hint % 1000 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  const request = await ask()
  requests.hint()
  await read(request)
  const most = 3 + (performance.now() - from) / 50
  t.ok(calls.look <= most, `${calls.look} looks`)
  t.equal(calls.answer, 1)
})

t.test('answers are bounded in bytes per second, so that no reader exhausts a host', async (t) => {
  const { file, requests, ask, read } = await answering(t, { bytesPerSecond: 20_000 })
  await writeFile(file, 'x'.repeat(4_000))
  const from = performance.now()
  const asked = [await ask(), await ask(), await ask()]
  requests.hint()
  await Promise.all(asked.map(read))
  // the third waits until the first two are paid for: 8,000 bytes of 20,000 in a second
  t.ok(performance.now() - from >= 399, 'they take their time')
})

t.test(
  'the end of a session is said once; a database that is away is nothing to stop for',
  async (t) => {
    const { sql, file, requests, over, heard, ask, read } = await answering(t)
    await writeFile(file, 'x\n')
    await sql.unsafe('alter function mooring.log_requests_of(text, uuid) rename to away')
    requests.hint()
    await waitFor(() => heard.events('log_request_failed').length > 0, { label: 'it fails' })
    await sql.unsafe('alter function mooring.away(text, uuid) rename to log_requests_of')
    const request = await ask()
    requests.hint()
    await read(request)
    t.same(over, [])
    await sql`update mooring.heartbeat set session = gen_random_uuid()`
    requests.hint()
    await waitFor(() => over.length > 0, { label: 'it is over' })
    requests.hint()
    await requests.stop()
    await requests.stop()
    t.match(over, [{ code: 'MR001' }])
  },
)

t.test(
  'the hint for a log does not make an agent read its assignments, and any other still does',
  async (t) => {
    const { sql, url } = await testDatabase(t)
    const heard: string[] = []
    const listener = createNotificationListener({
      databaseUrl: url,
      applicationName: 'test: listener',
      channel: 'mooring_node_1',
      onHint: () => heard.push('read'),
      onLogHint: () => heard.push('log'),
      log: heardLog().log,
    })
    t.teardown(() => listener.stop())
    listener.start()
    await waitFor(() => heard.length === 1, { label: 'it listens' })
    for (const payload of ['log', '', 'logs', 'log'])
      await sql`select pg_notify('mooring_node_1', ${payload})`
    await waitFor(() => heard.length === 5, { label: 'all is heard', show: () => heard })
    t.same(
      heard,
      ['read', 'log', 'read', 'read', 'log'],
      'and what may have been missed before it listened is no reason to look for requests',
    )
  },
)

t.test('an agent holds a connection for logs only while a reader requests some', async (t) => {
  const { sql, url } = await testDatabase(t)
  await scaleDown(sql)
  const { agent } = testAgent(t, url)
  await agent.start()
  const connections = async () =>
    (
      await sql<{ purpose: string }[]>`
        select split_part(a.application_name, ': ', 2) as purpose from pg_stat_activity a
        where a.datname = current_database() and a.application_name like 'mooring agent%'`
    ).map(({ purpose }) => purpose)
  await waitFor(async () => (await connections()).includes('listen'), {
    label: 'it listens',
    show: connections,
  })
  t.notOk((await connections()).includes('logs'))
  const [{ id } = { id: 0 }] = await sql<{ id: number }[]>`select n.id from mooring.node n`
  await waitFor(
    async () => {
      await sql`select pg_notify(${`mooring_node_${id}`}, 'log')`
      return (await connections()).includes('logs')
    },
    { label: 'it looks for requests', show: connections },
  )
  await agent.stop()
})
