// The commands as an operator and as a viewer: who may not says so, and what to do.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { login } from '../helpers/logins.js'
import { testDatabase } from '../helpers/postgres.js'
import { mooring, tempDir } from '../helpers/processes.js'

async function fleet(t: Test, group: string) {
  const pg = await testDatabase(t)
  const person = await login(t, pg, [group])
  await pg.sql`select from mooring.register_node('host-a', gen_random_uuid(), '.', '{npm,exec}')`
  await pg.sql`insert into mooring.deployment (name, command, env) values ('web', 'true', '{"TOKEN": "hunter2"}')`
  await pg.sql`select from mooring.claim()`
  const state = tempDir(t)
  return async (...args: string[]) => {
    const program = mooring(t, args, { databaseUrl: person.url, env: { MOORING_STATE_DIR: state } })
    const { code } = await program.exited
    return { code, said: `${program.stdout()}${program.stderr()}` }
  }
}

const LOOKING = [['status'], ['status', '--json'], ['explain', 'web'], ['events'], ['node', 'list'], ['node', 'show', 'host-a']]

t.test('a viewer looks, and is refused the rest with a hint', async (t) => {
  const run = await fleet(t, 'mooring_viewer')
  for (const args of LOOKING) {
    const { code, said } = await run(...args)
    t.equal(code, 0, `${args.join(' ')}: ${said}`)
    t.notMatch(said, /hunter2/)
  }
  for (const args of [['drain', 'host-a'], ['node', 'disable', 'host-a'], ['reassign', '1', 'host-a'], ['resume-reaping']]) {
    const { code, said } = await run(...args)
    t.equal(code, 1, args.join(' '))
    t.match(said, /permission denied.*\nhint: connect as a role that has this right/)
  }
})

t.test('an operator looks and operates', async (t) => {
  const run = await fleet(t, 'mooring_operator')
  const file = join(tempDir(t), 'apply.yaml')
  writeFileSync(file, 'deployments:\n  - name: api\n    command: "true"\n')
  const commands = [...LOOKING, ['apply', file], ['apply', file], ['node', 'set', 'host-b', '--weight', '200'], ['node', 'disable', 'host-b'], ['drain', 'host-a'], ['undrain', 'host-a'], ['resume-reaping'], ['node', 'forget', 'host-b']]
  for (const args of commands) {
    const { code, said } = await run(...args)
    t.equal(code, 0, `${args.join(' ')}: ${said}`)
  }
})
