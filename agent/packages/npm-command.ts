/**
 * One run of npm: without a shell, in a process tree that can be killed, with its failures turned
 * into one sentence. Its environment is built from nothing. It contains only what makes a registry
 * reachable: the user's npmrc (through HOME), proxies, certificates.
 */
import { randomUUID } from 'node:crypto'
import { closeSync, existsSync, openSync, realpathSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { newRunId } from '../../state-folder/process-files.js'
import { start } from '../warden/spawn.js'
import type { WorkloadUser } from '../workload-user.js'

export interface NpmOptions {
  /** npm's script or program. Default: npm beside this node, then on the PATH. */
  path?: string
  /** Overrides the registry of npmrc. */
  registry?: string
  /** The number of npm processes that may run at a time. */
  concurrency?: number
  timeoutMs?: number
  /** Runs the install scripts of packages: third-party code. */
  allowScripts?: boolean
  /** npm and what it runs are this user; null: the user of this process. */
  user?: WorkloadUser | null
}

/** The message is one sentence for the operator, with the way out. */
export class InstallError extends Error {
  override name = 'InstallError'
}

export interface NpmRun {
  /** Name and version of the package, for messages. */
  name: string
  version: string
  cwd: string
  signal: AbortSignal
  runIdPrefix: string
}

const DEFAULT_TIMEOUT_MS = 300_000
const QUOTE_LIMIT = 500
const INHERITED = new RegExp(
  '^(PATH|HOME|USER|TMPDIR|LANG|TZ|LC_.*|https?_proxy|no_proxy|all_proxy|' +
    'NODE_EXTRA_CA_CERTS|SSL_CERT_FILE|SSL_CERT_DIR)$',
  'i',
)

/** Resolves with npm's output. Rejects with InstallError, or with the signal's reason. */
export async function runNpm(
  args: readonly string[],
  run: NpmRun,
  options: NpmOptions,
): Promise<string> {
  run.signal.throwIfAborted()
  const outputFile = join(run.cwd, `.npm-output-${randomUUID()}`)
  const logFd = openSync(outputFile, 'wx', 0o600)
  const registry = options.registry === undefined ? [] : ['--registry', options.registry]
  // npm's own retries take minutes and hold the slot; the agent's back-off is visible and does not
  const flags = [
    '--loglevel=error',
    '--no-progress',
    '--no-update-notifier',
    '--no-color',
    '--no-global',
    '--no-dry-run',
    '--fetch-retries=1',
    '--fetch-retry-mintimeout=500',
    '--fetch-retry-maxtimeout=2000',
  ]
  const [verb, ...rest] = args
  let npm
  try {
    npm = start({
      argv: [
        ...(options.user?.become ?? []),
        ...npmArgv(options),
        verb!,
        ...flags,
        ...registry,
        ...rest,
      ],
      cwd: run.cwd,
      env: { ...npmEnv(process.env), ...(options.user && ownFolders(run.cwd, options.user)) },
      logFd,
      runId: newRunId(run.runIdPrefix),
    })
  } finally {
    closeSync(logFd)
  }
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const kill = (): void => npm.signalTree('SIGKILL')
  // not AbortSignal.any() with timeout(): Node 20 may collect both before they fire (nodejs#57736)
  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    kill()
  }, timeoutMs)
  run.signal.addEventListener('abort', kill, { once: true })
  try {
    const exit = await npm.exit
    // processes left by install scripts must not write to a folder that is given up
    if (npm.treeAlive()) kill()
    run.signal.throwIfAborted()
    if (timedOut)
      throw new InstallError(
        `npm did not finish with ${run.name}@${run.version} ` +
          `within ${Math.round(timeoutMs / 1000)} s`,
      )
    if (exit.error !== null) throw new InstallError(`npm cannot be run: ${exit.error}`)
    const output = await readFile(outputFile, 'utf8').catch(() => '')
    if (exit.code !== 0)
      throw new InstallError(sentence(run, output, exit.signal ?? `code ${exit.code}`))
    return output
  } finally {
    clearTimeout(timer)
    run.signal.removeEventListener('abort', kill)
    await rm(outputFile, { force: true })
  }
}

