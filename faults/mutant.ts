/**
 * A version of the product with one guard removed: a duplicate of dist/ with a text replaced, or a
 * function of the test database. The product itself has no switch for that. Each text must be there
 * exactly once; where the code has moved on, the control says so and proves nothing.
 */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Sql } from 'postgres'

export interface Mutation {
  /** Below dist/, or of the schema mooring. */
  in: { file: string } | { function: string }
  find: string
  put: string
}

export function mutate(text: string, { find, put, in: where }: Mutation): string {
  const times = text.split(find).length - 1
  if (times !== 1)
    throw new Error(
      `${JSON.stringify(find)} is ${times} times in ` +
        `${'file' in where ? where.file : `mooring.${where.function}`}, and should be ` +
        'there once: this control has to follow the code',
    )
  return text.replace(find, () => put)
}

/** Returns its cli/main.js. Modules and migrations are the original's. */
export function mutantProgram(
  program: string,
  folder: string,
  mutations: readonly Mutation[],
): string {
  const dist = resolve(dirname(program), '..')
  const root = dirname(dist)
  mkdirSync(folder, { recursive: true })
  cpSync(dist, join(folder, 'dist'), { recursive: true })
  for (const name of ['node_modules', 'migrations', 'package.json', 'sql'])
    symlinkSync(join(root, name), join(folder, name))
  for (const mutation of mutations) {
    if (!('file' in mutation.in)) continue
    const path = join(folder, 'dist', mutation.in.file)
    writeFileSync(path, mutate(readFileSync(path, 'utf8'), mutation))
  }
  return join(folder, 'dist', 'cli', 'main.js')
}

export async function mutateDatabase(sql: Sql, mutations: readonly Mutation[]): Promise<void> {
  const definitions = new Map<string, string>()
  for (const mutation of mutations) {
    if (!('function' in mutation.in)) continue
    const { function: name } = mutation.in
    definitions.set(
      name,
      mutate(definitions.get(name) ?? (await definitionOf(sql, name)), mutation),
    )
  }
  for (const definition of definitions.values()) await sql.unsafe(definition)
}

/** The function as it stands in the database, ready to be run again. */
export async function definitionOf(sql: Sql, name: string): Promise<string> {
  const found = await sql<{ definition: string }[]>`
    select pg_get_functiondef(p.oid) as definition
      from pg_proc p
      join pg_namespace n on n.oid = p.pronamespace
     where n.nspname in ('mooring', 'mooring_internal') and p.proname = ${name}`
  if (found.length !== 1) throw new Error(`there are ${found.length} functions mooring.${name}`)
  return found[0]!.definition
}
