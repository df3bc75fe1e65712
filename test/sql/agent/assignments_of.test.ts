import { randomUUID } from 'node:crypto'
import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story('it is everything the agent needs to run what it owns', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const id = await deployment(sql, {
    package_name: '@acme/site',
    package_version: '1.2.3',
    command: 'node',
    args: ['a', 'b c'],
    env: { A: '1', B: '' },
    on_lost: 'keep',
    lease_ttl: '20 s',
    stop_grace: '1500 ms',
    replicas: 2,
  })
  const bare = await deployment(sql, { package_name: 'left-pad', type: 'daemon' })
  await claim(sql)
  const owned = await sql`select * from mooring.assignments_of('host-a', ${host.session})`
  const common = { epoch: '1', generation: '1', wanted: 'run' }
  const site = {
    ...common,
    deployment_id: id,
    type: 'deployment',
    on_lost: 'keep',
    lease_ttl_ms: 20_000,
    stop_grace_ms: 1500,
    package_name: '@acme/site',
    package_version: '1.2.3',
    command: 'node',
    args: ['a', 'b c'],
    env: { A: '1', B: '' },
  }
  const pad = {
    ...common,
    deployment_id: bare,
    type: 'daemon',
    on_lost: 'stop',
    lease_ttl_ms: 12_000,
    stop_grace_ms: 10_000,
    package_name: 'left-pad',
    package_version: 'latest',
    command: null,
    args: [],
    env: {},
  }
  const rows = await assignments(sql)
  const expected = rows.map(({ id: assignment_id, ordinal, deployment_id }) => ({
    assignment_id,
    ordinal,
    ...(deployment_id === id ? site : pad),
  }))
  t.same([...owned], expected, 'in order of assignment')
})

story('a command without a package has no version', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql, { command: 'sleep', args: ['60'] })
  await claim(sql)
  const [row] =
    await sql`select package_name, package_version, command from mooring.assignments_of('host-a')`
  t.same(row, { package_name: null, package_version: null, command: 'sleep' })
})

story('of a deleted deployment only the order to stop is left', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const id = await deployment(sql, { env: { SECRET: 'x' }, on_lost: 'keep' })
  await claim(sql)
  await sql`delete from mooring.deployment where id = ${id}`
  const [row] = await sql`select * from mooring.assignments_of('host-a')`
  t.match(row, {
    deployment_id: id,
    type: 'deployment',
    generation: '0',
    wanted: 'stop',
    on_lost: 'stop',
    stop_grace_ms: 10_000,
    package_name: null,
    package_version: null,
    command: null,
    args: null,
    env: null,
  })
})

story('it is the whole set of this node and of no other', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await deployments(sql, 5)
  await claim(sql)
  const mine = await sql`select assignment_id as id from mooring.assignments_of('host-a')`
  t.same(
    [...mine],
    (await assignments(sql)).filter(({ node }) => node === 'host-a').map(({ id }) => ({ id })),
  )
})

story(
  'without a session it is for reading; with one the session must be the living one',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    t.equal((await sql`select * from mooring.assignments_of('host-a')`).length, 0)
    await refused(
      t,
      sql,
      (sql) => sql`select * from mooring.assignments_of('host-a', ${randomUUID()})`,
      { code: 'MR001' },
    )
    await refused(t, sql, (sql) => sql`select * from mooring.assignments_of('host-z')`, {
      code: 'MR003',
      hint: /host-a/,
    })
    await refused(
      t,
      sql,
      (sql) => sql`select * from mooring.assignments_of('host-z', ${host.session})`,
      { code: 'MR003' },
    )
  },
)
