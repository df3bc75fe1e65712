/**
 * How a workload is contained, so that it dies with the warden. Each level includes the one before.
 *
 *   process-group   The workload leads a process group and a session.
 *   pdeathsig       The kernel kills the workload itself when the warden ends.
 *   pid-namespace   The end of its PID namespace kills everything in it.
 *
 * What each level guarantees, and what an ordinary user gets: README.md, "Containment".
 */
import { spawnSync } from 'node:child_process'
import { delimiter } from 'node:path'
import { initOf } from './namespace.js'
import { findProgram } from './start-errors.js'

export const CONTAINMENT_LEVELS = ['process-group', 'pdeathsig', 'pid-namespace'] as const
export type ContainmentLevel = (typeof CONTAINMENT_LEVELS)[number]

export interface Containment {
  level: ContainmentLevel
  /**
   * Put before the workload's argv; makes the namespace at the highest level; empty at the lowest.
   * Absolute paths, because the workload's PATH may differ.
   */
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

/** The highest level up to `most` that works on this host, determined by trying it. */
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
