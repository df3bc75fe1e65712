// The direction of imports between folders, and no circles between files. Part of npm run lint.
import { posix } from 'node:path'

const PROGRAMS = ['agent', 'workers', 'cli']
const GROUND = ['postgres', 'state-folder', 'syntax', 'host']
/**
 * What each folder may import besides itself: programs stand on the ground, the ground on host/.
 */
const MAY_IMPORT = {
  ...Object.fromEntries(PROGRAMS.map((program) => [program, GROUND])),
  postgres: ['host'],
  'state-folder': ['host', 'syntax'],
  syntax: [],
  host: [],
}
/** The two commands that are a program: each imports the program it starts, and nothing else. */
const STARTS = { 'cli/commands/agent.ts': 'agent', 'cli/commands/worker.ts': 'workers' }
/**
 * Rooms that import less than their program: the warden must stay small, a command stands alone.
 */
const ROOMS = [
  {
    room: 'agent/warden/',
    mayImport: /^(agent\/warden|host|state-folder)\//,
    law: 'the warden imports only host/ and the formats of the state folder',
  },
  {
    room: 'cli/',
    except: /^cli\/main\.ts$/,
    mayImport: /^(?!cli\/commands\/)/,
    law: 'a command is imported by cli/main.ts only',
  },
]

/**
 * @param {Map<string, string>} texts path from the root -> text
 * @returns {{file: string, law: string}[]} one entry per import that breaks a law, and per circle
 */
export function brokenImportLaws(texts) {
  const imports = new Map(
    [...texts]
      .filter(([file]) => /^[\w-]+\/.*\.ts$/.test(file) && folderOf(file) in MAY_IMPORT)
      .map(([file, text]) => [file, importsOf(file, text)]),
  )
  const broken = []
  for (const [file, targets] of imports) {
    const from = folderOf(file)
    for (const target of targets) {
      const to = folderOf(target)
      const allowed = to === from || MAY_IMPORT[from].includes(to) || STARTS[file] === to
      if (!allowed) broken.push({ file, law: `${from}/ may not import ${target}` })
      for (const { room, except, mayImport, law } of ROOMS)
        if (file.startsWith(room) && !except?.test(file) && !mayImport.test(target))
          broken.push({ file, law: `${law}: ${target}` })
    }
  }
  for (const circle of circlesIn(imports))
    broken.push({ file: circle[0], law: `a circle of imports: ${circle.join(' -> ')}` })
  return broken
}

const folderOf = (file) => file.slice(0, file.indexOf('/'))

/** Static, dynamic and type-only imports of files of this repository. */
function importsOf(file, text) {
  const found = text.matchAll(/(?:from|import\(|import)\s*'(\.{1,2}\/[^']+)'/g)
  return [...found].map(([, path]) => posix.join(posix.dirname(file), path).replace(/\.js$/, '.ts'))
}

/** One circle for each group of files that import one another. */
function circlesIn(imports) {
  const circles = []
  const done = new Set()
  const walk = (file, path) => {
    const at = path.indexOf(file)
    if (at !== -1) return circles.push([...path.slice(at), file])
    if (done.has(file)) return
    for (const target of imports.get(file) ?? []) walk(target, [...path, file])
    done.add(file)
  }
  for (const file of imports.keys()) walk(file, [])
  return circles
}
