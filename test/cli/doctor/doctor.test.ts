import { connect, createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { clockVerdict, transport } from '../../../cli/doctor/client-checks.js'
import { node } from '../../helpers/factories.js'
import { login } from '../../helpers/logins.js'
import { emptyDatabase, testDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'

interface Finding {
  check_name: string
  level: string
  found: string
  way_out: string | null
}

async function doctor(t: Test, databaseUrl: string, ...args: string[]) {
  const program = mooring(t, ['doctor', ...args], {
    databaseUrl,
    env: { MOORING_STATE_DIR: tempDir(t) },
  })
  const { code } = await program.exited
  return {
    code,
    stdout: program.stdout(),
    stderr: program.stderr(),
    rows: args.includes('--json') ? (JSON.parse(program.stdout()) as Finding[]) : [],
  }
}

const rowOf = (rows: Finding[], name: string) => rows.find(({ check_name }) => check_name === name)

/**
 * The same database behind something that hands on everything but notifications, as a pooler in
 * transaction mode does.
 */
async function deafAddress(t: Test, url: string): Promise<string> {
  const target = new URL(url)
  const server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname)
    let unread = Buffer.alloc(0)
    near
      .on('data', (data) => far.write(data))
      .on('error', () => far.destroy())
      .on('close', () => far.destroy())
    far.on('error', () => near.destroy()).on('close', () => near.destroy())
    // from the server every message is a letter, a length that counts itself, and so many bytes
    far.on('data', (data) => {
      unread = Buffer.concat([unread, data])
      while (unread.length >= 5 && unread.length > unread.readUInt32BE(1)) {
        const length = 1 + unread.readUInt32BE(1)
        if (unread[0] !== 'A'.charCodeAt(0)) near.write(unread.subarray(0, length))
        unread = unread.subarray(length)
      }
    })
    t.teardown(() => {
      near.destroy()
      far.destroy()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => new Promise((resolve) => server.close(resolve)))
  return Object.assign(new URL(url), {
    hostname: '127.0.0.1',
    port: String((server.address() as AddressInfo).port),
  }).href
}

t.test(
  'doctor prints a line for each check, and ends with 1 when there is a problem',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    // nobody beats here: what is live shall stay so
    await sql`update mooring.setting set lease_ttl = '1 hour'`
    await node(sql, { name: 'host-a' })
    await sql`update mooring.node set version = '0.0.1'`
    const text = await doctor(t, url)
    // the tests' server has fsync off
    t.equal(text.code, 1, text.stderr)
    t.match(text.stdout, /^ok {7}connection +\w+ at postgres:.*\*\*\*@/m)
    t.match(text.stdout, /^problem  durability +fsync.* is off: .*  -> alter system set/m)
    t.match(text.stdout, /^ok {7}notifications +LISTEN and NOTIFY arrive/m)
    t.match(
      text.stdout,
      /^warning  program +this program is [\d.]+; agents: 0.0.1 on 1  -> .*--handover/m,
    )
    t.match(
      text.stdout,
      /^\d+ checks: \d+ ok, (1 warning|\d+ warnings), (1 problem|\d+ problems)\n$/m,
    )
    t.notMatch(text.stdout, String.fromCharCode(27), 'no escape code on a pipe')
    t.notMatch(text.stdout, decodeURIComponent(new URL(url).password) || '(none)')
    const { code, rows } = await doctor(t, url, '--json')
    t.equal(code, 1)
    t.same(Object.keys(rows[0]!), ['check_name', 'level', 'found', 'way_out'])
    for (const name of ['connection', 'TLS', 'clock', 'hold', 'encryption'])
      t.equal(rowOf(rows, name)?.level, 'ok', name)
  },
)

t.test('a pooler that loses notifications is found out by a round trip', async (t) => {
  const { url } = await testDatabase(t)
  const { code, rows } = await doctor(t, await deafAddress(t, url), '--json')
  t.match(rowOf(rows, 'notifications'), {
    level: 'problem',
    found: /^lost: LISTEN was accepted.*pooler in transaction mode/,
    way_out: /^point DATABASE_URL.*session mode$/,
  })
  t.match(rowOf(rows, 'clock'), { level: 'ok' }, 'everything else passes')
  t.equal(code, 1)
})

t.test(
  'a database without the schema, without rights, or away is a finding too, and says what to type',
  async (t) => {
    const empty = await emptyDatabase(t)
    t.match(rowOf((await doctor(t, empty.url, '--json')).rows, 'program'), {
      level: 'problem',
      found: /is not installed in/,
      way_out: 'mooring migrate',
    })
    const database = await testDatabase(t)
    const stranger = await login(t, database)
    const refused = await doctor(t, stranger.url, '--json')
    t.equal(refused.code, 1)
    t.match(rowOf(refused.rows, 'your role'), {
      level: 'problem',
      found: /may not call mooring\.doctor\(\), so its checks were not made/,
      way_out: new RegExp(`grant mooring_viewer to "?${stranger.name}`),
    })
    await database.sql.unsafe(`grant mooring_viewer to ${stranger.name}`)
    t.match(
      rowOf((await doctor(t, stranger.url, '--json')).rows, 'your role'),
      { level: 'ok' },
      'the way out helps',
    )
    const away = await doctor(t, 'postgres://me:hunter2@127.0.0.1:1/app')
    t.match(away, {
      code: 1,
      stdout:
        /^problem  connection .*no database server answers at 127.0.0.1:1  -> check host and port/,
    })
    t.notMatch(away.stdout, 'hunter2')
  },
)

t.test('TLS is asked for where the server is another machine', async (t) => {
  const to = (host: string, sslmode: 'disable' | 'require' | 'verify-ca' | 'verify-full') =>
    transport({ hosts: [{ host, port: 5432 }], sslmode }, { tls: sslmode !== 'disable' })
  t.match(to('/var/run/postgresql', 'disable'), { level: 'ok' })
  t.match(to('127.0.0.1', 'disable'), { level: 'ok' })
  t.match(to('db.example', 'disable'), {
    level: 'warning',
    found: /^off, and db.example is another machine/,
    way_out: /verify-full/,
  })
  t.match(to('db.example', 'require'), { level: 'warning', found: /is not checked/ })
  t.match(to('db.example', 'verify-full'), { level: 'ok' })
})

t.test(
  'clocks apart are told with the bound of the measurement, and slow round trips prove nothing',
  async (t) => {
    t.match(clockVerdict({ offsetMs: 0.4, tripMs: 0.6 }), {
      level: 'ok',
      found: /^no offset measured \(± 1.3 ms/,
    })
    t.match(clockVerdict({ offsetMs: -300, tripMs: 2 }), {
      level: 'ok',
      found: /0.3 s behind the database/,
    })
    t.match(clockVerdict({ offsetMs: 90_000, tripMs: 2 }), {
      level: 'warning',
      found: /1 m 30 s ahead of the database \(± 2.0 ms/,
      way_out: /synchronize both clocks/,
    })
    t.match(clockVerdict({ offsetMs: 2_000, tripMs: 3_000 }), { level: 'ok' })
  },
)
