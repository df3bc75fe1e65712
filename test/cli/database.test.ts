import type { Socket } from 'node:net'
import t from 'tap'
import { requireSchemaIfReachable, withDbAt } from '../../cli/database.js'
import { deadPort } from '../helpers/dead-port.js'
import { rudeServer } from '../helpers/rude-server.js'
import { AS_OWN_USER, mooring, tempDir } from '../helpers/processes.js'

const AWAY: Record<string, (socket: Socket) => void> = {
  'breaks the connection': (socket) => void socket.end(),
  'breaks the login': (socket) => void socket.once('data', () => socket.end()),
  'takes the connection and says nothing': () => {},
}

for (const [what, treat] of Object.entries(AWAY)) {
  t.test(
    `several hosts, one ${what}, one down: a question fails, and a program that can wait goes on`,
    async (t) => {
      const hosts = `127.0.0.1:${(await rudeServer(t, treat)).port},127.0.0.1:${await deadPort()}`
      const url = `postgres://u:hunter2@${hosts}/d?connect_timeout=1`
      const error = (await withDbAt(url, async () => {}).catch((error: unknown) => error)) as Error
      t.match(error, {
        code: 'ECONNREFUSED',
        message: /is a primary that answers.*; 127\.0\.0\.1:\d+: .*ECONNREFUSED/,
      })
      t.notMatch(error.message, /hunter2/)
      await t.resolves(requireSchemaIfReachable(url))
    },
  )
}

t.test(
  'an agent and a worker that start while all hosts of the database are down say so and try again',
  async (t) => {
    const hosts = `127.0.0.1:${await deadPort()},127.0.0.1:${await deadPort()}`
    const databaseUrl = `postgres://u:p@${hosts}/d`
    for (const [args, said] of [
      [['agent', '--name', 'host-a', '--trust', '.', ...AS_OWN_USER], 'database_away'],
      [['worker'], 'worker_away'],
    ] as const) {
      const program = mooring(t, args, { databaseUrl, cwd: tempDir(t, 'away') })
      await program.said(said)
      program.kill('SIGTERM')
      t.equal((await program.exited).code, 0, args[0])
    }
  },
)
