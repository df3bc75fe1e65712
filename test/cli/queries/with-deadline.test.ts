/**
 * A server that is stopped answers nothing, for ever: no command waits so long. The server is the
 * file's own, and every process of it is stopped.
 */
import t from 'tap'
import { answerWithin } from '../../../postgres/deadline.js'
import { createQueriesWithDeadline } from '../../../cli/queries/with-deadline.js'
import { connect } from '../../../cli/database.js'
import { watchDrain } from '../../../cli/progress/drain.js'
import { isConnectionProblem, problemOf } from '../../../cli/errors.js'
import { createPatience } from '../../../cli/progress/patience.js'
import { ownServer } from '../../helpers/own-server.js'
import { mooring, tempDir } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'

const SHORT = { fewMs: 300, manyMs: 600 }

t.test(
  'a question that is late fails as one over a lost connection, and says what to look at',
  async (t) => {
    await t.rejects(answerWithin(5, new Promise(() => {})), {
      code: 'CALL_DEADLINE',
      message: 'the database did not answer within 0.005 s',
    })
    t.equal(await answerWithin(60_000, Promise.resolve('an answer')), 'an answer')
    await t.rejects(answerWithin(60_000, Promise.reject(new Error('refused'))), {
      message: 'refused',
    })
  },
)

t.test(
  'a stopped server costs each question its deadline, and is asked again when it goes on',
  async (t) => {
    const server = await ownServer(t)
    const asked = createQueriesWithDeadline(() => connect(server.url), SHORT)
    t.teardown(() => asked.close())
    // the machine may be slow, so a deadline may be missed at any time; the connection that is lost
    // is never asked twice
    const answer = () => waitFor(() => asked.db.fleet(), { label: 'it is answered' })
    t.equal((await answer()).nodes, 0)
    const goOn = server.pause()
    await t.rejects(asked.db.fleet(), { code: 'CALL_DEADLINE', message: /within 0.3 s/ })
    await t.rejects(
      asked.db.fleet(),
      { code: 'CALL_DEADLINE' },
      'not even a new connection is answered',
    )
    await t.rejects(asked.db.deleteDeployments(['1']), {
      code: 'CALL_DEADLINE',
      message: /within 0.6 s/,
    })
    goOn()
    const patient = createQueriesWithDeadline(() => connect(server.url))
    t.teardown(() => patient.close())
    t.equal((await patient.db.fleet()).nodes, 0)
    t.equal((await answer()).nodes, 0)
    await t.rejects(
      patient.db.setNodeEnabled('host-a', false),
      { code: 'MR003' },
      'what is refused is refused, over the connection there is',
    )
  },
)

t.test('the server stops a statement that its client has given up', async (t) => {
  const server = await ownServer(t)
  const asked = createQueriesWithDeadline((timeoutMs) => connect(server.url, timeoutMs), SHORT)
  t.teardown(() => asked.close())
  const sleeping = () =>
    server.sql`
      select from pg_stat_activity where state = 'active' and query like 'select pg_sleep%'`
  for (const deadlineMs of Object.values(SHORT)) {
    await t.rejects(asked.ask(deadlineMs, (sql) => sql`select pg_sleep(600)`))
    await waitFor(async () => (await sleeping()).length === 0, { label: 'it has stopped' })
  }
})

t.test(
  'a wait for a drain gives up a stopped server as it gives up an absent one, with a hint',
  async (t) => {
    const server = await ownServer(t)
    await server.sql`update mooring.setting set lease_ttl = '1 hour'`
    await server.sql`
      select *
      from mooring.register_node('host-a', gen_random_uuid(), '^http-server@')
    `
    await server.sql`
      insert into mooring.deployment (name, package_name, package_version)
      values ('web', 'http-server', '14.1.1')
    `
    await server.sql`select count(*) from mooring.claim()`
    await server.sql`select mooring.drain_node('host-a', deadline => '1 h')`
    const asked = createQueriesWithDeadline(() => connect(server.url), {
      fewMs: 2_000,
      manyMs: 2_000,
    })
    t.teardown(() => asked.close())
    let looks = 0
    const db = {
      drainProgress(node: string) {
        looks += 1
        return asked.db.drainProgress(node)
      },
    }
    const signal = new AbortController()
    t.teardown(() => signal.abort())
    const watching = watchDrain(db, 'host-a', {
      json: true,
      signal: signal.signal,
      patience: createPatience(3_000),
    })
    await waitFor(() => looks > 1, { label: 'it looks on' })
    server.pause()
    const error = await watching.then(
      () => null,
      (thrown: unknown) => thrown,
    )
    t.ok(isConnectionProblem(error))
    t.match(problemOf(error), {
      exitCode: 1,
      message: /did not answer within 2 s|no answer from the database server/,
      hint: /see that it runs|that the server runs/,
    })
  },
)

t.test(
  'Y CLI: a follower of logs reports that a stopped server does not answer, and goes on with it',
  async (t) => {
    const server = await ownServer(t)
    await server.sql`update mooring.setting set lease_ttl = '1 hour'`
    await server.sql`
      select *
      from mooring.register_node('host-a', gen_random_uuid(), '^http-server@')
    `
    await server.sql`
      insert into mooring.deployment (name, package_name, package_version)
      values ('web', 'http-server', '14.1.1')
    `
    await server.sql`select count(*) from mooring.claim()`
    const logs = mooring(t, ['logs', 'web', '-f'], { databaseUrl: server.url, cwd: tempDir(t) })
    await waitFor(
      async () => (await server.sql`select from mooring_internal.log_request`).length > 0,
      {
        label: 'it asks',
      },
    )
    const goOn = server.pause()
    await logs.said(/the database did not answer within 15 s; waiting/, 60_000)
    goOn()
    await logs.said(/node host-a does not answer, and the log is there/, 60_000)
    t.notOk(logs.ended())
  },
)
