// verify-full against a real server: everything that connects checks the authority and the name,
// and refuses what libpq refuses.
import { execFile, execFileSync } from 'node:child_process'
import { chownSync, copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { pino } from 'pino'
import postgres from 'postgres'
import t from 'tap'
import { createConnection } from '../../postgres/connection.js'
import { createNotificationListener } from '../../agent/session/notifications.js'
import { connect } from '../../cli/database.js'
import { ensureCluster } from '../../postgres/embedded/cluster.js'
import { migrate } from '../../postgres/migrate/migrate.js'
import { openJobPool } from '../../workers/job-pool.js'
import { tempDir } from '../helpers/processes.js'
import { waitFor } from '../helpers/wait-for.js'

/** The codes with which OpenSSL rejects a certificate of an unknown authority. */
const UNKNOWN_AUTHORITY =
  /^(SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT_LOCALLY)$/

const openssl = async (args: readonly string[]) => {
  const running = promisify(execFile)('openssl', args, { timeout: 10_000 })
  running.child.stdin?.end()
  return running
}
const hasOpenssl = (() => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()
const skip =
  hasOpenssl || process.env['CI'] ? false : 'openssl is not installed: no certificates can be made'

t.test('TLS with verify-full', { skip }, async (t) => {
  const folder = tempDir(t, 'tls')
  const file = (name: string) => join(folder, name)
  await authority('ours')
  await authority('foreign')
  await certificate('localhost', 'ours', 'DNS:localhost')
  await certificate('elsewhere', 'ours', 'DNS:db.example')
  await certificate('impostor', 'foreign', 'DNS:localhost')

  const cluster = await ensureCluster({
    stateDir: join(folder, 'state'),
    durable: false,
    settings: { max_connections: '40' },
  })
  t.teardown(() => cluster.stop())
  const plain = new URL(cluster.url)
  const admin = postgres(cluster.url, { max: 1, onnotice: () => {} })
  t.teardown(() => admin.end({ timeout: 1 }))
  await admin.unsafe(`create role over_tls login password 'secret' superuser`)
  await present('localhost')
  // a connection without TLS is refused, except the administrator's
  const hba = join(cluster.dataDir, 'pg_hba.conf')
  writeFileSync(hba, `hostnossl all over_tls all reject\n${readFileSync(hba, 'utf8')}`)
  await reload()

  const urlOf = (parameters: string, host = 'localhost') =>
    `postgres://over_tls:secret@${host}:${plain.port}/mooring${parameters}`
  const ours = `?sslmode=verify-full&sslrootcert=${encodeURIComponent(file('ours.crt'))}`
  const IS_TLS = 'select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()'

  /** One connection of each kind that Mooring makes; what it says of itself, or its error. */
  const connections: Record<string, (url: string) => Promise<boolean>> = {
    'the agent (postgres, with sockets of its own)': async (url) => {
      const connection = createConnection({ databaseUrl: url, applicationName: 'tls: connection' })
      try {
        return (await connection.run(5_000, (sql) => sql.unsafe<{ ssl: boolean }[]>(IS_TLS)))[0]!
          .ssl
      } finally {
        connection.close()
      }
    },
    'the command line (postgres)': async (url) => {
      const sql = await connect(url)
      try {
        return (await sql.unsafe<{ ssl: boolean }[]>(IS_TLS))[0]!.ssl
      } finally {
        await sql.end({ timeout: 1 })
      }
    },
    'the worker (pg)': async (url) => {
      const jobs = await openJobPool({ databaseUrl: url, connections: 1 })
      try {
        return (await jobs.pool.query<{ ssl: boolean }>(IS_TLS)).rows[0]!.ssl
      } finally {
        await jobs.pool.end()
        jobs.abandon()
      }
    },
  }
  const migration = async (url: string): Promise<boolean> =>
    (await migrate({ databaseUrl: url })).applied.length > 0

  await t.test(
    'a server of the authority, under its name: everything connects, encrypted',
    async (t) => {
      t.equal(await migration(urlOf(ours)), true, 'the migration (pg and graphile-migrate)')
      for (const [who, connection] of Object.entries(connections))
        t.equal(await connection(urlOf(ours)), true, who)
    },
  )

  await t.test('the listener (pg-listen) hears over TLS', async (t) => {
    let hints = 0
    const listener = createNotificationListener({
      databaseUrl: urlOf(ours),
      applicationName: 'tls: listener',
      channel: 'mooring_node_1',
      onHint: () => {
        hints += 1
      },
      onLogHint() {},
      log: pino({ level: 'silent' }),
    })
    t.teardown(() => listener.stop())
    listener.start()
    await waitFor(() => hints >= 1, { label: 'it listens' })
    t.match(
      await admin`
        select s.ssl
          from pg_stat_activity a
          join pg_stat_ssl s using (pid)
         where a.application_name = 'tls: listener'`,
      [{ ssl: true }],
    )
    const before = hints
    await admin`select pg_notify('mooring_node_1', '')`
    await waitFor(() => hints > before, { label: 'a hint arrives' })
  })

  await t.test('without TLS the server refuses, and nothing falls back to it', async (t) => {
    for (const [who, connection] of Object.entries(connections))
      await t.rejects(connection(urlOf('')), { code: '28000' }, who)
    await t.rejects(migration(urlOf('')), { code: '28000' }, 'the migration')
    await t.rejects(
      new pg.Client({ connectionString: urlOf('') }).connect(),
      { code: '28000' },
      'the driver alone as well',
    )
  })

  const REFUSED: [string, string, string, RegExp][] = [
    ['a server with the name of another', 'elsewhere', ours, /^ERR_TLS_CERT_ALTNAME_INVALID$/],
    ['a server of another authority', 'impostor', ours, UNKNOWN_AUTHORITY],
    ['an authority that is not configured', 'localhost', '?sslmode=verify-full', UNKNOWN_AUTHORITY],
  ]
  for (const [what, certificateName, parameters, code] of REFUSED) {
    await t.test(`${what} is refused`, async (t) => {
      await present(certificateName)
      for (const [who, connection] of Object.entries(connections)) {
        const error = await connection(urlOf(parameters)).then(
          () => ({ code: 'not refused', message: '' }),
          (thrown: unknown) => thrown as { code: string; message: string },
        )
        t.match(error.code, code, `${who}: ${error.message}`)
        t.notMatch(error.message, 'secret')
      }
    })
  }

  await t.test('negative control: require takes the very same servers', async (t) => {
    for (const name of ['elsewhere', 'impostor']) {
      await present(name)
      for (const [who, connection] of Object.entries(connections))
        t.equal(await connection(urlOf('?sslmode=require')), true, `${name}: ${who}`)
    }
  })

  await t.test("D2: an agent's login may be a certificate instead of a password", async (t) => {
    await present('localhost')
    await certificate('client', 'ours', 'DNS:client', 'over_tls')
    writeFileSync(hba, `hostssl all over_tls all cert\n${readFileSync(hba, 'utf8')}`)
    copyToServer('ours.crt', 'root.crt')
    await admin.unsafe(`alter system set ssl_ca_file = 'root.crt'`)
    await reload()
    const withCertificate =
      `${ours}&sslcert=${encodeURIComponent(file('client.crt'))}` +
      `&sslkey=${encodeURIComponent(file('client.key'))}`
    for (const [who, connection] of Object.entries(connections))
      t.equal(await connection(urlOf(withCertificate).replace(':secret', '')), true, who)
    await t.rejects(
      connections['the worker (pg)']!(urlOf(ours)),
      { code: '28000' },
      'the password alone is not enough',
    )
  })

  async function authority(name: string): Promise<void> {
    await openssl([
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
      '-subj',
      `/CN=authority ${name}`,
      '-keyout',
      file(`${name}.key`),
      '-out',
      file(`${name}.crt`),
    ])
  }

  async function certificate(
    name: string,
    issuer: string,
    subjects: string,
    commonName = 'a certificate',
  ): Promise<void> {
    await openssl([
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-subj',
      `/CN=${commonName}`,
      '-keyout',
      file(`${name}.key`),
      '-out',
      file(`${name}.csr`),
    ])
    writeFileSync(file(`${name}.ext`), `subjectAltName=${subjects}\n`)
    await openssl([
      'x509',
      '-req',
      '-in',
      file(`${name}.csr`),
      '-CA',
      file(`${issuer}.crt`),
      '-CAkey',
      file(`${issuer}.key`),
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      file(`${name}.ext`),
      '-out',
      file(`${name}.crt`),
    ])
  }

  /** The server shows this certificate to every connection from now on. */
  async function present(name: string): Promise<void> {
    copyToServer(`${name}.crt`, 'server.crt')
    copyToServer(`${name}.key`, 'server.key')
    await admin.unsafe('alter system set ssl = on')
    await reload()
    await waitFor(
      async () => (await shown()) === readFileSync(file(`${name}.crt`), 'utf8').replace(/\s/g, ''),
      { label: `the server shows ${name}` },
    )
  }

  function copyToServer(from: string, to: string): void {
    const { uid, gid } = statSync(cluster.dataDir)
    copyFileSync(file(from), join(cluster.dataDir, to))
    if (process.getuid?.() === 0) chownSync(join(cluster.dataDir, to), uid, gid)
    execFileSync('chmod', ['600', join(cluster.dataDir, to)])
  }

  async function reload(): Promise<void> {
    const [before] = await admin`select pg_conf_load_time() as at`
    await admin`select pg_reload_conf()`
    await waitFor(
      async () =>
        (await admin`select pg_conf_load_time() > ${before!.at as Date} as newer`)[0]!.newer,
      { label: 'the settings are read' },
    )
  }

  /** The certificate as a client sees it. */
  async function shown(): Promise<string> {
    const { stdout } = await openssl([
      's_client',
      '-starttls',
      'postgres',
      '-connect',
      `localhost:${plain.port}`,
    ]).catch((error: unknown) => error as { stdout: string })
    return (
      /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/.exec(String(stdout))?.[0] ?? ''
    ).replace(/\s/g, '')
  }
})
