import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import postgres from 'postgres'
import t from 'tap'
import type { Test } from 'tap'
import { roleSql, scramVerifier } from '../../../cli/commands/role.js'
import { testDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'

async function role(t: Test, ...args: string[]) {
  const program = mooring(t, ['role', 'create', ...args])
  const { code } = await program.exited
  return { code, stdout: program.stdout(), stderr: program.stderr() }
}

t.test(
  "an agent's login: its SQL is printed, its password goes into a file only, and the login works",
  async (t) => {
    const pg = await testDatabase(t)
    const [file, name] = [join(tempDir(t), 'password'), `test_${process.pid}_agent`]
    const made = await role(t, 'agent', '--node', 'host-a', '--name', name, '--password-file', file)
    t.equal(made.code, 0, made.stderr)
    const password = readFileSync(file, 'utf8').trim()
    t.ok(password.length >= 32)
    t.equal(statSync(file).mode & 0o777, 0o600)
    t.notMatch(made.stdout + made.stderr, password)
    t.teardown(() => dropRole(pg.url, name))
    await pg.client().unsafe(made.stdout)
    const agent = postgres(Object.assign(new URL(pg.url), { username: name, password }).href, {
      max: 1,
    })
    t.teardown(() => agent.end({ timeout: 1 }))
    await agent`select from mooring.register_node('host-a', gen_random_uuid(), '.')`
    await t.rejects(Promise.resolve(agent`select from mooring.node`), { code: '42501' })
    t.match(await pg.sql`select n.role_name from mooring.node n`, [{ role_name: name }])
    const again = await role(t, 'agent', '--node', 'host-b', '--password-file', file)
    t.equal(
      readFileSync(file, 'utf8').trim(),
      password,
      'a password that is there is used and kept',
    )
    t.notMatch(again.stdout, password)
  },
)

t.test('operators, viewers and workloads likewise, and --json', async (t) => {
  for (const kind of ['operator', 'viewer', 'workload']) {
    const { stdout } = await role(t, kind, '--name', 'ann')
    t.match(stdout, new RegExp(`create role "ann" login;[\\s\\S]*grant mooring_${kind} to "ann";`))
    t.notMatch(stdout, /mooring\.node|password '/)
  }
  t.match(JSON.parse((await role(t, 'agent', '--node', 'Host.A', '--json')).stdout), {
    role: 'mooring_host_a',
    node: 'Host.A',
    sql: /create role/,
  })
})

t.test('what cannot be is said with the way out, and makes no file', async (t) => {
  const folder = tempDir(t)
  const short = join(folder, 'short')
  writeFileSync(short, 'hunter2')
  const wrong: [string[], RegExp][] = [
    [['root'], /it is one of agent, operator, viewer, workload/],
    [['agent'], /mooring role create agent --node/],
    [['viewer', '--node', 'host-a', '--name', 'x'], /--node is for agents/],
    [['viewer'], /needs a name/],
    [['agent', '--node', "a'; drop table x"], /cannot be the name of a node/],
    [['viewer', '--name', 'pg_x'], /cannot be the name of a login/],
    [['viewer', '--name', 'mooring_operator'], /none of the group roles/],
    [['viewer', '--name', 'x', '--password-file', short], /8 to 1000 printable/],
    [['viewer', '--name', 'x', '--password-file', join(folder, 'none', 'x')], /ENOENT/],
  ]
  for (const [args, message] of wrong) {
    const { code, stdout, stderr } = await role(t, ...args)
    t.equal(code, 2, args.join(' '))
    t.equal(stdout, '')
    t.match(stderr, message)
    t.notMatch(stderr, /hunter2/)
  }
})

t.test('hostile names stay names', async (t) => {
  const pg = await testDatabase(t)
  const name = `test_${process.pid}"; drop schema mooring cascade; --'\\ ü`
  t.teardown(() => dropRole(pg.url, name))
  await pg.client().unsafe(roleSql({ kind: 'agent', name, node: 'host-a', verifier: null }))
  t.match(await pg.sql`select n.name, n.role_name from mooring.node n`, [
    { name: 'host-a', role_name: name },
  ])
})

t.test("the verifier is the one of RFC 7677's example", (t) => {
  // its server signature and proof follow from these two keys
  t.equal(
    scramVerifier('pencil', Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64')),
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=',
  )
  t.end()
})

async function dropRole(url: string, name: string): Promise<void> {
  const admin = postgres(Object.assign(new URL(url), { pathname: '/postgres' }).href, {
    max: 1,
    onnotice: () => {},
  })
  await admin.unsafe(`drop role if exists "${name.replaceAll('"', '""')}"`)
  await admin.end({ timeout: 1 })
}
