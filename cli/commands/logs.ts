import { setTimeout as pause } from 'node:timers/promises'
import { InvalidArgumentError, Option } from 'commander'
import type { Command } from 'commander'
import { errorCode } from '../../postgres/errors.js'
import type { LogStart } from '../../state-folder/log-reader.js'
import { withDb } from '../database.js'
import type { Queries } from '../queries/queries.js'
import type { Requirement } from '../queries/labels.js'
import type { LoggedRow } from '../queries/rows.js'
import {
  CommandError,
  EXIT_FAILED,
  isConnectionProblem,
  problemOf,
  renderProblem,
  UsageError,
} from '../errors.js'
import { logFilesOf } from '../logs/files.js'
import { follow, isForGood } from '../logs/follower.js'
import { createLineWriter, type LineWriter } from '../logs/lines.js'
import { fileSource, openLog, type LogSource } from '../logs/sources.js'
import { deploymentId, noSuch } from '../targets/names.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { collectSelector, requirementText, SELECTOR_HELP } from '../targets/selection.js'

interface LogsOptions extends DatabaseOptions, JsonOptions {
  follow?: boolean
  tail: number
  prefix?: boolean
  node?: string
  deployment?: boolean
  selector?: Requirement[]
}

/** How often a follower reads the owner. */
const OWNER_READ_MS = 1_000
/** Each followed log keeps a request open. */
const MOST_LOGS = 50
/** In place of the deployment where the row of an assignment is gone. */
const GONE = ''

export function addLogs(program: Command): void {
  databaseCommand(program.command('logs'), { agentFiles: true })
    .description('show stdout and stderr of an assignment, or of all assignments of a deployment')
    .argument('[assignment|deployment]', 'id of an assignment, else name or id of a deployment')
    .option('-f, --follow', 'continue with new lines, through rotations and moves')
    .option('--tail <n>', "the last n lines, or 'all'", parseTail, 200)
    .option('-l, --selector <labels>', `${SELECTOR_HELP}; labels of deployments`, collectSelector)
    .option('-d, --deployment', 'read the number as the id of a deployment')
    .option('--node <node>', 'the log on this node (default: where it runs, or ran last)')
    .addOption(
      new Option('--prefix', 'begin each line with [assignment@node] (default: for several logs)'),
    )
    .addOption(new Option('--no-prefix', 'never print that prefix'))
    .addOption(jsonOption('print {assignment_id, node, line} as JSON, one object per line'))
    .addHelpText(
      'after',
      `
A log stays on its host. The agent there sends the requested part through
Postgres, 128 KiB at a time. The state directory holds the logs of this host.

  mooring logs web -f
  mooring logs 7 --tail all --node host-a > 7.log`,
    )
    .action(showLogs)
}

function parseTail(value: string): number {
  if (value === 'all') return Number.POSITIVE_INFINITY
  if (!/^\d{1,9}$/.test(value))
    throw new InvalidArgumentError("It must be a whole number or 'all'.")
  if (Number(value) > 1_000_000)
    throw new InvalidArgumentError("It must be 1000000 at most, or 'all'.")
  return Number(value)
}

async function showLogs(target: string | undefined, options: LogsOptions): Promise<void> {
  if ((target === undefined) === (options.selector === undefined)) {
    throw new UsageError(
      target === undefined ? 'which log?' : 'a name and --selector exclude each other',
      '`mooring logs 7`, `mooring logs web`, or `mooring logs --selector app=web`',
    )
  }
  let asked = false
  try {
    await withDb(options, async (db) => {
      asked = true
      const lookUp = () =>
        options.selector
          ? db.assignments({ labels: options.selector })
          : named(db, target!, options)
      const found = await lookUp()
      if (found.length === 0)
        throw new CommandError(
          `no deployment has the labels ${options.selector?.map(requirementText).join(',')}`,
          '`mooring get deployments --wide` shows the labels',
        )
      if (found.length > MOST_LOGS)
        throw new CommandError(
          `these are ${found.length} logs, and at most ${MOST_LOGS} are shown at once`,
          'name an assignment, or a narrower --selector',
        )
      await (options.follow ? followAll(db, found, lookUp, options) : showAll(db, found, options))
    })
  } catch (error) {
    // the files of this host are readable without a database
    const file =
      target !== undefined && /^\d+$/.test(target) && !options.deployment
        ? logFilesOf(options.stateDir, target).find(
            ({ node }) => options.node === undefined || node === options.node,
          )
        : undefined
    if (
      !file ||
      asked ||
      !(
        isConnectionProblem(error) ||
        (error instanceof CommandError && error.exitCode === EXIT_FAILED)
      )
    )
      throw error
    noteFile(error, file.node)
    await showFile(
      file.assignment_id,
      fileSource(options.stateDir, file.assignment_id, file.node),
      options,
    )
  }
}

function noteFile(error: unknown, node: string): void {
  process.stderr.write(`${problemOf(error).message}; this is the log that ${node} wrote here\n`)
}

async function named(db: Queries, target: string, options: LogsOptions): Promise<LoggedRow[]> {
  if (/^(id|name):/.test(target))
    return db.assignments({ deployments: [await deploymentId(db, target)] })
  const assignment = options.deployment ? null : await db.placementOfAssignment(target)
  if (assignment) return [assignment]
  const placements = await db.placementsOfDeployment(target)
  if (placements.length > 0) return placements
  // the row is gone, but its log may exist
  if (
    !options.deployment &&
    /^\d{1,18}$/.test(target) &&
    (options.node !== undefined || (await formerNodes(db, target)).length > 0)
  )
    return [{ assignment_id: target, deployment_id: GONE, node: null, run_state: null }]
  throw noSuch(
    options.deployment ? 'deployment' : 'assignment or deployment',
    target,
    await db.deploymentNames(),
    '`mooring get assignments`',
  )
}

