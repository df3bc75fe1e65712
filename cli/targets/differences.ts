/** How two versions of a row differ, column by column, and in objects key by key. Pure. */

/** `labels.team` is a key of a column. A variable of env is named, and its value is left out. */
export interface Difference {
  field: string
  change: 'added' | 'changed' | 'removed'
  from?: unknown
  to?: unknown
}

type Row = Readonly<Record<string, unknown>>

export function differences(before: Row, after: Row, columns: readonly string[]): Difference[] {
  return columns.flatMap((column) => {
    const [from, to] = [before[column], after[column]]
    if (isObject(from) && isObject(to)) return keysOf(column, from, to)
    return same(from, to) ? [] : [{ field: column, change: 'changed', from, to }]
  })
}

function keysOf(column: string, from: Row, to: Row): Difference[] {
  return [...new Set([...Object.keys(from), ...Object.keys(to)])].sort().flatMap((key) => {
    if (same(from[key], to[key])) return []
    const field = `${column}.${key}`
    const change = !(key in from) ? 'added' : key in to ? 'changed' : 'removed'
    if (column === 'env') return [{ field, change }]
    return [
      {
        field,
        change,
        ...(change === 'added' ? {} : { from: from[key] }),
        ...(change === 'removed' ? {} : { to: to[key] }),
      },
    ]
  })
}

const isObject = (value: unknown): value is Row =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

// jsonb has one order of keys
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)
