/** A command run to its end, and a fleet that exists as rows only, for commands to look at. */
import type { Test } from 'tap'
import { testDatabase } from '../helpers/postgres.js'
import { mooring, tempDir } from '../helpers/processes.js'

interface Place {
  url: string
  state: string
}

export async function run(
  t: Test,
  { url, state }: Place,
  args: readonly string[],
  env: Record<string, string> = {},
) {
  const program = mooring(t, args, { databaseUrl: url, env: { MOORING_STATE_DIR: state, ...env } })
  const { code } = await program.exited
  return { code, stdout: program.stdout(), stderr: program.stderr() }
}

/**
 * Without agents: one node that has just registered, deployments of these names placed on it, and
 * `odd`, which nobody trusts.
 */
export async function fleet(t: Test, ...names: string[]) {
  const pg = await testDatabase(t)
  const state = tempDir(t)
  // nobody beats here: what is live shall stay so
  await pg.sql`update mooring.setting set lease_ttl = '1 hour'`
  await pg.sql`select * from mooring.register_node('host-a', gen_random_uuid(), '^http-server@')`
  await pg.sql`
    insert into mooring.deployment (name, package_name, package_version)
    select u.name, 'http-server', '14.1.1'
    from unnest(${names}::text[]) with ordinality u (name, nr)
    order by u.nr
  `
  await pg.sql`
    insert into mooring.deployment (name, package_name, env)
    values ('odd', 'left-pad', '{"TOKEN": "hunter2"}')
  `
  await pg.sql`select count(*) from mooring.claim()`
  const rows = await pg.sql<
    { name: string; assignment_id: string; deployment_id: string }[]
  >`select p.name, p.assignment_id, p.deployment_id from mooring.placement p`
  return { ...pg, state, ids: Object.fromEntries(rows.map((row) => [row.name, row])) }
}
