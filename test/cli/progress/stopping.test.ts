import t from 'tap'
import { assignments, deployment, node } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'
import { claim, obeyOrders } from '../../sql/story.js'

t.test('delete --wait ends when nothing of the deployment runs any more', async (t) => {
  const { url, sql } = await testDatabase(t)
  await sql`update mooring.setting set lease_ttl = '1 hour'`
  const hosts = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  await deployment(sql, { name: 'web', replicas: 2 })
  await claim(sql)
  const program = mooring(t, ['delete', 'deployment', 'web', '--wait'], {
    databaseUrl: url,
    env: { MOORING_STATE_DIR: tempDir(t) },
  })
  await program.said('2 still to stop, on host-a, host-b')
  await obeyOrders(sql, hosts.slice(0, 1))
  await program.said('1 still to stop, on host-b')
  await obeyOrders(sql, hosts)
  t.equal((await program.exited).code, 0)
  t.match(program.stdout(), /\nweb is deleted\n$/)
  t.same(await assignments(sql), [])
})
