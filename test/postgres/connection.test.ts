import t from 'tap'
import { createConnection, type Connection } from '../../postgres/connection.js'
import { ownServer } from '../helpers/own-server.js'
import { testDatabase } from '../helpers/postgres.js'
import { rudeServer } from '../helpers/rude-server.js'
import { tcpProxy } from '../helpers/tcp-proxy.js'
import { waitFor } from '../helpers/wait-for.js'

/** The server process behind the connection. */
const pidOf = async (connection: Connection, check?: () => void): Promise<number> =>
  (
    await connection.run(5_000, (q) => q<{ pid: number }[]>`select pg_backend_pid() as pid`, check)
  )[0]!.pid

const one = { applicationName: 'connection under test' }

t.test(
  'a call that misses its deadline rejects, and the next one goes over a new connection',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    const proxy = await tcpProxy(t, url)
    const connection = createConnection({ databaseUrl: proxy.url, ...one })
    t.teardown(connection.close)
    const pid = () => pidOf(connection)
    const first = await pid()
    t.equal(await pid(), first, 'kept warm')
    proxy.cut()
    await t.rejects(
      connection.run(100, (q) => q`select 1`),
      { code: 'CALL_DEADLINE' },
    )
    proxy.restore()
    t.not(await pid(), first)
    await waitFor(
      async () => (await sql`select 1 from pg_stat_activity where pid = ${first}`).length === 0,
      { label: 'the old backend is gone' },
    )
  },
)

t.test('a statement that outlives its client is ended by the server', async (t) => {
  const { url, sql } = await testDatabase(t)
  const connection = createConnection({ databaseUrl: url, ...one })
  t.teardown(connection.close)
  await t.rejects(
    connection.run(200, (q) => q`select pg_sleep(60)`),
    { code: /^(CALL_DEADLINE|57014)$/ },
  )
  await waitFor(
    async () =>
      (
        await sql`
          select 1
          from pg_stat_activity
          where application_name = 'connection under test' and state = 'active'
        `
      ).length === 0,
    { label: 'no backend sleeps on' },
  )
})

t.test(
  'everything in flight rejects when the connection is dropped, and nothing rejects unheard',
  async (t) => {
    const { url } = await testDatabase(t)
    const proxy = await tcpProxy(t, url)
    for (let round = 0; round < 20; round += 1) {
      // dropped while it dials, while it logs in, and while it works
      const connection = createConnection({ databaseUrl: proxy.url, ...one })
      const calls = [
        connection.run(5_000, (q) => q`select pg_sleep(10)`),
        connection.run(5_000, (q) => q`select 1`),
      ]
      const results = Promise.allSettled(calls)
      await new Promise((resolve) =>
        round % 2 ? setImmediate(resolve) : setTimeout(resolve, round),
      )
      connection.close()
      t.ok((await results).some((each) => each.status === 'rejected'))
      await t.rejects(
        connection.run(5_000, (q) => q`select 1`),
        { code: 'CALL_AFTER_CLOSE' },
      )
    }
    await waitFor(() => proxy.connections() === 0, { label: 'no socket is left' })
  },
)

t.test('a server that comes and goes is used again at once when it is there', async (t) => {
  const { url } = await testDatabase(t)
  const proxy = await tcpProxy(t, url)
  let lost = 0
  const connection = createConnection({
    databaseUrl: proxy.url,
    ...one,
    onDisconnect: () => {
      lost += 1
    },
  })
  t.teardown(connection.close)
  for (let round = 0; round < 3; round += 1) {
    await connection.run(5_000, (q) => q`select 1`)
    const before = lost
    proxy.reset()
    await waitFor(() => lost > before, { label: 'the loss is noticed without a call' })
    for (let tries = 0; tries < 3; tries += 1)
      await t.rejects(
        connection.run(5_000, (q) => q`select 1`),
        { code: /^(ECONNRESET|ECONNREFUSED|CONNECTION_CLOSED|CLIENT_DROPPED)$/ },
      )
    proxy.restore()
  }
  t.ok(await connection.run(5_000, (q) => q`select 1`))
})

t.test('of several hosts the one that answers is used', async (t) => {
  const { url } = await testDatabase(t)
  const { host } = new URL(url)
  const connection = createConnection({
    databaseUrl: url.replace(host, `127.0.0.1:1,${host}`),
    ...one,
  })
  t.teardown(connection.close)
  t.ok(await connection.run(5_000, (q) => q`select 1`))
})

t.test(
  'a proxy without a server, which takes connections and closes them, is asked once for each call',
  async (t) => {
    const { port, connections } = await rudeServer(t, (socket) => void socket.end())
    const connection = createConnection({
      databaseUrl: `postgres://u:p@127.0.0.1:${port}/d`,
      ...one,
    })
    t.teardown(connection.close)
    for (let nr = 1; nr <= 3; nr += 1) {
      await t.rejects(
        connection.run(5_000, (q) => q`select 1`),
        { code: 'CLIENT_DROPPED', message: /closed before the server said anything/ },
      )
      t.equal(connections(), nr)
    }
  },
)

t.test('a server that says that it is read only is left, and asked for anew', async (t) => {
  const { url, sql } = await testDatabase(t)
  const connection = createConnection({ databaseUrl: url, ...one })
  t.teardown(connection.close)
  const pid = () => pidOf(connection)
  const first = await pid()
  const database = new URL(url).pathname.slice(1)
  await sql.unsafe(`alter database ${database} set default_transaction_read_only = on`)
  await connection.run(5_000, (q) => q`set default_transaction_read_only = on`)
  await t.rejects(
    connection.run(5_000, (q) => q`create table t ()`),
    { code: '25006' },
  )
  t.not(await pid(), first)
})

t.test('a server that must not be believed is left', async (t) => {
  const { url } = await testDatabase(t)
  const connection = createConnection({ databaseUrl: url, ...one })
  t.teardown(connection.close)
  const pid = (check?: () => void) => pidOf(connection, check)
  const first = await pid()
  const error = new Error('deposed')
  await t.rejects(
    pid(() => {
      throw error
    }),
    error,
  )
  t.not(await pid(), first)
})

t.test('commits that wait for a lost standby keep no backend once nobody waits', async (t) => {
  const server = await ownServer(t)
  await server.sql`alter system set synchronous_commit = on`
  await server.sql`alter system set synchronous_standby_names = 'ANY 1 (nobody)'`
  await server.sql`select pg_reload_conf()`
  const connection = createConnection({ databaseUrl: server.url, ...one })
  t.teardown(connection.close)
  const backends = async () =>
    (
      await server.sql<{ n: number }[]>`
        select count(*)::int as n
          from pg_stat_activity
         where application_name = 'connection under test'`
    )[0]!.n
  for (let nr = 1; nr <= 20; nr += 1)
    await t.rejects(
      connection.run(100, (q) => q.unsafe(`create table waits_${nr} ()`)),
      { code: 'CALL_DEADLINE' },
    )
  await waitFor(async () => (await backends()) <= 1, { label: 'no backend waits on' })
})
