/**
 * How surely a workload dies with what supervises it: the means of the kernel, as far as this host has them.
 *
 *   process-group   every workload leads a process group and a session. Whoever is alive kills the group; what called setsid is looked for in /proc.
 *   pdeathsig       and the kernel kills the workload itself when the warden ends, however it ends. What it started is looked for.
 *   pid-namespace   and it lives in a PID namespace of its own, whose end kills everything in it, whatever it forked or called. Nothing to look for.
 *
 * At each level a dead-man timer (dead-man.ts) kills at the deadline when neither agent nor warden can.
 *
 * The wrappers are util-linux; what stands in such a namespace and how a workload gets in is cell.ts.
 * /proc is mounted anew in there where that is allowed, so that a program finds itself under its own pid.
 * An ordinary user gets his namespace through a user namespace: in there only his own uid exists, and nothing can become another user.
 */
import { spawnSync } from 'node:child_process'
import { delimiter } from 'node:path'
import { initOf } from './namespace.js'
import { findProgram } from './start-errors.js'

export const CONTAINMENT_LEVELS = ['process-group', 'pdeathsig', 'pid-namespace'] as const
export type ContainmentLevel = (typeof CONTAINMENT_LEVELS)[number]

export interface Containment {
  level: ContainmentLevel
  /** What is put before the workload's argv, or at the highest level makes a cell for it; empty at the lowest. Absolute paths: the workload's PATH is not ours. */
  wrapper: readonly string[]
}

const STANDARD_FOLDERS = [
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
]
const PROBE_TIMEOUT_MS = 5_000

/** The highest level up to `most` that works here, found by trying it. */
export function detectContainment(
  most: ContainmentLevel = 'pid-namespace',
  path = process.env['PATH'] ?? '',
): Containment {
  const find = (program: string): string | null =>
    findProgram(program, [path, ...STANDARD_FOLDERS].join(delimiter))
  const [setpriv, unshare, setsid, sh] = [
    find('setpriv'),
    find('unshare'),
    find('setsid'),
    find('sh'),
  ]
  const lowest: Containment = { level: 'process-group', wrapper: [] }
  if (most === 'process-group' || setpriv === null) return lowest
  const untilWarden = [setpriv, '--pdeathsig', 'KILL', '--']
  if (!works([...untilWarden, setpriv, '--version'])) return lowest
  if (most === 'pid-namespace' && unshare !== null && setsid !== null && sh !== null) {
    const own = ['--pid', '--fork', '--kill-child=KILL']
    const ownProc = ['--mount-proc', '--propagation', 'slave']
    const asUser = ['--user', '--map-current-user']
    for (const options of [
      [...own, ...ownProc],
      [...asUser, ...own, ...ownProc],
      own,
      [...asUser, ...own],
    ]) {
      const wrapper = [...untilWarden, unshare, ...options, '--', ...initOf(sh, setsid)]
      if (works(wrapper, '[ $PPID = 1 ]')) return { level: 'pid-namespace', wrapper }
    }
  }
  return { level: 'pdeathsig', wrapper: untilWarden }
}

function works(argv: readonly string[], input = ''): boolean {
  const [program, ...args] = argv
  return (
    spawnSync(program!, args, {
      input,
      stdio: ['pipe', 'ignore', 'ignore', 'ignore'],
      timeout: PROBE_TIMEOUT_MS,
      killSignal: 'SIGKILL',
      env: {},
    }).status === 0
  )
}
