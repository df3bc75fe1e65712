import { join } from 'node:path'
import { pino, type Logger } from 'pino'
import type { Sql } from 'postgres'
import type { Test } from 'tap'
import { createAgent, type Agent } from '../../agent/agent.js'
import { parseAgentConfig, type AgentConfigInput } from '../../agent/config.js'
import { deployment, type DeploymentSpec } from '../helpers/factories.js'
import { tempDir, WARDEN_PROGRAM } from '../helpers/processes.js'
import { PATIENCE_MS, waitFor } from '../helpers/wait-for.js'

/** Every line an agent logged, to be searched by event. */
export interface HeardLog {
  log: Logger
  events(name: string): Record<string, unknown>[]
  text(): string
}

export function heardLog(): HeardLog {
  const lines: string[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
  return {
    log,
    events: (name) =>
      lines
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .filter((line) => line['event'] === name),
    text: () => lines.join(''),
  }
}

/**
 * Scaled down: a beat each 200 ms, and SIGTERM 6 s after the last beat. A test can wait for the end
 * of such a lease, and a machine that stands still for a moment does not lose it.
 */
export async function scaleDown(sql: Sql): Promise<void> {
  await sql`
    update mooring.setting
    set beat_interval = '200 ms', lease_ttl = '10 s', reap_margin = '500 ms',
    round_interval = '200 ms'`
}

export interface TestAgent extends HeardLog {
  agent: Agent
  stateDir: string
}

/** An agent in this process that runs custom commands. Not started; killed with the test. */
export function testAgent(
  t: Test,
  databaseUrl: string,
  more: Partial<AgentConfigInput> = {},
): TestAgent {
  const stateDir = more.stateDir ?? tempDir(t)
  const heard = heardLog()
  const agent = createAgent(
    parseAgentConfig({
      name: 'host-a',
      databaseUrl,
      allowExec: true,
      workloadUser: process.getuid?.() === 0 ? 'root' : null,
      stateDir,
      leaveTimeoutMs: 30_000,
      ...more,
    }),
    { log: heard.log, wardenProgram: WARDEN_PROGRAM },
  )
  t.teardown(async () => {
    if (!t.passing()) t.comment(heard.text().slice(-6_000))
    agent.kill()
    await agent.done.catch(() => {})
  })
  return { agent, stateDir, ...heard }
}

/** A deployment that sleeps, and ends at SIGTERM. */
export function sleeper(sql: Sql, more: DeploymentSpec = {}): Promise<string> {
  return deployment(sql, { command: 'sleep', args: ['1000'], ...more })
}

export interface PlacedRow {
  assignment_id: string
  deployment_id: string
  node: string | null
  epoch: string
  wanted: string
  run_state: string | null
  pid: number | null
  restarts: number | null
  last_error: string | null
}

export async function placements(sql: Sql): Promise<PlacedRow[]> {
  return await sql<PlacedRow[]>`
    select p.assignment_id, p.deployment_id, p.node, p.epoch, p.wanted, p.run_state, p.pid,
    p.restarts, p.last_error from mooring.placement p order by p.assignment_id`
}

/** Waits until n assignments run; answers their rows. */
export function running(sql: Sql, n: number, timeoutMs = PATIENCE_MS): Promise<PlacedRow[]> {
  return waitFor(
    async () => {
      const rows = (await placements(sql)).filter((row) => row.run_state === 'running')
      return rows.length === n ? rows : null
    },
    { label: `${n} assignments run`, timeoutMs, show: () => placements(sql) },
  )
}

/** The pid of the process that an agent's process file names, or null. */
export function alive(pid: number | null): boolean {
  if (pid === null) return false
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

export const runsFolder = (stateDir: string, node = 'host-a'): string =>
  join(stateDir, 'agents', node, 'runs')
