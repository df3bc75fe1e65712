/**
 * One run: a fleet is made, faults are injected and healed as planned, everything has to run
 * exactly once again, and the judge reads the stamps.
 */
import { appendFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { CATALOGUE, type Fault, type Heal } from './catalogue.js'
import { createFleet, NotSettled, withDeadline, type Fleet, type Manners } from './fleet.js'
import { judge, type Verdict, type Written } from './judge.js'
import { createLab, type Lab } from './lab.js'
import type { Plan, Step } from './plan.js'
import type { Template } from './server.js'
import { mountSmallDisk, unmountBelow, type SmallDisk } from './small-disk.js'
import { nowMs, readLives, suspendedMs } from './stamps.js'

export interface Stage {
  template: Template
  /** Of this rig; each run has a folder below it. */
  folder: string
  /** Where what is left of a failed run is kept. */
  keepIn: string
  program: string
  sources: string
  namespaces: boolean
  level: string | undefined
  /** Keep what is left of every run, not only of those that failed. */
  keepAll?: boolean
  /** Changes to the database before anything starts: what a negative control needs. */
  prepare?(fleet: Fleet): Promise<void>
}

export interface RunResult {
  seed: number
  level: string
  plan: Plan
  timeline: readonly {
    fault: string
    host: string
    injectedMs: number
    healedMs: number
    problem: string | null
  }[]
  verdict: Verdict
  /** From the last heal to everything running exactly once; null when that never came. */
  settledMs: number | null
  /** What kept it from settling, when it did not. */
  missing: string | null
  /** Longest gap of each assignment the faults could touch. */
  gaps: readonly number[]
  ok: boolean
  /** What went wrong with the run itself, not with the product: it proves nothing. */
  void: string | null
  kept: string | null
}

const HOST_NAMES = ['host-a', 'host-b', 'host-c']
const START_PATIENCE_MS = 30_000
/**
 * Lease and margin, a hold of the same length, a start and the delay of a busy machine. A lost
 * assignment is not found after any time.
 */
const SETTLE_PATIENCE_MS = 25_000
/** What looks settled may be about to fall: looked at again after a beat and a round. */
const SECOND_LOOK_MS = 1_000
const AGENT_DISK_MB = 8
const SERVER_DISK_MB = 160
let runs = 0

/**
 * The scene of a scripted or random story: built before, removed after, whatever happens in
 * between.
 */
export async function withFleet<T>(
  stage: Stage,
  needs: {
    hosts: number
    prepare?: ReadonlySet<string>
    diskOf?: number
    proxied?: ReadonlySet<string>
  },
  use: (fleet: Fleet, disks: Map<string, SmallDisk>, folder: string) => Promise<T>,
): Promise<T> {
  const folder = join(stage.folder, `run-${++runs}`)
  mkdirSync(folder, { recursive: true, mode: 0o755 })
  const prepare = needs.prepare ?? new Set<string>()
  const disks = new Map<string, SmallDisk>()
  let lab: Lab | null = null
  let fleet: Fleet | undefined
  const closers: (() => Promise<void>)[] = []
  try {
    lab = stage.namespaces ? await createLab() : null
    if (prepare.has('serverDisk'))
      disks.set('serverDisk', mountSmallDisk(join(folder, 'server'), SERVER_DISK_MB))
    if (prepare.has('agentDisk'))
      disks.set(
        'agentDisk',
        mountSmallDisk(
          join(folder, 'hosts', HOST_NAMES[needs.diskOf ?? 0]!, 'state'),
          AGENT_DISK_MB,
        ),
      )
    const server = await stage.template.copy(join(folder, 'server'), {
      ...(lab ? { listenOn: lab.address } : {}),
      fakeClock: prepare.has('fakeClock'),
    })
    closers.push(() => server.discard())
    const standby = prepare.has('standby')
      ? await stage.template.standbyOf(
          server,
          join(folder, 'standby'),
          lab ? { listenOn: lab.address } : {},
        )
      : undefined
    if (standby) closers.push(() => standby.discard())
    fleet = await createFleet({
      folder,
      program: stage.program,
      sources: stage.sources,
      server,
      ...(standby ? { standby } : {}),
      lab,
      proxied: (name) => prepare.has('proxied') && needs.proxied?.has(name) !== false,
      level: stage.level,
    })
    await stage.prepare?.(fleet)
    for (const name of HOST_NAMES.slice(0, needs.hosts)) (await fleet.addHost(name)).start()
    fleet.startWorker()
    return await use(fleet, disks, folder)
  } finally {
    await fleet?.stop()
    for (const close of closers) await close()
    await lab?.stop()
    unmountBelow(folder)
    // not in one go: the proxies of another run are served by the same event loop
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

export async function runPlan(
  stage: Stage,
  plan: Plan,
  announce: (text: string) => void = () => {},
): Promise<RunResult> {
  const faults = plan.steps.map((step) => faultNamed(step.fault))
  const prepare = new Set(faults.flatMap((fault) => fault.prepare ?? []))
  const diskOf = plan.steps[faults.findIndex((fault) => fault.prepare === 'agentDisk')]?.host
  const proxied = new Set(
    plan.steps
      .filter((_, nr) => faults[nr]!.prepare === 'proxied')
      .map(({ host }) => HOST_NAMES[host]!),
  )
  return await withFleet(
    stage,
    { hosts: plan.hosts, prepare, proxied, ...(diskOf === undefined ? {} : { diskOf }) },
    async (fleet, disks, folder) => {
      const sleptBefore = suspendedMs()
      await allRunning(fleet, plan)
      const fromMs = nowMs()
      announce('settled')
      const touched = new Set<string>()
      const placedBefore = await placedOn(fleet)
      const timeline = await Promise.all(
        plan.steps.map((step, nr) =>
          play(fleet, step, faults[nr]!, disks.get(faults[nr]!.prepare ?? ''), fromMs, touched),
        ),
      )
      announce('healed')
      let settledMs: number | null = null
      let missing: string | null = null
      try {
        settledMs = Math.round(await fleet.settle(SETTLE_PATIENCE_MS, 'after the faults'))
        await pause(SECOND_LOOK_MS)
        const again = await fleet.settle(SETTLE_PATIENCE_MS, 'at the second look')
        if (again > 100) settledMs += Math.round(SECOND_LOOK_MS + again)
      } catch (error) {
        if (!(error instanceof NotSettled)) throw error
        missing = error.message
        settledMs = null
      }
      const toMs = nowMs()
      const verdict = judge({
        lives: readLives(fleet.stamps),
        written: await writtenIn(fleet),
        assignments: fleet.assignments(),
        fromMs,
        toMs,
        robbed: await robbedOf(fleet, touched),
        // what lost its lease on a slow machine was ended by right
        unharmed:
          faults.every(({ harmless }) => harmless === true) &&
          fleet.hosts.every((host) => !host.log().includes('lease_ending'))
            ? fleet.assignments()
            : [],
      })
      const slept = Math.abs(suspendedMs() - sleptBefore)
      const ok = verdict.ok && settledMs !== null
      const concerned = faults.some(
        ({ at, harmless }) => harmless === true || ['server', 'session', 'worker'].includes(at),
      )
        ? fleet.assignments()
        : placedBefore.filter(({ node }) => touched.has(node ?? '')).map(({ id }) => id)
      const result: RunResult = {
        seed: plan.seed,
        level: stage.level ?? 'none',
        plan,
        timeline,
        verdict,
        settledMs,
        missing,
        ok,
        gaps: verdict.gaps
          .filter(({ assignment }) => concerned.includes(assignment))
          .map(({ ms }) => ms),
        void: slept > 50 ? `the machine slept for ${Math.round(slept)} ms` : null,
        kept: null,
      }
      return ok && stage.keepAll !== true
        ? result
        : { ...result, kept: await keep(stage, fleet, folder, String(plan.seed), result) }
    },
  )
}

export async function allRunning(
  fleet: Fleet,
  plan: { hosts: number; manners: readonly Manners[]; graceMs?: number },
): Promise<void> {
  for (const deadline = performance.now() + START_PATIENCE_MS; ; await pause(50)) {
    const [row] = await fleet.server.sql<
      { n: number }[]
    >`select count(*)::int as n from mooring.node_status s where s.health = 'HEALTHY'`
    if (row!.n === plan.hosts) break
    if (performance.now() > deadline)
      throw new Error(
        `${row!.n} of ${plan.hosts} agents came up; the first one ` +
          `said:\n${fleet.hosts[0]?.log().slice(-2_000)}`,
      )
  }
  await fleet.insert(plan.manners, plan.graceMs === undefined ? {} : { graceMs: plan.graceMs })
  await fleet.settle(START_PATIENCE_MS, 'before any fault')
}

export function faultNamed(name: string): Fault {
  const found = CATALOGUE.find((fault) => fault.name === name)
  if (!found) throw new Error(`no fault is named ${name}`)
  return found
}

async function play(
  fleet: Fleet,
  step: Step,
  fault: Fault,
  disk: SmallDisk | undefined,
  fromMs: number,
  touched: Set<string>,
) {
  const host = fleet.hosts[step.host]!
  if ((fault.at === 'host' || fault.at === 'network') && fault.harmless !== true)
    touched.add(host.name)
  await pause(step.atMs)
  const said = {
    fault: fault.name,
    host: host.name,
    injectedMs: Math.round(nowMs() - fromMs),
    healedMs: 0,
    problem: null as string | null,
  }
  let heal: Heal = () => {}
  try {
    heal = await fault.inject({ fleet, host, draw: step.draw, disk })
  } catch (error) {
    // the other fault of a pair may have been in the way: a server that is stopped terminates no
    // backend
    said.problem = (error as Error).message
  }
  if (!fault.momentary) await pause(step.lastsMs)
  try {
    await heal()
  } catch (error) {
    said.problem = `not healed: ${(error as Error).message}`
  }
  return { ...said, healedMs: Math.round(nowMs() - fromMs) }
}

async function placedOn(fleet: Fleet): Promise<{ id: string; node: string | null }[]> {
  return await fleet.server.sql<
    { id: string; node: string | null }[]
  >`select p.assignment_id as id, p.node from mooring.placement p`
}

export async function writtenIn(fleet: Fleet): Promise<Written[]> {
  const rows = await answered(
    fleet,
    (sql) =>
      sql<
        { assignment_id: string; epoch: string; node: string }[]
      >`select w.assignment_id, w.epoch, w.node from faults.written w order by w.id`,
  )
  return rows.map(({ assignment_id, epoch, node }) => ({
    assignment: assignment_id,
    epoch: BigInt(epoch),
    node,
  }))
}

export async function robbedOf(fleet: Fleet, touched: ReadonlySet<string>): Promise<string[]> {
  const rows = await answered(
    fleet,
    (sql) =>
      sql<{ node: string }[]>`select distinct e.node from mooring.event e where e.kind = 'reaped'`,
  )
  return rows.map(({ node }) => node).filter((node) => !touched.has(node))
}

/** The first call after an outage may still meet a connection that is gone. */
async function answered<T>(
  fleet: Fleet,
  ask: (sql: Fleet['server']['sql']) => PromiseLike<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await withDeadline(ask(fleet.primary().sql), 3_000)
    } catch (error) {
      if (tries === 5) throw error
      await pause(200)
    }
  }
}

/** Stamps, logs, events and the verdict: what is needed to understand it. */
export async function keep(
  stage: Stage,
  fleet: Fleet,
  folder: string,
  name: string,
  said: object,
): Promise<string> {
  const to = join(stage.keepIn, `${new Date().toISOString().replaceAll(/[:.]/g, '-')}-${name}`)
  mkdirSync(to, { recursive: true })
  await cp(fleet.stamps, join(to, 'stamps'), {
    recursive: true,
    filter: (path) => !/url\.[^/]*$/.test(path),
  })
  for (const host of fleet.hosts) appendFileSync(join(to, `${host.name}.log`), host.log())
  for (const log of ['worker.log', 'server/data/server.log', 'standby/data/server.log'])
    if (existsSync(join(folder, log)))
      await cp(join(folder, log), join(to, log.replaceAll('/', '-')))
  writeFileSync(join(to, 'run.json'), toJson(said))
  for (const [name, query] of [
    ['events', 'select * from mooring.event order by id'],
    ['placement', 'select * from mooring.placement'],
    ['nodes', 'select * from mooring.node_status'],
    ['fleet', 'select * from mooring.fleet'],
  ] as const) {
    const rows = await answered(fleet, (sql) => sql.unsafe(query)).catch((error: unknown) =>
      String(error),
    )
    writeFileSync(join(to, `${name}.json`), toJson(rows))
  }
  return to
}

export const toJson = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? String(each) : each), 1)
