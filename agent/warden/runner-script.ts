/**
 * The script by which a waiting shell (the runner of a namespace) becomes its workload.
 * Values in, text out; namespace.ts sends it.
 */
import type { Command } from './start-errors.js'

export interface WorkloadSpec extends Command {
  /** Value of MOORING_RUN. */
  runId: string
  /**
   * Output is appended to it; null discards output. It must exist and be a regular file: a shell's
   * redirection creates files, follows links, and waits for the reader of a pipe.
   */
  logFile: string | null
}

/**
 * Names that a shell reserves (dash, bash 5.2, busybox; the last three BASH_ ones: other versions),
 * and all that are no names to a shell. Each is listed in full, because what bypasses the shell is
 * an argument of env for a moment, and every user of the host may read command lines.
 */
const NOT_FOR_SHELL = new RegExp(
  `^(${[
    '_|OPTIND|LINENO|E?UID|PPID|S?RANDOM|SECONDS|EPOCHSECONDS|EPOCHREALTIME|HISTCMD|GROUPS',
    'FUNCNAME|DIRSTACK|PIPESTATUS|SHELLOPTS|SHLVL|BASHOPTS|BASHPID',
    'BASH_(ALIASES|ARGC|ARGV|CMDS|COMMAND|LINENO|SOURCE|SUBSHELL|VERSINFO)',
    'BASH_(REMATCH|MONOSECONDS|TRAPSIG)',
  ].join('|')})$|^(?![A-Za-z_]\\w*$)`,
)

/** bash counts SHLVL down in what it execs, and creates it where there is none. */
const WITHOUT_SHLVL_IN_BASH = '${BASH_VERSION:+/usr/bin/env -u SHLVL}'

/**
 * One line of sh. It prints `up` on descriptor 3 when only the exec of the program is left to do.
 * `cd` comes first, because the shell notes its folder in the environment. The exec closes
 * descriptor 3, and the shell's own stdin does not reach the workload.
 */
export function runnerScript({ argv, cwd, env, runId, logFile }: WorkloadSpec): string {
  const all = Object.entries({ ...env, MOORING_RUN: runId })
  const exported = all
    .filter(([name]) => !NOT_FOR_SHELL.test(name))
    .map(([name, value]) => `${name}=${quote(value)}`)
  const bypassing = all
    .filter(([name]) => NOT_FOR_SHELL.test(name))
    .map(([name, value]) => quote(`${name}=${value}`))
  const viaEnv = bypassing.length > 0 ? ['/usr/bin/env', ...bypassing] : []
  const program = [...viaEnv, ...argv.map(quote)].join(' ')
  const output = logFile === null ? '>/dev/null' : `>>${quote(logFile)}`
  const steps = [
    `cd -- ${quote(cwd)}`,
    'unset PWD OLDPWD SHLVL',
    `set -- ${WITHOUT_SHLVL_IN_BASH}`,
    `export ${exported.join(' ')}`,
    `exec </dev/null ${output} 2>&1`,
    'echo up >&3',
    `exec "$@" ${program} 3>&-`,
  ]
  return `${steps.join(' && ')}; exit\n`
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
