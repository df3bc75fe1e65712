import t from 'tap'
import { parseDatabaseUrl } from '../../postgres/database-url.js'
import { migrate } from '../../postgres/migrate/migrate.js'
import { findPrimary } from '../../postgres/find-primary.js'
import { deadPort } from '../helpers/dead-port.js'
import { rudeServer } from '../helpers/rude-server.js'
import { emptyDatabase } from '../helpers/postgres.js'
import { mooring } from '../helpers/processes.js'

t.test('of several hosts the first primary that answers is taken', async (t) => {
  const { url } = await emptyDatabase(t)
  const { host, port } = new URL(url)
  const several = url.replace(host, `127.0.0.1:${await deadPort()},${host}`)
  t.strictSame((await findPrimary(parseDatabaseUrl(several))).hosts, [
    { host: '127.0.0.1', port: Number(port) },
  ])
  t.match(
    await migrate({ databaseUrl: several }),
    { searchPath: 'set' },
    'the migration goes there too',
  )
})

t.test(
  'a host that accepts connections and never answers does not delay the primary behind it',
  async (t) => {
    const { url } = await emptyDatabase(t)
    const { host } = new URL(url)
    const silent = await rudeServer(t, () => {})
    const several = url.replace(host, `127.0.0.1:${silent.port},127.0.0.1:${silent.port},${host}`)
    await migrate({ databaseUrl: several })
    const status = mooring(t, ['status'], { databaseUrl: several })
    t.match(
      await status.exited,
      { code: 0 },
      'one after the other they would cost more than the ten seconds a command waits at first',
    )
  },
)

t.test('one host is taken as it is, without asking it', async (t) => {
  const url = parseDatabaseUrl(`postgres://u:p@127.0.0.1:${await deadPort()}/d`)
  t.equal(await findPrimary(url), url)
})

t.test(
  'when none is a primary, each is named with its reason, and the password is not',
  async (t) => {
    const [one, two] = [await deadPort(), await deadPort()]
    const error = (await findPrimary(
      parseDatabaseUrl(`postgres://u:hunter2@127.0.0.1:${one},127.0.0.1:${two}/d`),
    ).catch((error: unknown) => error)) as Error
    t.match(error.message, new RegExp(`127.0.0.1:${one}: .*ECONNREFUSED.*; 127.0.0.1:${two}: `))
    t.notMatch(error.message, /hunter2/)
  },
)

t.test('a host that says it is the primary, and nothing more, is not waited for', async (t) => {
  const message = (type: string, body: Buffer): Buffer => {
    const head = Buffer.alloc(5)
    head.write(type)
    head.writeUInt32BE(body.length + 4, 1)
    return Buffer.concat([head, body])
  }
  const ready = message('Z', Buffer.from('I'))
  const column = Buffer.concat([
    Buffer.from('\0\x01primary\0'),
    Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 1, 255, 255, 255, 255, 0, 0]),
  ])
  const answer = [
    message('T', column),
    message('D', Buffer.from('\0\x01\0\0\0\x01t')),
    message('C', Buffer.from('SELECT 1\0')),
    ready,
  ]
  // half open: it never closes its side
  const { port } = await rudeServer(t, (socket) => {
    socket.allowHalfOpen = true
    socket.once('data', () => {
      socket.write(Buffer.concat([message('R', Buffer.alloc(4)), ready]))
      socket.once('data', () => void socket.write(Buffer.concat(answer)))
    })
  })
  const url = parseDatabaseUrl(`postgres://u:p@127.0.0.1:${await deadPort()},127.0.0.1:${port}/d`)
  t.strictSame((await findPrimary(url)).hosts, [{ host: '127.0.0.1', port }])
})
