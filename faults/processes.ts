/**
 * Which processes belong to the rig: everything it starts works below its folder or has that folder
 * in its environment. The rig finds and ends its processes by that.
 */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { readProcess, type Process } from '../host/process-table.js'
import { signalProcess } from '../agent/warden/process-tree.js'

/** Working directory or environment names the folder. */
export function processesOf(folder: string): Process[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 1 && pid !== process.pid && belongs(pid, folder))
    .flatMap((pid) => readProcess(pid) ?? [])
}

function belongs(pid: number, folder: string): boolean {
  try {
    if (`${readlinkSync(`/proc/${pid}/cwd`)}/`.startsWith(`${folder}/`)) return true
  } catch {
    return false
  }
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(folder)
  } catch {
    return false
  }
}

/**
 * Workloads among the host's processes, by the pid the host knows them by: in a PID namespace of
 * their own they stamp another.
 */
export const isWorkload = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').includes('FAULTS_MANNERS=')
  } catch {
    return false
  }
}

/** SIGKILL until nothing is left: what is started in between is found by the next look. */
export async function killProcessesOf(folder: string, patienceMs = 5_000): Promise<void> {
  for (const deadline = performance.now() + patienceMs; ; await pause(10)) {
    const found = processesOf(folder)
    if (found.length === 0 || performance.now() > deadline) return
    for (const each of found) signalProcess(each, 'SIGKILL')
  }
}

/** False where there is no such process any more. */
export function signal(pid: number | undefined, name: NodeJS.Signals): boolean {
  if (pid === undefined || pid <= 1) return false
  try {
    return process.kill(pid, name)
  } catch {
    return false
  }
}
