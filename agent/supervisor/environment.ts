/**
 * The environment of a workload, built from nothing. What is not named here does not get in: the agent's DATABASE_URL, PG*, NODE_OPTIONS and npm_config_*
 * are either secrets or would change what runs.
 */
import { delimiter, dirname } from 'node:path'
import type { OwnedAssignment } from '../rows.js'

type Environment = Readonly<Record<string, string | undefined>>

const INHERITED = ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'USER', 'SHELL']
const FALLBACK_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** Names that tell a workload who it is. deployment.env cannot set them: assert_owner and the search for stray processes rely on them. */
const RESERVED = /^MOORING_/

export function workloadEnv(
  agentEnv: Environment,
  node: string,
  assignment: OwnedAssignment,
  binFolder: string | null = null,
): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(agentEnv)) {
    if (value !== undefined && (INHERITED.includes(name) || name.startsWith('LC_')))
      env[name] = value
  }
  // The agent's own node last: a host without one on the PATH can still run scripts that begin with `#!/usr/bin/env node`.
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
  // A daemon has no ordinal; an empty string says so in every shell.
  env['MOORING_ORDINAL'] = assignment.ordinal === null ? '' : String(assignment.ordinal)
  return env
}
