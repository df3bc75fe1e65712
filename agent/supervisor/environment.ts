/**
 * The environment of a workload, built from nothing. Only the variables named here get in, because
 * the agent's DATABASE_URL and PG* are secrets, and NODE_OPTIONS and npm_config_* change what runs.
 */
import { delimiter, dirname } from 'node:path'
import type { OwnedAssignment } from '../rows.js'

type Environment = Readonly<Record<string, string | undefined>>

const INHERITED = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'USER', 'SHELL']
/** They name what another user may not enter or run. */
const OF_THE_AGENT = ['TMPDIR', 'SHELL']
const FALLBACK_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/**
 * Variables that identify a workload. deployment.env cannot set them, because assert_owner() and
 * the search for leftover processes rely on them.
 */
const RESERVED = /^MOORING_/

/** What of a user its workloads know. */
export interface UserVariables {
  HOME: string
  USER: string
  LOGNAME: string
}

export function workloadEnv(
  agentEnv: Environment,
  node: string,
  assignment: OwnedAssignment,
  binFolder: string | null = null,
  user: UserVariables | null = null,
): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(agentEnv)) {
    if (value !== undefined && (INHERITED.includes(name) || name.startsWith('LC_')))
      env[name] = value
  }
  if (user !== null) {
    for (const name of OF_THE_AGENT) delete env[name]
    Object.assign(env, user)
  }
  // The agent's own node comes last, so that scripts with `#!/usr/bin/env node` also run on a host
  // without node on its PATH.
  env['PATH'] = [binFolder, env['PATH'] ?? FALLBACK_PATH, dirname(process.execPath)]
    .filter((part) => part !== null)
    .join(delimiter)

  for (const [name, value] of Object.entries(assignment.env)) {
    if (!RESERVED.test(name)) env[name] = value
  }
  env['MOORING_ASSIGNMENT_ID'] = assignment.assignment_id
  env['MOORING_EPOCH'] = assignment.epoch
  env['MOORING_DEPLOYMENT_ID'] = assignment.deployment_id
  env['MOORING_NODE'] = node
  // a daemon has no ordinal; every shell can test for an empty string
  env['MOORING_ORDINAL'] = assignment.ordinal === null ? '' : String(assignment.ordinal)
  return env
}
