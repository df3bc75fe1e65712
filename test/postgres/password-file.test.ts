/** A password that DATABASE_URL leaves out is found where psql finds it, by both drivers. */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { storedPassword } from '../../postgres/password-file.js'
import { mooring, tempDir } from '../helpers/processes.js'
import { testServer } from '../helpers/server.js'

t.test('a line fits as in libpq', async (t) => {
  const file = join(tempDir(t, 'pgpass'), 'pgpass')
  writeFileSync(
    file,
    [
      '# db:5432:app:me:comment',
      'db:5432:app:me',
      'db:5432:other:me:wrong',
      'db:5432:a\\:p\\\\p:me:of\\:colon',
      '\\*:5432:app:me:a host of that name',
      'localhost:*:*:sock:of a socket',
      'db:*:*:me:first\r',
      '*:*:*:*:last',
    ].join('\n'),
    { mode: 0o600 },
  )
  const env = { PGPASSFILE: file }
  const me = { host: 'db', port: 5432, database: 'app', user: 'me' }
  t.equal(storedPassword(me, env), 'first')
  t.equal(storedPassword({ ...me, database: 'a:p\\p' }, env), 'of:colon')
  t.equal(storedPassword({ ...me, host: 'elsewhere' }, env), 'last')
  t.equal(storedPassword({ ...me, host: '/tmp', user: 'sock' }, env), 'of a socket')
  t.equal(storedPassword({ ...me, host: '/srv/socket', user: 'sock' }, env), 'last')
  t.equal(storedPassword(me, { ...env, PGPASSWORD: 'of the environment' }), 'of the environment')
  chmodSync(file, 0o640)
  t.equal(storedPassword(me, env), undefined, 'a file that others may read is ignored')
  t.equal(storedPassword(me, { PGPASSFILE: '/nonexistent' }), undefined)
})

t.test('a database whose name needs quoting, and a password in ~/.pgpass', async (t) => {
  const server = await testServer()
  const name = `test_${process.pid}_App#1 "x"`
  const quoted = `"${name.replaceAll('"', '""')}"`
  await server.admin.unsafe(`create database ${quoted}`)
  t.teardown(async () => {
    await server.admin.unsafe(`drop database if exists ${quoted} with (force)`)
    await server.release()
  })
  const url = new URL(server.urlOf('x'))
  url.pathname = `/${encodeURIComponent(name)}`
  const password = decodeURIComponent(url.password)
  t.not(password, '', 'the server asks for one')
  url.password = ''
  const home = tempDir(t, 'home')
  const databaseUrl = url.href
  const refused = mooring(t, ['migrate'], { databaseUrl, env: { HOME: home } })
  t.equal((await refused.exited).code, 1, 'control: without it nothing gets in')
  const escaped = password.replace(/[\\:]/g, '\\$&')
  writeFileSync(join(home, '.pgpass'), `*:*:*:*:${escaped}\n`, { mode: 0o600 })
  const calls = [['migrate'], ['status'], ['psql', '-c', 'select 1'], ['uninstall', '--yes']]
  for (const args of calls) {
    const program = mooring(t, args, { databaseUrl, env: { HOME: home } })
    t.equal((await program.exited).code, 0, `${args.join(' ')}: ${program.stderr()}`)
    t.notMatch(`${program.stdout()}${program.stderr()}`, password)
  }
})
