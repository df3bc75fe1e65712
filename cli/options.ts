/** Options of several commands, and the parsers of their values. Bad values exit with 2. */
import { InvalidArgumentError, Option } from 'commander'
import type { Command } from 'commander'
import { UsageError } from './errors.js'
import {
  hostStateFolder,
  LOCAL_STATE_FOLDER,
  SYSTEM_STATE_FOLDER,
} from '../state-folder/default-folder.js'

export interface DatabaseOptions {
  stateDir: string
}
export interface JsonOptions {
  json?: boolean
}

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']

export function stateDirOption(): Option {
  return new Option('--state-dir <dir>', 'where Mooring keeps its files on this host')
    .env('MOORING_STATE_DIR')
    .default(LOCAL_STATE_FOLDER)
}

/** Of commands that read or write the files of agents. */
function hostStateDirOption(): Option {
  return stateDirOption().default(
    hostStateFolder(),
    `${LOCAL_STATE_FOLDER}; with DATABASE_URL ${SYSTEM_STATE_FOLDER} as root, ` +
      'else ~/.local/state/mooring',
  )
}

export function jsonOption(what = 'print JSON'): Option {
  return new Option('--json', what)
}

export function wideOption(more = ''): Option {
  return new Option('--wide', `${more}whatever the width of the terminal`)
}

export function logLevelOption(): Option {
  return new Option('--log-level <level>', 'how much is written to stderr, as JSON lines')
    .choices(LOG_LEVELS)
    .default('info')
}

/** For children of `mooring up`: when stdin ends, the parent has died. */
export function stopOnStdinEndOption(): Option {
  return new Option('--stop-on-stdin-end', 'stop gracefully when stdin ends').hideHelp()
}

/** Makes a command one that connects to the database. */
export function databaseCommand(
  command: Command,
  { agentFiles = false }: { agentFiles?: boolean } = {},
): Command {
  return command
    .addOption(agentFiles ? hostStateDirOption() : stateDirOption())
    .addHelpText(
      'after',
      '\nDatabase: DATABASE_URL, else the embedded server of the state directory.',
    )
}

/** The end of a help text: the same statement in psql, and an example. */
export const psqlAndExample = (statement: string, example: string): string =>
  `\nIn psql: ${statement}\nExample: ${example}`

export function yesOption(): Option {
  return new Option('--yes', 'do not ask; needed with -l and --all without a terminal')
}

export function maxMovesOption(): Option {
  return new Option(
    '--max-moves <n>',
    'at most so many under way at once (default: setting.drain_max_moves)',
  ).argParser(parsePositive)
}

export function parseCount(value: string): number {
  if (!/^\d{1,9}$/.test(value))
    throw new InvalidArgumentError('It must be a whole number, 0 or more, and 999999999 at most.')
  return Number(value)
}

export function collectLabel(
  value: string,
  labels: Record<string, string> = {},
): Record<string, string> {
  const at = value.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('A label is written key=value.')
  return { ...labels, [value.slice(0, at)]: value.slice(at + 1) }
}

/** key=value adds or changes a label, `key-` takes it away. */
export function collectLabelChange(
  value: string,
  labels: Record<string, string | null> = {},
): Record<string, string | null> {
  if (/^[^=]+-$/.test(value)) return { ...labels, [value.slice(0, -1)]: null }
  const at = value.indexOf('=')
  if (at < 1)
    throw new InvalidArgumentError('A label is written key=value, and key- takes it away.')
  return { ...labels, [value.slice(0, at)]: value.slice(at + 1) }
}

/** A value, or `none`, which takes away what is set. */
export const orNone =
  <T>(parse: (value: string) => T, none: T) =>
  (value: string): T =>
    value === 'none' ? none : parse(value)

const UNITS: Record<string, string> = { ms: 'ms', s: 's', m: 'min', min: 'min', h: 'h', d: 'd' }

/** '90s', '10m', '1h30m' -> an interval of Postgres. A bare number is seconds. */
export function parseDuration(value: string): string {
  const text = /^\d+$/.test(value) ? `${value}s` : value
  const parts = [...text.matchAll(/(\d{1,9}(?:\.\d{1,3})?)(ms|min|[smhd])/g)]
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== text)
    throw new InvalidArgumentError('It must be a duration, such as 90s, 10m or 1h30m.')
  return parts.map(([, amount, unit = 's']) => `${amount} ${UNITS[unit]}`).join(' ')
}

const UNIT_MS: Record<string, number> = {
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** The milliseconds of an interval that parseDuration returned. */
export function millisecondsOf(interval: string): number {
  return [...interval.matchAll(/([\d.]+) (\w+)/g)].reduce(
    (sum, [, amount, unit = 's']) => sum + Number(amount) * (UNIT_MS[unit] ?? Number.NaN),
    0,
  )
}

/**
 * A retention in milliseconds; null: for ever. A number without a unit is refused: 7 may mean days.
 */
export function parseKeep(value: string): number | null {
  if (value === 'forever') return null
  if (/^[1-9]\d*$/.test(value))
    throw new InvalidArgumentError(
      `Add the unit: ${value}d, ${value}h. 0 deletes as soon as possible, forever never.`,
    )
  return millisecondsOf(parseDuration(value))
}

/** The id of an assignment. It stays text, because it may exceed the largest exact number. */
export function parseAssignmentId(value: string): string {
  if (!/^\d{1,18}$/.test(value))
    throw new UsageError(
      `'${value}' is no id of an assignment`,
      '`mooring get assignments` and the view mooring.placement show the ids',
    )
  return value
}

export function parsePositive(value: string): number {
  const count = parseCount(value)
  if (count < 1) throw new InvalidArgumentError('It must be 1 or more.')
  return count
}
