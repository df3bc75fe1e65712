// The commands as an operator and as a viewer: who may not says so, and what to do.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { login } from '../../helpers/logins.js'
import { testDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'

async function fleet(t: Test, group: string) {
  const pg = await testDatabase(t)
  const person = await login(t, pg, [group])
  // nobody beats here: what is live shall stay so
  await pg.sql`update mooring.setting set lease_ttl = '1 hour'`
  await pg.sql`select from mooring.register_node('host-a', gen_random_uuid(), '.', '{npm,exec}')`
  await pg.sql`
    insert into mooring.deployment (name, command, env)
    values ('web', 'true', '{"TOKEN": "hunter2"}')
  `
  await pg.sql`select from mooring.claim()`
  const state = tempDir(t)
  return async (...args: string[]) => {
    const program = mooring(t, args, { databaseUrl: person.url, env: { MOORING_STATE_DIR: state } })
    const { code } = await program.exited
    return { code, said: `${program.stdout()}${program.stderr()}` }
  }
}

const LOOKING = [
  ['status'],
  ['status', '--json'],
  ['explain', 'web'],
  ['events'],
  ['events', '--deployment', 'web', '--json'],
  ['get', 'nodes'],
  ['get', 'deployments', '--json'],
  ['get', 'assignments', '--node', 'host-a'],
  ['describe', 'deployment', 'web', '--json'],
  ['describe', 'node', 'host-a'],
]

t.test('a viewer looks, and is refused the rest with a hint', async (t) => {
  const run = await fleet(t, 'mooring_viewer')
  for (const args of LOOKING) {
    const { code, said } = await run(...args)
    t.equal(code, 0, `${args.join(' ')}: ${said}`)
    t.notMatch(said, /hunter2/)
  }
  t.match(
    (await run('describe', 'deployment', 'web')).said,
    /command, args, env +not for your role/,
  )
  for (const args of [
    ['drain', 'host-a'],
    ['disable', 'node', 'host-a'],
    ['reassign', '1', 'host-a'],
    ['resume-reaping'],
    ['disable', 'deployment', 'web'],
    ['scale', 'deployment', 'web', '--replicas', '2'],
    ['delete', 'deployment', 'web'],
    ['restart', 'deployment', 'web', '--hard'],
    ['restart', 'assignment', '1'],
    ['delete', 'node', 'host-a'],
    ['set', 'node', 'host-a', '--weight', '1'],
  ]) {
    const { code, said } = await run(...args)
    t.equal(code, 1, args.join(' '))
    t.match(said, /permission denied.*\nhint: connect as a role that has this right/)
  }
})

t.test('an operator looks and operates', async (t) => {
  const run = await fleet(t, 'mooring_operator')
  const file = join(tempDir(t), 'apply.yaml')
  writeFileSync(file, 'deployments:\n  - name: api\n    command: "true"\n')
  const commands = [
    ...LOOKING,
    ['apply', file],
    ['apply', file],
    ['set', 'node', 'host-b', '--weight', '200'],
    ['disable', 'node', 'host-b'],
    ['drain', 'host-a'],
    ['undrain', 'host-a'],
    ['hold', 'host-a', '--for', '10m'],
    ['hold', 'host-a', '--end'],
    ['resume-reaping'],
    ['delete', 'node', 'host-b'],
    ['scale', 'deployment', 'web', '--replicas', '2'],
    ['restart', 'deployment', 'web', '--hard'],
    ['disable', 'deployment', 'api'],
    ['enable', 'deployment', 'api'],
    ['restart', 'deployment', 'api'],
    ['delete', 'deployment', 'web', 'api'],
  ]
  for (const args of commands) {
    const { code, said } = await run(...args)
    t.equal(code, 0, `${args.join(' ')}: ${said}`)
  }
})
