/** One value as text for people: colours, names, ages, times. */
import pc from 'picocolors'

type Colors = ReturnType<typeof pc.createColors>

/** Colours on a terminal only. A pipe gets no escape code, even with CI or FORCE_COLOR set. */
export function colorsFor(
  stream: { isTTY?: boolean },
  env: NodeJS.ProcessEnv = process.env,
): Colors {
  return pc.createColors(stream.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb')
}

export const colors = colorsFor(process.stdout)

/** The text of a value. Control characters are removed, because they would steer the terminal. */
export function cell(value: unknown): string {
  if (value === null || value === undefined) return '-'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (value instanceof Date) return value.toISOString()
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : value.toFixed(1)
  return printable(typeof value === 'object' ? JSON.stringify(value) : String(value))
}

export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]+/g, ' ')
}

/**
 * An interval in its two largest units: '00:00:01.2345' -> '1.2 s', '3 days 04:05:06' -> '3 d 4 h'.
 */
export function interval(value: unknown): string {
  if (value === null || value === undefined) return '-'
  const match = /^(?:(-?\d+) days? ?)?(?:(-?)(\d+):(\d+):(\d+(?:\.\d+)?))?$/.exec(String(value))
  if (!match) return cell(value)
  const [, days = '0', sign = '', hours = '0', minutes = '0', seconds = '0'] = match
  const total =
    Number(days) * 86_400 +
    (sign ? -1 : 1) * (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds))
  return age(total * 1000)
}

export function age(ms: number): string {
  if (ms < 0) return `-${age(-ms)}`
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${seconds % 60} s`
  if (seconds < 86_400)
    return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} m`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`
}

/** How long ago a time of the database is, by the clock of this machine. */
export function since(value: unknown): string {
  if (value === null || value === undefined) return '-'
  const ms = value instanceof Date ? value.getTime() : Date.parse(String(value))
  return Number.isNaN(ms) ? cell(value) : age(Math.max(0, Date.now() - ms))
}

/** 1 worker, 2 workers. */
export function counted(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`
}

export function clock(value: unknown): string {
  const date = value instanceof Date ? value : new Date(String(value))
  return Number.isNaN(date.getTime()) ? cell(value) : date.toTimeString().slice(0, 8)
}
