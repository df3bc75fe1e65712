/**
 * The rig itself: its folder, what this machine and this version offer, and what dead rigs left
 * behind.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Circumstances } from './catalogue.js'
import { optionsOf } from './fleet.js'
import { isAlive, labName, sweepLabs, whyNoFilter, whyNoLab } from './lab.js'
import { killProcessesOf } from './processes.js'
import { fakeTimeLibrary, makeTemplate } from './server.js'
import { unmountBelow, whyNoSmallDisk } from './small-disk.js'
import type { Stage } from './run.js'

/** Weakest last. */
export const LEVELS = ['pid-namespace', 'pdeathsig', 'process-group'] as const

export interface Rig {
  stage: Omit<Stage, 'level'>
  circumstances: Circumstances
  /**
   * Those this version knows and this machine can give, best first; of a version without any: one,
   * undefined.
   */
  levels: readonly (string | undefined)[]
  close(): Promise<void>
}

const ROOT = [resolve(import.meta.dirname, '..'), resolve(import.meta.dirname, '..', '..')].find(
  (folder) => existsSync(join(folder, 'package.json')),
)!
const NAME = 'mooring-faults-'
const RIG = /^mooring-faults-([0-9a-z]+-[0-9a-z]+)$/

export async function createRig({
  network,
}: {
  network: 'auto' | 'namespaces' | 'proxy'
}): Promise<Rig> {
  await sweep()
  const folder = join(tmpdir(), `${NAME}${labName()}`)
  mkdirSync(folder, { recursive: true })
  chmodSync(folder, 0o755) // the server's user has to get in
  const program = join(ROOT, 'dist', 'cli', 'main.js')
  const options = optionsOf(program)
  const noLab = await whyNoLab()
  if (network === 'namespaces' && noLab) throw new Error(noLab)
  const namespaces = network !== 'proxy' && noLab === null
  const has = (option: string): boolean => options.includes(option)
  const template = await makeTemplate(join(folder, 'template'))
  return {
    stage: {
      template,
      folder,
      keepIn: join(ROOT, '.mooring', 'faults'),
      program,
      sources: join(ROOT, 'faults'),
      namespaces,
    },
    circumstances: {
      lab: namespaces ? null : (noLab ?? 'namespaces are switched off'),
      filter: namespaces ? await whyNoFilter() : (noLab ?? 'namespaces are switched off'),
      smallDisk: whyNoSmallDisk(),
      fakeClock: fakeTimeLibrary() ? null : 'libfaketime is not installed',
      warden: has('--containment') ? null : 'not available: this version has no warden',
      handover: has('--handover') ? null : 'not available: this version has no handover',
      moves: existsSync(join(ROOT, 'sql', 'functions', 'reassign.sql'))
        ? null
        : 'not available: this version moves nothing',
    },
    levels: has('--containment') ? LEVELS.slice(process.getuid?.() === 0 ? 0 : 2) : [undefined],
    async close() {
      await killProcessesOf(folder)
      unmountBelow(folder)
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

/**
 * A rig that was killed leaves processes, namespaces, mounts and its folder; its name says that it
 * is dead.
 */
async function sweep(): Promise<void> {
  await sweepLabs()
  for (const entry of readdirSync(tmpdir())) {
    const [, name] = RIG.exec(entry) ?? []
    if (name === undefined || isAlive(name)) continue
    const folder = join(tmpdir(), entry)
    await killProcessesOf(folder)
    unmountBelow(folder)
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

export const versionOf = (): string =>
  (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version
