import { readFile } from 'node:fs/promises'
import { text as readAll } from 'node:stream/consumers'
import type { Command } from 'commander'
import { withDb } from '../database.js'
import { UsageError } from '../errors.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'

interface ApplyOptions extends DatabaseOptions, JsonOptions {
  dryRun?: boolean
}

export function addApply(program: Command): void {
  databaseCommand(program.command('apply'))
    .description('make the deployments match a file: inserts new names, changes known ones')
    .argument('<file>', "JSON or YAML; '-' reads stdin")
    .option('--dry-run', 'show what would change, and change nothing')
    .addOption(jsonOption('print [{id, name, outcome}] as JSON'))
    .addHelpText(
      'after',
      `
The file holds {"deployments": [...]}, an array, or one JSON object per line.
The fields are the columns of mooring.deployment. An omitted field gets its
default; only enabled and replicas stay as they are. Deployments that are not in
the file stay unchanged. The whole file is applied, or nothing.`,
    )
    .action(apply)
}

async function apply(file: string, options: ApplyOptions): Promise<void> {
  const { deploymentSpecs, sourceName } = await import('../targets/deployment-file.js')
  const specs = deploymentSpecs(await readDocument(file, sourceName(file)), file)
  await withDb(options, async (db) => {
    const rows = await db.apply(specs, { dryRun: options.dryRun === true })
    if (options.json) return print(json(rows))
    print(
      rows
        .map((row) => `${row.name} ${row.outcome}${options.dryRun ? ' (dry run)' : ''}`)
        .join('\n'),
    )
  })
}

const REASONS: Record<string, string> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
}

async function readDocument(file: string, source: string): Promise<unknown> {
  const text =
    file === '-'
      ? await readAll(process.stdin)
      : await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
          throw new UsageError(
            `${file} cannot be read: ${REASONS[error.code ?? ''] ?? error.message}`,
          )
        })
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
