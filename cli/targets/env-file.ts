/**
 * `${NAME}` in the texts of a deployment file, filled in from a file of variables. The document was
 * parsed before, so a value can add no field to it. No complaint holds a value.
 */
import { parseEnv } from 'node:util'
import { UsageError } from '../errors.js'

export type Variables = ReadonlyMap<string, string>

/** Lines of NAME=value, as Node reads them: comments, quotes, `export`. */
export const variablesOf = (text: string): Variables =>
  new Map(Object.entries(parseEnv(text)) as [string, string][])

// $${NAME} stands for a literal ${NAME}
const REFERENCE = /(\$?)\$\{([^}]*)(\}?)/g
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/

export const hasReference = (text: string): boolean => /\$\{[A-Za-z_][A-Za-z0-9_]*\}/.test(text)

/** The document with every reference filled in. Throws with all those that cannot be. */
export function filledIn(document: unknown, variables: Variables, source: string): unknown {
  const complaints: string[] = []
  const fillText = (value: string, path: string): string =>
    value.replace(REFERENCE, (text: string, escape: string, name: string, end: string) => {
      if (escape) return text.slice(1)
      const found = variables.get(name)
      if (end === '' || !VARIABLE.test(name))
        complaints.push(`${path}: \${...} holds no name of a variable; $\${ is a literal \${`)
      else if (found === undefined) complaints.push(`${path}: there is no ${name} in ${source}`)
      return found ?? ''
    })
  const fill = (value: unknown, path: string): unknown => {
    if (typeof value === 'string') return fillText(value, path)
    if (Array.isArray(value)) return value.map((part, i) => fill(part, `${path}[${i}]`))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([key, part]) => [key, fill(part, path ? `${path}.${key}` : key)]),
    )
  }
  const filled = fill(document, '')
  if (complaints.length > 0)
    throw new UsageError(`nothing was applied\n  ${complaints.join('\n  ')}`)
  return filled
}
