/**
 * The configuration of an agent. parseAgentConfig() reports all problems at once.
 * It refuses unknown keys, so that a misspelt option never passes for a default.
 */
import { NAME_PATTERN } from '../syntax/name.js'
import { trustProblem } from '../syntax/trust-pattern.js'
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import { z } from 'zod'
import { hostStateFolder } from '../state-folder/default-folder.js'
import { DEFAULT_KEEP } from './cleanup/cleanup.js'
import { CONTAINMENT_LEVELS } from './warden/containment.js'
import type { ContainmentLevel } from './warden/containment.js'

export interface AgentConfig {
  /** Unique name of the node. Two live agents cannot share one. */
  name: string
  /**
   * postgres:// URL with a password, so it is never logged. It must be a direct connection and not
   * a transaction pool, because the agent LISTENs.
   */
  databaseUrl: string
  /** Regular expression on name@version: the packages this host may run. null trusts none. */
  trust: string | null
  /** Custom commands of deployments may run here (driver exec). */
  allowExec: boolean
  /** Packages may run their install scripts. */
  allowScripts: boolean
  /** deployment.selector is matched against these. null keeps those of the node's row. */
  labels: Record<string, string> | null
  /** The most assignments of this node. null keeps the value of the node's row. */
  maxAssignments: number | null
  /**
   * The addresses of this agent and of the workloads of this host, for deployments with needs_urls.
   * null keeps those of the node's row.
   */
  agentBaseUrl: string | null
  gatewayBaseUrl: string | null
  /** The user of this host that workloads run as. null: the agent's own, unless that is root. */
  workloadUser: string | null
  /** The most containment to use; null is the best of this host. */
  containment: ContainmentLevel | null
  /** Requests the running agent of this name on this host to hand its processes over. */
  handOver: boolean
  /** Root of local state for all agents of a host. Each has a folder <stateDir>/agents/<name>. */
  stateDir: string
  /** How long unused logs, packages and non-empty work folders are kept; null: for ever. */
  keepLogsMs: number | null
  keepPackagesMs: number | null
  keepWorkMs: number | null
  /** How long stop() tries to report its end to the database, after the processes are gone. */
  leaveTimeoutMs: number
}

/** Everything but databaseUrl is optional. */
export type AgentConfigInput = Partial<AgentConfig> & Pick<AgentConfig, 'databaseUrl'>

export const DEFAULT_LEAVE_TIMEOUT_MS = 5_000

/** All problems of a configuration. None shows a value that may be secret. */
export class AgentConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(
      [`the agent's configuration is wrong:`, ...problems.map((each) => `  - ${each}`)].join('\n'),
    )
    this.name = 'AgentConfigError'
    this.problems = problems
  }
}

export function parseAgentConfig(input: unknown): AgentConfig {
  const result = schema.safeParse(input)
  if (!result.success) throw new AgentConfigError(result.error.issues.map(describe))
  return { ...result.data, stateDir: resolve(result.data.stateDir) }
}

const baseUrl = z
  .url({ protocol: /^https?$/, error: 'must be an http or https URL' })
  .max(2048)
  .nullable()
  .default(null)

const keptMs = (byDefault: number | null) => z.number().min(0).nullable().default(byDefault)

const schema = z.strictObject({
  name: z
    .string()
    .regex(
      NAME_PATTERN,
      'must be 1 to 63 letters, digits, dots, dashes or underscores, ' +
        'beginning with a letter or digit',
    )
    .default(hostname),
  databaseUrl: z.string().min(1, 'must not be empty'),
  trust: z
    .string()
    .superRefine((pattern, context) => {
      const problem = trustProblem(pattern)
      if (problem) context.addIssue({ code: 'custom', message: problem })
    })
    .nullable()
    .default(null),
  allowExec: z.boolean().default(false),
  allowScripts: z.boolean().default(false),
  labels: z.record(z.string(), z.string()).nullable().default(null),
  maxAssignments: z.int().min(0).nullable().default(null),
  agentBaseUrl: baseUrl,
  gatewayBaseUrl: baseUrl,
  containment: z
    .enum(CONTAINMENT_LEVELS, { error: `must be one of ${CONTAINMENT_LEVELS.join(', ')}` })
    .nullable()
    .default(null),
  workloadUser: z.string().min(1, 'must not be empty').nullable().default(null),
  handOver: z.boolean().default(false),
  stateDir: z
    .string()
    .min(1, 'must not be empty')
    .default(() => hostStateFolder({ DATABASE_URL: 'given', ...process.env })),
  keepLogsMs: keptMs(DEFAULT_KEEP.logsMs),
  keepPackagesMs: keptMs(DEFAULT_KEEP.packagesMs),
  keepWorkMs: keptMs(DEFAULT_KEEP.workMs),
  leaveTimeoutMs: z.int().min(0).default(DEFAULT_LEAVE_TIMEOUT_MS),
})

function describe(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return `unknown: ${issue.keys.join(', ')}`
  const path = issue.path.join('.')
  return path === '' ? issue.message : `${path}: ${issue.message}`
}
