import { readFile } from 'node:fs/promises'
import { text as readAll } from 'node:stream/consumers'
import type { Command } from 'commander'
import { withDb } from '../database.js'
import { UsageError } from '../errors.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import type { AppliedRow } from '../queries/rows.js'
import type { Requirement } from '../queries/labels.js'
import type { DeploymentSpec } from '../targets/deployment-file.js'
import type { Difference } from '../targets/differences.js'
import { collectSelector, requirementText } from '../targets/selection.js'
import { print } from '../terminal/stdout.js'
import { printable } from '../terminal/text.js'

interface ApplyOptions extends DatabaseOptions, JsonOptions {
  file?: string
  envFile?: string
  dryRun?: boolean
  prune?: boolean
  selector?: Requirement[]
}

export function addApply(program: Command): void {
  databaseCommand(program.command('apply'))
    .description('make the deployments match a file: inserts new names, changes known ones')
    .argument('[file]', "JSON or YAML; '-' reads stdin")
    .option('-f, --file <file>', 'the same')
    .option('--env-file <file>', 'fill in ${NAME} from its lines NAME=value; $${ is a literal ${')
    .option('--dry-run', 'show what would change, and change nothing')
    .option('--prune', 'delete what has the labels of the file, or of -l, and is not in the file')
    .option('-l, --selector <labels>', 'with --prune: key=value, joined by commas', collectSelector)
    .addOption(
      jsonOption('print [{id, name, outcome, changes, restarts, stops}] as JSON, no value of env'),
    )
    .addHelpText(
      'after',
      `
The file holds {"deployments": [...]}, an array, or one JSON object per line.
The fields are the columns of mooring.deployment. An omitted field gets its
default; only enabled and replicas stay as they are. {"labels": {"app": "shop"},
"deployments": [...]} labels all of them; --prune deletes by such labels what is
no longer in the file. The whole file is applied, or nothing.`,
    )
    .action(apply)
}

async function apply(argument: string | undefined, options: ApplyOptions): Promise<void> {
  const { envFile, dryRun = false } = options
  const file = argument ?? options.file
  if (file === undefined || (argument !== undefined && options.file !== undefined))
    throw new UsageError('which file?', "`mooring apply fleet.yaml`; '-' reads stdin")
  const { deploymentSpecs, sourceName } = await import('../targets/deployment-file.js')
  const { filledIn, variablesOf } = await import('../targets/env-file.js')
  const written = await readDocument(file, sourceName(file))
  const document =
    envFile === undefined
      ? written
      : filledIn(written, variablesOf(await readText(envFile)), envFile)
  const specs = deploymentSpecs(document, file)
  if (envFile === undefined) await warnOfReferences(specs)
  const prune = await pruneBy(document, specs, options)
  await withDb(options, async (db) => {
    const rows = await db.apply(specs, { dryRun, prune })
    if (envFile !== undefined) withoutValues(rows)
    print(options.json ? json(rows) : rows.map((row) => appliedText(row, dryRun)).join('\n'))
  })
}

/** A value of env is expanded nowhere, so `${NAME}` in it is more often forgotten than meant. */
async function warnOfReferences(specs: readonly DeploymentSpec[]): Promise<void> {
  const { hasReference } = await import('../targets/env-file.js')
  for (const { name, env = {} } of specs)
    for (const [variable, value] of Object.entries(env))
      if (hasReference(value))
        process.stderr.write(
          `${name}: env.${variable} keeps its \${...} as it is written; --env-file fills it in\n`,
        )
}

