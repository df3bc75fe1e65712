import { mkdtemp } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import type { Test } from 'tap'
import type { OwnedAssignment, AssignmentReport } from '../../agent/rows.js'
import { readProcess } from '../../host/process-table.js'
import { runIdPrefix } from '../../state-folder/process-files.js'
import { createSupervisor } from '../../agent/supervisor/supervisor.js'
import type { Supervisor, SupervisorDependencies } from '../../agent/supervisor/supervisor.js'
import { createLocalRunner } from '../../agent/warden/local-runner.js'
import { removeFolder } from '../helpers/processes.js'
import { waitFor } from '../helpers/wait-for.js'
import { NO_SPREAD } from '../../host/backoff.js'

export const silent = pino({ level: 'silent' })

export async function temporaryFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mooring-test-'))
  t.teardown(() => removeFolder(folder))
  return folder
}

let lastId = 0

/** An assignment that runs `sh -c script`, unless told otherwise. */
export function owned(more: Partial<OwnedAssignment> & { script?: string } = {}): OwnedAssignment {
  const { script = 'sleep 1000', ...rest } = more
  return {
    assignment_id: String(++lastId),
    epoch: '1',
    deployment_id: '7',
    ordinal: 0,
    type: 'deployment',
    generation: '1',
    wanted: 'run',
    on_lost: 'stop',
    lease_ttl_ms: 12_000,
    stop_grace_ms: 10_000,
    package_name: null,
    package_version: null,
    command: 'sh',
    args: ['-c', script],
    env: {},
    ...rest,
  }
}

export function ownedPackage(
  name: string,
  version: string,
  more: Partial<OwnedAssignment> = {},
): OwnedAssignment {
  return owned({ package_name: name, package_version: version, command: null, args: [], ...more })
}

export interface Rig {
  supervisor: Supervisor
  stateDir: string
  reports: AssignmentReport[]
  last(assignment: OwnedAssignment): AssignmentReport | undefined
  states(assignment: OwnedAssignment): string[]
  /** Resolves with the first report (of those to come or already there) in that state. */
  reached(
    assignment: OwnedAssignment,
    state: AssignmentReport['state'],
    more?: Partial<AssignmentReport>,
  ): Promise<AssignmentReport>
  logText(assignment: OwnedAssignment): string
}

export async function rig(t: Test, more: Partial<SupervisorDependencies> = {}): Promise<Rig> {
  const stateDir = more.stateDir ?? (await temporaryFolder(t))
  const reports: AssignmentReport[] = []
  const supervisor = createSupervisor({
    node: 'host-a',
    owner: 'test.1.host-a',
    stateDir,
    user: null,
    runner: { ...createLocalRunner(), runIdPrefix: runIdPrefix(stateDir) },
    trusts: /./,
    allowExec: true,
    allowScripts: false,
    log: silent,
    report: (r) => reports.push(r),
    backoff: { firstMs: 40, spread: NO_SPREAD },
    ...more,
  })
  t.teardown(async () => {
    supervisor.killAll()
    await supervisor.stopAll()
  })
  const of = (assignment: OwnedAssignment): AssignmentReport[] =>
    reports.filter((r) => r.assignment_id === assignment.assignment_id)
  return {
    supervisor,
    stateDir,
    reports,
    last: (assignment) => of(assignment).at(-1),
    states: (assignment) => of(assignment).map((r) => r.state),
    reached: (assignment, state, fields = {}) =>
      waitFor(
        () =>
          of(assignment).find(
            (r) =>
              r.state === state &&
              Object.entries(fields).every(
                ([key, value]) => r[key as keyof AssignmentReport] === value,
              ),
          ),
        {
          label: `assignment ${assignment.assignment_id} is ${state} ${JSON.stringify(fields)}`,
          timeoutMs: 60_000,
          show: () => reports,
        },
      ),
    logText(assignment) {
      try {
        return readFileSync(join(stateDir, 'logs', `${assignment.assignment_id}.log`), 'utf8')
      } catch {
        return ''
      }
    },
  }
}

export function alive(pid: number): boolean {
  return readProcess(pid) !== null
}

/** The numbers a workload printed as `name=123`, e.g. the pids of what it started. */
export async function printed(r: Rig, assignment: OwnedAssignment, name: string): Promise<number> {
  const text = await waitFor(
    () => new RegExp(`^${name}=(\\d+)$`, 'm').exec(r.logText(assignment))?.[1],
    { label: `the workload printed ${name}=`, show: () => r.logText(assignment) },
  )
  return Number(text)
}
