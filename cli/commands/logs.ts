import { setTimeout as pause } from 'node:timers/promises'
import { InvalidArgumentError } from 'commander'
import type { Command } from 'commander'
import { followLog } from '../../agent/run-log.js'
import { withDb } from '../database.js'
import type { CliDb, PlacementRow } from '../db.js'
import { CommandError, isConnectionProblem } from '../errors.js'
import { localNodes, logFilesOf, tailOf } from '../log-files.js'
import type { LogFile } from '../log-files.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { jsonLine } from '../render.js'

interface LogsOptions extends DatabaseOptions, JsonOptions { follow?: boolean; tail: number; deployment?: boolean }

/** How often a follower looks whether the work has come to another agent of this host. */
const LOOK_AROUND_INTERVAL_MS = 2_000

export function addLogs(program: Command): void {
  databaseCommand(program.command('logs'))
    .description('show what an assignment, or every assignment of a deployment, wrote to stdout and stderr')
    .argument('<assignment|deployment>', 'id of an assignment, else name or id of a deployment')
    .option('-f, --follow', 'go on with what comes')
    .option('--tail <n>', "so many of the last lines, or 'all'", parseTail, 200)
    .option('-d, --deployment', 'the number is the id of a deployment')
    .addOption(jsonOption('print {assignment_id, node, line} as JSON, one object per line'))
    .addHelpText('after', '\nLogs stand on the host that runs the work: this reads the files of the agents in the state directory.')
    .action(showLogs)
}

function parseTail(value: string): number {
  if (value === 'all') return Number.POSITIVE_INFINITY
  if (!/^\d{1,9}$/.test(value)) throw new InvalidArgumentError("It must be a whole number or 'all'.")
  return Number(value)
}

async function showLogs(target: string, options: LogsOptions): Promise<void> {
  const assignments = await assignmentsOf(target, options)
  const prefixed = assignments.length > 1
  const followed = new Map<string, Promise<void>>()
  const never = new AbortController().signal
  const goOn = (file: LogFile, writer: LineWriter, start: number) => {
    followed.set(file.path, (async () => {
      for await (const bytes of followLog(file.path, start, never)) writer.write(bytes)
    })())
  }
  for (const placement of assignments) {
    const file = currentLog(placement, options.stateDir)
    if (!file) continue
    const writer = createLineWriter(file, prefixed, options.json === true)
    const { text, end } = await tailOf(file.path, options.tail)
    writer.write(text)
    if (options.follow) goOn(file, writer, end)
    else writer.end()
  }
  for (let first = true; options.follow; first = false) {
    for (const file of assignments.flatMap(({ assignment_id }) => logFilesOf(options.stateDir, assignment_id))) {
      // another agent of this host has it now, or had it: of the past only what it writes from now on
      if (!followed.has(file.path)) goOn(file, createLineWriter(file, prefixed, options.json === true), first ? file.size : 0)
    }
    await Promise.race([pause(LOOK_AROUND_INTERVAL_MS), ...followed.values()])
  }
}

type Target = Pick<PlacementRow, 'assignment_id' | 'node'>

async function assignmentsOf(target: string, options: LogsOptions): Promise<Target[]> {
  try {
    return await withDb(options, (db) => lookUp(db, target, options))
  } catch (error) {
    // the files are here whatever the database does
    const local = /^\d+$/.test(target) && !options.deployment && logFilesOf(options.stateDir, target).length > 0
    if (!local || !(isConnectionProblem(error) || (error instanceof CommandError && error.exitCode === 1))) throw error
    return [{ assignment_id: target, node: null }]
  }
}

async function lookUp(db: CliDb, target: string, options: LogsOptions): Promise<Target[]> {
  const assignment = options.deployment ? null : await db.placementOfAssignment(target)
  if (assignment) return [local(assignment, options.stateDir)]
  const placements = await db.placementsOfDeployment(target)
  if (placements.length === 0) {
    throw new CommandError(`there is no ${options.deployment ? '' : 'assignment or '}deployment ${target}`, '`mooring status` shows the fleet; `mooring psql` and the view mooring.placement show each')
  }
  const here = placements.filter((placement) => currentLog(placement, options.stateDir))
  if (here.length === 0) local(placements[0]!, options.stateDir)
  const elsewhere = placements.filter((placement) => !here.includes(placement) && placement.node !== null)
  if (elsewhere.length > 0) process.stderr.write(`not shown, on other hosts: ${elsewhere.map((p) => `${p.assignment_id} on ${p.node}`).join(', ')}\n`)
  return here
}

/** The placement, when its log is here; else an error that says where it is. */
function local(placement: PlacementRow, stateDir: string): PlacementRow {
  if (currentLog(placement, stateDir)) return placement
  const { assignment_id: id, node, run_state: state } = placement
  if (node === null) throw new CommandError(`assignment ${id} runs nowhere yet, and has no log here`, `\`mooring explain ${placement.deployment_id}\` says why`)
  if (!localNodes(stateDir).includes(node)) {
    throw new CommandError(`assignment ${id} runs on ${node}, and its log is on that host`, `type \`mooring logs ${id}\` there, with the --state-dir of that agent`)
  }
  throw new CommandError(`assignment ${id} on ${node} has written nothing yet${state ? ` (state: ${state})` : ''}`, `\`mooring logs ${id} -f\` once it runs; \`mooring explain ${placement.deployment_id}\` says more`)
}

/** The log of the owner when it is here; of work that runs nowhere, the last one written. */
function currentLog({ assignment_id, node }: Target, stateDir: string): LogFile | undefined {
  const files = logFilesOf(stateDir, assignment_id)
  return node === null ? files[0] : files.find((file) => file.node === node)
}

interface LineWriter { write(text: Buffer): void; end(): void }

/** Of one log the bytes as they are; of several, or as JSON, whole lines only, so that two never mix within one. */
function createLineWriter(file: LogFile, prefixed: boolean, asJson: boolean): LineWriter {
  let open = Buffer.alloc(0)
  const put = (line: string) => {
    process.stdout.write(asJson ? jsonLine({ assignment_id: file.assignment_id, node: file.node, line }) : `[${file.assignment_id}@${file.node}] ${line}\n`)
  }
  return {
    write(text) {
      if (!prefixed && !asJson) return void (text.length > 0 && process.stdout.write(text))
      const all = Buffer.concat([open, text])
      const end = all.lastIndexOf(10) + 1
      open = Buffer.from(all.subarray(end))
      if (end > 0) all.subarray(0, end - 1).toString('utf8').split('\n').forEach(put)
    },
    end() {
      if (open.length > 0) put(open.toString('utf8'))
    },
  }
}