/** The labels by which --prune finds what the file no longer names. */
async function pruneBy(
  document: unknown,
  specs: readonly DeploymentSpec[],
  { prune, selector }: ApplyOptions,
): Promise<Requirement[] | undefined> {
  if (!prune) {
    if (selector) throw new UsageError('-l is for --prune', 'add --prune, or leave -l out')
    return undefined
  }
  const { labelsOfFile } = await import('../targets/deployment-file.js')
  const labels =
    selector ??
    Object.entries(labelsOfFile(document) ?? {}).map(([key, value]): Requirement => ({
      key,
      op: 'is',
      value: String(value),
    }))
  if (labels.length === 0 || labels.some(({ op }) => op !== 'is'))
    throw new UsageError(
      'which deployments belong to the file?',
      'say it in the file, {"labels": {"app": "shop"}, "deployments": [...]}, ' +
        'or with -l app=shop; only key=value can say it',
    )
  if (specs.length === 0)
    throw new UsageError(
      'the file names no deployment, so --prune would delete all with these labels',
      `\`mooring delete deployment -l ${labels.map(requirementText).join(',')}\` does that`,
    )
  return labels
}

/** Variables may have been filled into these. Public columns are shown: they hold no secrets. */
function withoutValues(rows: readonly AppliedRow[]): void {
  for (const difference of rows.flatMap(({ changes }) => changes))
    if (difference.field === 'args' || difference.field === 'command') {
      delete difference.from
      delete difference.to
    }
}

function appliedText(row: AppliedRow, dryRun: boolean): string {
  const effects = [
    row.restarts > 0 ? `, restarts ${instances(row.restarts)}` : '',
    row.stops > 0 ? `, stops ${instances(row.stops)}` : '',
  ]
  return [
    `${row.name} ${row.outcome}${dryRun ? ' (dry run)' : ''}${effects.join('')}`,
    ...row.changes.map((change) => `  ${differenceText(change)}`),
  ].join('\n')
}

const instances = (count: number): string => `${count} instance${count === 1 ? '' : 's'}`

const differenceText = ({ field, change, from, to }: Difference): string =>
  printable(
    from === undefined && to === undefined
      ? `${field}: ${change}`
      : `${field}: ${valueText(from)} -> ${valueText(to)}`,
  )

const valueText = (value: unknown): string =>
  value === undefined ? 'none' : typeof value === 'string' ? value : JSON.stringify(value)

const REASONS: Record<string, string> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
}

const readText = (file: string): Promise<string> =>
  readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`${file} cannot be read: ${REASONS[error.code ?? ''] ?? error.message}`)
  })

async function readDocument(file: string, source: string): Promise<unknown> {
  const text = file === '-' ? await readAll(process.stdin) : await readText(file)
  if (text.trim() === '') throw new UsageError(`${source} is empty`)
  if (/\.ya?ml$/i.test(file)) return parseYaml(text, source)
  try {
    return JSON.parse(text)
  } catch (error) {
    const lines = linesOf(text)
    if (lines) return lines
    if (file === '-' && !/^\s*[[{]/.test(text)) return parseYaml(text, source)
    throw new UsageError(
      `${source} is no JSON: ${error instanceof Error ? error.message : String(error)}`,
      'a YAML file ends in .yaml or .yml',
    )
  }
}

/** One JSON object per line; null when it is something else. */
function linesOf(text: string): unknown[] | null {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
  try {
    return lines.length > 1 ? lines.map((line) => JSON.parse(line) as unknown) : null
  } catch {
    return null
  }
}

async function parseYaml(text: string, source: string): Promise<unknown> {
  const yaml = await import('yaml').catch(() => null)
  if (!yaml)
    throw new UsageError(
      `${source} is YAML, and the package yaml is not installed`,
      'write JSON, or `npm install yaml`',
    )
  const documents = yaml.parseAllDocuments(text)
  const list = Array.isArray(documents) ? documents : []
  const wrong = list.flatMap((document) => document.errors)
  if (wrong.length > 0)
    throw new UsageError(
      `${source} is no YAML: ${wrong.map((error) => error.message).join('\n  ')}`,
    )
  const values = list.map((document) => document.toJS() as unknown)
  return values.length === 1 ? values[0] : values
}