/** The agent's own may be closed to the user. Its npmrc is beside the package.json meanwhile. */
function ownFolders(folder: string, { name }: WorkloadUser): Record<string, string> {
  return { HOME: folder, USER: name, TMPDIR: folder, npm_config_cache: npmCacheBeside(folder) }
}

/** The cache that npm keeps for another user. */
export function npmCacheBeside(folder: string): string {
  return join(dirname(folder), '.npm-cache')
}

/** npm's script is run by this node, so that neither a shell nor the PATH chooses another one. */
function npmArgv(options: NpmOptions): string[] {
  const beside = dirname(process.execPath)
  const candidates =
    options.path !== undefined
      ? [options.path]
      : [
          join(beside, 'npm'),
          join(beside, '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
          ...(process.env['PATH'] ?? '')
            .split(delimiter)
            .filter((folder) => folder !== '')
            .map((folder) => join(folder, 'npm')),
        ]
  const found = candidates.find((path) => existsSync(path))
  if (found === undefined)
    throw new InstallError(
      'npm was not found, neither beside node nor on the PATH of the agent: ' +
        'install npm on this host',
    )
  const real = realpathSync(found)
  return real.endsWith('.js') ? [process.execPath, real] : [real]
}

export function npmEnv(
  agentEnv: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(agentEnv)) {
    if (value !== undefined && INHERITED.test(name)) env[name] = value
  }
  env['PATH'] = [dirname(process.execPath), env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin'].join(
    delimiter,
  )
  return env
}

function sentence({ name, version }: NpmRun, output: string, ending: string): string {
  const code = /npm (?:error|ERR!) code (\w+)/.exec(output)?.[1] ?? ''
  const spec = `${name}@${version}`
  switch (code) {
    case 'ETARGET':
    case 'E404':
      if (/No match found for version|No matching version/i.test(output))
        return `there is no ${spec}: \`npm view ${name} versions dist-tags\` lists what there is`
      return (
        `there is no package ${name} in the registry, or this host may not see it (${code}): ` +
        "check the name, and the registry in this user's npmrc"
      )
    case 'E401':
    case 'E403':
    case 'ENEEDAUTH':
      return (
        `the registry refuses ${spec} to this host (${code}): ` +
        "a token belongs in this user's npmrc"
      )
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'ECONNREFUSED':
    case 'ECONNRESET':
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'ERR_SOCKET_TIMEOUT':
    case 'EIDLETIMEOUT':
    case 'FETCH_ERROR':
      return (
        `the npm registry cannot be reached from this host (${code}) to install ${spec}: ` +
        "check network, proxy and the registry in this user's npmrc"
      )
    case 'EINTEGRITY':
      return (
        `what the registry sent for ${spec} is not what it announced (EINTEGRITY): ` +
        "clear npm's cache on this host, or ask the operator of the registry"
      )
    case 'ENOSPC':
      return `the disk is full, ${spec} cannot be installed (ENOSPC)`
    case 'EBADENGINE':
    case 'EBADPLATFORM':
      return (
        `${spec} does not support this host ` +
        `(${code}; node ${process.version}, ${process.platform} ${process.arch})`
      )
    default:
      return `npm failed to install ${spec} (${code || ending}): ${excerpt(output)}`
  }
}

/** npm's output, shortened: without prefixes and the path of its log, credentials hidden. */
function excerpt(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.replace(/^npm (error|ERR!)\s*/, '').trim())
    .filter((line) => line !== '' && !/complete log of this run|^code /.test(line))
  const text = lines.join(' ').replace(/\/\/[^\s/@]+@/g, '//***@')
  return text.length > QUOTE_LIMIT ? `${text.slice(0, QUOTE_LIMIT)}...` : text
}
