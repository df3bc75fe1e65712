/** Output for programs. */
export function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

/** One line for each value, so that a reader can follow a growing output. */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}