/** All nodes that owned it, the latest first. */
async function formerNodes(db: Queries, assignmentId: string): Promise<string[]> {
  const owned = await db.history(assignmentId).catch((error: unknown) => {
    if (errorCode(error) === 'MR003') return []
    throw error
  })
  return [...new Set(owned.map(({ node }) => node).reverse())]
}

function writerOf(assignmentId: string, several: boolean, options: LogsOptions): LineWriter {
  return createLineWriter(assignmentId, {
    prefix: options.prefix ?? several,
    json: options.json === true,
    terminal: process.stdout.isTTY === true,
  })
}

const startOf = ({ tail }: LogsOptions): LogStart =>
  Number.isFinite(tail) ? { tailLines: tail } : { fromByte: 0 }

async function showAll(
  db: Queries,
  found: readonly LoggedRow[],
  options: LogsOptions,
): Promise<void> {
  for (const row of found) {
    try {
      await show(db, row, found.length > 1, options)
    } catch (error) {
      if (found.length === 1 || isForGood(error) || isConnectionProblem(error)) throw error
      process.stderr.write(renderProblem(problemOf(error), options.json === true))
      process.exitCode = EXIT_FAILED
    }
  }
}

async function show(
  db: Queries,
  row: LoggedRow,
  several: boolean,
  options: LogsOptions,
): Promise<void> {
  const { assignment_id: id, deployment_id, run_state: state } = row
  const node = options.node ?? row.node ?? (await formerNodes(db, id))[0]
  if (node === undefined)
    throw new CommandError(
      `assignment ${id} runs nowhere yet, and has no log`,
      `\`mooring explain ${deployment_id}\` shows why`,
    )
  const writer = writerOf(id, several, options)
  const copied = await copyLog(
    await openLog(db, options.stateDir, id, node),
    writer,
    startOf(options),
  ).catch(async (error: unknown) => {
    // a stopped agent leaves its files
    if (
      errorCode(error) !== 'MR006' ||
      (await db.sessionOf(node)) !== null ||
      !logFilesOf(options.stateDir, id).some((file) => file.node === node)
    )
      throw error
    noteFile(error, node)
    return copyLog(fileSource(options.stateDir, id, node), writer, startOf(options))
  })
  if (!copied) {
    const yet = row.node === node ? ` yet${state ? ` (state: ${state})` : ''}` : ''
    throw new CommandError(
      `assignment ${id} on ${node} has written nothing${yet}`,
      `\`mooring logs ${id} -f\` once it runs; \`mooring history ${id}\` shows where it ran`,
    )
  }
}

/** Copies what exists at this moment. False when there is no log. */
async function copyLog(source: LogSource, writer: LineWriter, start: LogStart): Promise<boolean> {
  let left: number | null = null
  for (let next = start; left !== 0;) {
    const slice = await source.read(next, 0)
    if (slice === null) return false
    left ??= slice.size - slice.start
    const bytes = slice.bytes.subarray(0, left)
    await writer.write(source.node, bytes)
    left = bytes.length === 0 ? 0 : left - bytes.length
    next = { after: slice.next }
  }
  await writer.end()
  return true
}

async function followAll(
  db: Queries,
  found: readonly LoggedRow[],
  lookUp: () => Promise<LoggedRow[]>,
  options: LogsOptions,
): Promise<void> {
  const known = new Map<string, LoggedRow>()
  const followers: Promise<void>[] = []
  let failed: { error: unknown } | null = null
  let left = 0
  const several = found.length > 1
  const note = (text: string): void => void process.stderr.write(`${text}\n`)

  async function begin(row: LoggedRow, start: LogStart): Promise<void> {
    const id = row.assignment_id
    const former = options.node === undefined ? await formerNodes(db, id) : []
    await follow({
      assignmentId: id,
      start,
      note,
      former,
      owner: () => options.node ?? known.get(id)?.node ?? null,
      ended: () => !known.has(id),
      open: (node) => openLog(db, options.stateDir, id, node),
      writer: writerOf(id, several, options),
    })
  }

  function followNew(rows: readonly LoggedRow[], start: LogStart): void {
    for (const id of known.keys())
      if (!rows.some((row) => row.assignment_id === id)) known.delete(id)
    for (const row of rows) {
      const isNew = !known.has(row.assignment_id)
      known.set(row.assignment_id, row)
      if (!isNew || left >= MOST_LOGS) continue
      left += 1
      followers.push(
        begin(row, start)
          .catch((error: unknown) => {
            failed ??= { error }
          })
          .finally(() => {
            left -= 1
          }),
      )
    }
  }

  for (followNew(found, startOf(options)); left > 0 && failed === null;) {
    await pause(OWNER_READ_MS)
    try {
      // the rows of a deleted deployment go once its processes have ended; then its logs end
      followNew(
        (await lookUp()).filter((row) => row.deployment_id !== GONE),
        { fromByte: 0 },
      )
    } catch (error) {
      if (isForGood(error)) throw error
      // else the database is absent, which each follower reports
      if (error instanceof CommandError) known.clear()
    }
  }
  if (failed !== null) throw (failed as { error: unknown }).error
  await Promise.all(followers)
}

async function showFile(
  assignmentId: string,
  source: LogSource,
  options: LogsOptions,
): Promise<void> {
  const writer = writerOf(assignmentId, false, options)
  if (!options.follow) return void (await copyLog(source, writer, startOf(options)))
  for (let start = startOf(options); ;) {
    const slice = await source.read(start, OWNER_READ_MS)
    if (slice === null) continue
    await writer.write(source.node, slice.bytes)
    start = { after: slice.next }
  }
}
