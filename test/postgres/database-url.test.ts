import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  DatabaseUrlError,
  parseDatabaseUrl,
  pgConfig,
  postgresOptions,
  withHost,
} from '../../postgres/database-url.js'
import { tempDir } from '../helpers/processes.js'

t.test('one address becomes the configuration of both drivers', async (t) => {
  const url = parseDatabaseUrl(
    'postgres://ann:p%40ss%2Fword@db.example:6543/fleet%20one?application_name=ops&connect_timeout=3&options=-c%20statement_timeout%3D9',
  )
  t.match(url, {
    hosts: [{ host: 'db.example', port: 6543 }],
    user: 'ann',
    password: 'p@ss/word',
    database: 'fleet one',
    sslmode: 'disable',
  })
  t.match(postgresOptions(url), {
    host: 'db.example',
    port: 6543,
    user: 'ann',
    password: 'p@ss/word',
    database: 'fleet one',
    ssl: false,
    connect_timeout: 3,
    connection: { application_name: 'ops', options: '-c statement_timeout=9' },
  })
  t.match(pgConfig(url, { options: '-c lock_timeout=500' }), {
    host: 'db.example',
    port: 6543,
    user: 'ann',
    password: 'p@ss/word',
    database: 'fleet one',
    ssl: false,
    connectionTimeoutMillis: 3000,
    application_name: 'ops',
    options: / -c statement_timeout=9 -c lock_timeout=500$/,
  })
})

t.test('several hosts: both drivers refuse them and say why', async (t) => {
  const url = parseDatabaseUrl('postgres://u:p@a:1,b,[::2]:3/d')
  t.strictSame(url.hosts, [
    { host: 'a', port: 1 },
    { host: 'b', port: 5432 },
    { host: '::2', port: 3 },
  ])
  for (const configure of [postgresOptions, pgConfig])
    t.throws(() => configure(url), { part: 'host', message: /several hosts/ })
  t.match(postgresOptions(withHost(url, url.hosts[2]!)), {
    host: '::2',
    port: 3,
    target_session_attrs: 'primary',
  })
  t.equal(
    parseDatabaseUrl('postgres://u@a,b/d?target_session_attrs=read-write').parameters
      .target_session_attrs,
    'primary',
  )
})

t.test('a Unix socket reaches both drivers as a folder', async (t) => {
  for (const text of ['postgres://u@/d?host=/run/pg&port=7', 'postgres://u@%2Frun%2Fpg:7/d']) {
    const url = parseDatabaseUrl(text)
    t.match(postgresOptions(url), { host: '/run/pg', port: 7 }, text)
    t.match(pgConfig(url), { host: '/run/pg', port: 7 }, text)
  }
})

t.test('sslmode means the same in both drivers: what libpq means', async (t) => {
  const authority = join(tempDir(t), 'root.crt')
  writeFileSync(authority, 'AUTHORITY')
  const tlsOf = (parameters: string) => {
    const url = parseDatabaseUrl(`postgres://u:p@h/d?${parameters}`)
    t.same(postgresOptions(url).ssl, pgConfig(url).ssl, parameters)
    return pgConfig(url).ssl
  }
  t.strictSame(tlsOf('sslmode=disable'), false)
  t.strictSame(tlsOf('sslmode=require'), { rejectUnauthorized: false })
  t.strictSame(tlsOf('sslmode=verify-full'), {})
  t.match(tlsOf(`sslmode=verify-full&sslrootcert=${authority}`), { ca: 'AUTHORITY' })
  t.match(tlsOf(`sslmode=verify-ca&sslrootcert=${authority}`), {
    ca: 'AUTHORITY',
    checkServerIdentity: Function,
  })
})

t.test('an error names the part that is wrong and never shows the password', async (t) => {
  const cases: [string | undefined, string][] = [
    [undefined, 'value'],
    ['', 'value'],
    ['postgres://u:hunter2@h/d with space', 'value'],
    ['mysql://u:hunter2@h/d', 'scheme'],
    ['u:hunter2@h/d', 'scheme'],
    ['hunter2', 'scheme'],
    ['postgres:///d', 'host'],
    ['postgres://u:hunter2@/d', 'host'],
    ['postgres://u:hunter2@ho_st!/d', 'host'],
    ['postgres://u:hunter2@::1/d', 'host'],
    ['postgres://u:hunter2@a,,b/d', 'host'],
    ['postgres://u:hunter2@h/d?host=/run', 'host'],
    ['postgres://u:hunter2@h:0/d', 'port'],
    ['postgres://u:hunter2@h:65536/d', 'port'],
    ['postgres://u:hunter2@h:five/d', 'port'],
    ['postgres://u:hunter2@h/d?port=5', 'port'],
    ['postgres://u:hunter2@h', 'database'],
    ['postgres://u:hunter2@h/', 'database'],
    ['postgres://u:hunter2@h/a/b', 'database'],
    ['postgres://u:hunter2/x@h/d', 'user and password'],
    ['postgres://u:hunter2#x@h/d', 'user and password'],
    ['postgres://u:hun@ter2@h/d', 'user and password'],
    ['postgres://u:hunter2?x=1@h/d', 'user and password'],
    ['postgres://u:hunter2%zz@h/d', 'password'],
    ['postgres://u%00:hunter2@h/d', 'user'],
    ['postgres://u:hunter2@h/d?sslmod=require', 'parameter'],
    ['postgres://u:hunter2@h/d?pool%20size=1', 'parameter'],
    ['postgres://u:hunter2@h/d?channel_binding=require', 'parameter'],
    ['postgres://u:hunter2@h/d?sslmode=sometimes', 'sslmode'],
    ['postgres://u:hunter2@h/d?sslmode=prefer', 'sslmode'],
    ['postgres://u:hunter2@h/d?sslmode=verify-ca', 'sslmode'],
    ['postgres://u:hunter2@h/d?sslrootcert=/none', 'sslmode'],
    ['postgres://u:hunter2@h/d?sslmode=require&sslmode=disable', 'sslmode'],
    ['postgres://u:hunter2@h/d?target_session_attrs=standby', 'target_session_attrs'],
    ['postgres://u:hunter2@h/d?connect_timeout=soon', 'connect_timeout'],
  ]
  for (const [text, part] of cases) {
    t.throws(
      () => parseDatabaseUrl(text),
      { name: 'DatabaseUrlError', part, exitCode: 2 },
      `${text} -> ${part}`,
    )
    try {
      parseDatabaseUrl(text)
    } catch (error) {
      t.notMatch(`${(error as DatabaseUrlError).message}`, /hunter2|hun|ter2/)
    }
  }
  t.throws(
    () =>
      pgConfig(parseDatabaseUrl('postgres://u:hunter2@h/d?sslmode=verify-full&sslrootcert=/none')),
    { part: 'sslrootcert', message: /ENOENT/ },
  )
})

t.test('the form for logs has everything but the password', async (t) => {
  t.equal(
    parseDatabaseUrl('postgresql://ann:hunter2@a:1,b/fleet').redacted,
    'postgres://ann:***@a:1,b:5432/fleet',
  )
  t.equal(
    parseDatabaseUrl('postgres://ann@/d?host=/run/pg').redacted,
    'postgres://ann@%2Frun%2Fpg:5432/d',
  )
})
