/**
 * Negative controls: a guard is switched off, the fault that needs it happens, and the judge has to
 * see it. The same story with the guard in place has to be in order, or it would prove nothing
 * about the guard.
 */
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import {
  copyOfState,
  depose,
  loseReceiver,
  until,
  wrongUrl,
  type Circumstances,
} from './catalogue.js'
import type { Fleet, Manners } from './fleet.js'
import { judge, type Verdict } from './judge.js'
import { mutantProgram, mutateDatabase, type Mutation } from './mutant.js'
import { isWorkload, signal } from './processes.js'
import type { Rig } from './rig.js'
import { allRunning, keep, writtenIn, robbedOf, withFleet } from './run.js'
import { nowMs, readLives } from './stamps.js'

export interface Control {
  name: string
  /** The guard that is missing, as a sentence. */
  what: string
  guard: readonly Mutation[]
  /** In both runs: what makes the window wide enough to be hit. */
  always?: readonly Mutation[]
  settings?: string
  prepare?: 'fakeClock' | 'proxied' | 'standby'
  needs?: keyof Circumstances
  hosts?: number
  manners?: readonly Manners[]
  graceMs?: number
  expects: 'overlap' | 'robbed' | 'late write' | 'epoch back' | 'killed'
  inShort?: true
  story(fleet: Fleet): Promise<void>
}

export interface ControlResult {
  name: string
  ok: boolean
  withGuard: string
  without: string
  sentence: string
  skipped: string | null
}

const CUT_MS = 5_000
const lease = (find: string, put: string): Mutation => ({
  in: { file: 'agent/session/lease.js' },
  find,
  put,
})

/**
 * A beat may take half a lease: the network and locks of these stories are slower than a
 * scaled-down fleet is prepared for.
 */
const PATIENT_BEAT: Mutation = {
  in: { file: 'agent/session/heartbeat.js' },
  find: 'leaseTtlMs / 6',
  put: 'leaseTtlMs / 2',
}

const NO_DEADLINE: readonly Mutation[] = [
  ['if (nowMs >= endAtMs && !entry.killed)', 'if (false)'],
  [`sendToAgent({ t: 'fenced', runId: entry.process.runId })`, ''],
  ['order(() => entry.process.fence(Math.max(0, endAtMs - clock())))', ''],
].map(([find, put]) => ({ in: { file: 'agent/warden/warden.js' }, find: find!, put: put! }))
const NO_HOLD: readonly Mutation[] = [
  { in: { function: 'notice_outage' }, find: 'if noticed is null then', put: 'if true then' },
  {
    in: { function: 'notice_clock_step' },
    find: 'if abs(extract(epoch from step))',
    put: 'if false and abs(extract(epoch from step))',
  },
]
const NO_DEAD_MAN: readonly Mutation[] = [
  {
    in: { file: 'agent/warden/dead-man.js' },
    find: 'doomed.length > 0 ? timerFor(doomed, nowMs) : null',
    put: 'null',
  },
]

async function frozen(pids: readonly (number | undefined)[], ms = CUT_MS): Promise<void> {
  for (const pid of pids) signal(pid, 'SIGSTOP')
  await pause(ms)
  for (const pid of pids) signal(pid, 'SIGCONT')
}

/** Of the hosts of that URL only the one at that port. */
function onlyAt(url: string, port: number): string {
  const [, login, places, rest] = /^(.*@)([^/]*)(\/.*)$/.exec(url)!
  return login! + places!.split(',').find((place) => place.endsWith(`:${port}`))! + rest!
}

async function cutFor(fleet: Fleet, ms = CUT_MS): Promise<void> {
  const [host] = fleet.hosts
  await host!.network.cut()
  await pause(ms)
  await host!.network.heal()
}

export const CONTROLS: readonly Control[] = [
  {
    name: 'no-fence',
    what:
      'no program stops anything when a lease ends: not the agent, not the warden, ' +
      'not the dead-man timer',
    expects: 'overlap',
    inShort: true,
    guard: [
      lease('const alive = fence(ids, graceMs)', 'const alive = 0'),
      ...NO_DEADLINE,
      ...NO_DEAD_MAN,
    ],
    story: cutFor,
  },
  {
    name: 'agent-alone',
    what: 'the agent alone keeps the deadlines, and is stopped',
    expects: 'overlap',
    guard: [...NO_DEADLINE, ...NO_DEAD_MAN],
    story: (fleet) => frozen([fleet.hosts[0]!.agentPid()]),
  },
  {
    name: 'no-dead-man',
    what: 'no dead-man timer: agent and warden are both stopped',
    expects: 'overlap',
    guard: NO_DEAD_MAN,
    story: (fleet) => frozen([fleet.hosts[0]!.wardenPid(), fleet.hosts[0]!.agentPid()]),
  },
  {
    name: 'longer-lease',
    what: 'the agent takes its lease for twice as long as the reaper',
    expects: 'overlap',
    guard: [lease('const ttl = row.lease_ttl_ms', 'const ttl = 2 * row.lease_ttl_ms')],
    story: cutFor,
  },
  {
    name: 'late-kill',
    what:
      'no margin: the reaper waits for none, and the agent begins to stop when the ' +
      'lease has ended',
    expects: 'overlap',
    settings: `lease_ttl = '4 s'`,
    manners: ['stubborn', 'stubborn', 'stubborn'],
    graceMs: 3_000,
    guard: [
      lease(
        'return { termAtMs: endAtMs - Math.min(row.stop_grace_ms, ttl / 3), endAtMs }',
        'return { termAtMs: endAtMs, endAtMs: endAtMs + Math.min(row.stop_grace_ms, ttl / 3) }',
      ),
      {
        in: { function: 'reap' },
        find: 'select s.reap_margin into margin from mooring.setting s;',
        put: `margin := interval '0';`,
      },
    ],
    story: (fleet) => cutFor(fleet, 7_000),
  },
  {
    name: 'counted-from-answer',
    what: 'the lease is counted from the answer of a beat instead of its start',
    expects: 'overlap',
    prepare: 'proxied',
    settings: `lease_ttl = '4 s', beat_interval = '1 s', reap_margin = '50 ms'`,
    always: [PATIENT_BEAT],
    guard: [
      {
        in: { file: 'agent/session/heartbeat.js' },
        find: 'options.onBeat({ tMs, answer',
        put: 'options.onBeat({ tMs: clock(), answer',
      },
    ],
    async story(fleet) {
      const { network, name } = fleet.hosts[0]!
      network.delay({ there: 0, back: 1_500 })
      await pause(3_000)
      const lastBeat = async (): Promise<string> =>
        (
          await fleet.server.sql<
            { at: string }[]
          >`select h.beat_at::text as at from mooring.heartbeat h where h.node = ${name}`
        )[0]!.at
      const before = await lastBeat()
      await until(async () => (await lastBeat()) !== before)
      // its answer is under way, and is the last one
      await network.mute()
      await pause(7_500)
      await network.heal()
    },
  },
  {
    name: 'no-hold',
    what: 'no hold: the clock of the server jumps, and the next reap frees everything',
    expects: 'overlap',
    needs: 'fakeClock',
    prepare: 'fakeClock',
    manners: ['stubborn', 'stubborn', 'stubborn', 'stubborn'],
    graceMs: 6_000,
    inShort: true,
    // what is reaped lives on for six of these, and starts elsewhere meanwhile, even on an
    // unhurried machine
    settings: `lease_ttl = '8 s', beat_interval = '600 ms'`,
    guard: NO_HOLD,
    async story({ server, hosts: [first] }) {
      // The order in which it does harm, fixed by the story: the jump, a reap before any beat by
      // the new clock, a beat of one host, and a round that gives that host everything. If the
      // others were back by then too, all work would return to where it ran.
      await server.sql.begin(async (tx) => {
        await tx`select mooring_internal.lock_placement()`
        await tx`select from mooring.heartbeat for update`
        server.setClock(60)
        await tx`select count(*) from mooring.reap()`
        await tx`
          update mooring.heartbeat set beat_at = clock_timestamp() where node = ${first!.name}`
        await tx`select count(*) from mooring.claim()`
      })
      await pause(5_000)
    },
  },
  {
    name: 'no-hold-away',
    what:
      'no hold: Postgres was away for longer than the lease, and live agents are ' +
      'reaped before they beat',
    expects: 'robbed',
    prepare: 'proxied',
    guard: NO_HOLD,
    async story(fleet) {
      await fleet.server.stop('fast')
      // a slow network, so that the worker is the first that comes back
      for (const { network } of fleet.hosts) network.delay({ there: 150, back: 150 })
      await pause(4_000)
      await fleet.server.start()
      await pause(2_500)
    },
  },
  {
    name: 'old-report',
    what: 'a report of an old epoch frees what runs under a new one',
    expects: 'overlap',
    hosts: 2,
    manners: ['stubborn'],
    graceMs: 3_000,
    guard: [
      {
        in: { function: 'report' },
        find: 'on a.id = h.assignment_id and a.epoch = h.epoch and a.node_id = own_id',
        put: 'on a.id = h.assignment_id and a.node_id = own_id',
      },
      {
        in: { function: 'release' },
        find: 'on a.id = o.id and a.epoch = o.epoch',
        put: 'on a.id = o.id',
      },
    ],
    async story({ server: { sql }, settle }) {
      const [row] = await sql<
        { node: string; epoch: string; id: string }[]
      >`select p.node, p.epoch, p.assignment_id as id from mooring.placement p`
      const { node, epoch, id } = row!
      const other = node === 'host-a' ? 'host-b' : 'host-a'
      // stopped and started on the same node: there is an old epoch now
      await sql`update mooring.deployment set pinned_node = ${node}, enabled = false`
      await until(
        async () =>
          (await sql`select from mooring.assignment a where a.node_id is null`).length === 1,
      )
      await sql`update mooring.deployment set enabled = true`
      await settle(15_000, 'started again')
      await sql`update mooring.deployment set pinned_node = ${other}, enabled = false`
      // while it takes its time to stop, the network delivers a report of its earlier life
      const report = [
        {
          assignment_id: id,
          epoch,
          generation: 0,
          state: 'stopped',
          pid: null,
          restarts: 0,
          exit_code: 0,
          exit_signal: null,
          error: null,
          next_start_in_ms: null,
        },
      ]
      await sql`
        select r.*
          from mooring.report(
            ${node}, (select h.session from mooring.heartbeat h where h.node = ${node}),
            ${sql.json(report)}
          ) r`
      await sql`update mooring.deployment set enabled = true`
      await pause(4_500)
    },
  },
  {
    name: 'no-timeline',
    what:
      'epochs without the timeline: a promoted standby gives the epochs of lost ' +
      'claims to another node',
    expects: 'epoch back',
    prepare: 'standby',
    hosts: 2,
    guard: [
      {
        in: { function: 'next_epoch' },
        find: 'mooring_internal.timeline() - 1',
        put: '0',
      },
    ],
    async story(fleet) {
      const { server, standby, hosts, moved, settle } = fleet
      const [first, second] = hosts
      const pin = (sql: typeof server.sql, node: string) =>
        sql`update mooring.deployment set pinned_node = ${node}`
      await pin(server.sql, 'nobody')
      // released, and the standby knows it
      await until(
        async () =>
          (await standby!.sql`select from mooring.assignment a where a.node_id is not null`)
            .length === 0,
      )
      await loseReceiver(fleet)
      await pin(server.sql, first!.name)
      await settle(15_000, 'claimed behind the back of the standby')
      await server.stop('immediate')
      await standby!.promote()
      moved()
      await pin(standby!.sql, second!.name)
      await settle(20_000, 'claimed again')
    },
  },
  {
    name: 'twin-names',
    what: 'a second agent of the same name is let in while the first one lives',
    expects: 'overlap',
    guard: [
      {
        in: { function: 'register_node' },
        find: `if free_in > interval '0' then`,
        put: 'if false then',
      },
    ],
    async story(fleet) {
      ;(await fleet.addHost(fleet.hosts[0]!.name, 'another-machine')).start()
      await pause(4_500)
    },
  },
  {
    name: 'believes-copied-folder',
    what: 'an agent ends what its folder names before the database has let it in',
    expects: 'killed',
    hosts: 1,
    guard: [
      {
        in: { file: 'agent/agent.js' },
        find: 'const startedMs = performance.now();',
        put:
          'const startedMs = performance.now();' +
          ' await killLeftovers(folder, log, { keep: warden.runIdPrefix });',
      },
      {
        in: { file: 'agent/warden/leftovers.js' },
        find: '.filter((file) => file.run_id.startsWith(prefix))',
        put: '',
      },
    ],
    async story({ hosts: [host] }) {
      const rival = host!.rival({ state: copyOfState(host!) })
      await pause(2_500)
      await rival.end()
    },
  },
  {
    name: 'handover-unproven',
    what: 'an agent is asked to hand over to one that the database does not let in',
    expects: 'killed',
    hosts: 1,
    guard: [{ in: { file: 'agent/folder-lock.js' }, find: 'await admitted();', put: '' }],
    async story({ hosts: [host] }) {
      const rival = host!.rival({ url: wrongUrl(host!, 0), handOver: true })
      await pause(4_000)
      await rival.end()
    },
  },
  {
    name: 'lease-over-remembered',
    what: 'what ran on a host starts there again in a hold, although its lease was over',
    expects: 'overlap',
    prepare: 'standby',
    hosts: 2,
    manners: ['stubborn', 'stubborn'],
    // the second host hears of the promotion within its lease, and takes its time to stop
    settings: `lease_ttl = '6 s', beat_interval = '600 ms'`,
    graceMs: 4_000,
    guard: [
      {
        in: { file: 'agent/session/session.js' },
        find: 'onOver: supervisor.forgetRan,',
        put: 'onOver() {},',
      },
    ],
    async story(fleet) {
      const { server, standby, hosts, moved } = fleet
      const [first, second] = hosts
      await server.sql`update mooring.deployment set pinned_node = ${first!.name}`
      await fleet.settle(20_000, 'all on the first host')
      await server.sql`update mooring.deployment set pinned_node = null`
      await fleet.settle(20_000, 'where it was')
      await loseReceiver(fleet)
      // the reap and the claim that the standby never hears of
      await first!.network.cut()
      await until(
        async () =>
          (
            await server.sql`
              select from mooring.placement p
               where p.node = ${second!.name} and p.run_state = 'running'`
          ).length === fleet.assignments().length,
      )
      await server.stop('immediate')
      await standby!.promote()
      moved()
      await first!.network.heal()
      await pause(3_000)
    },
  },
  {
    name: 'deposed-confirms',
    what: 'a deposed server goes on confirming beats that no standby has received',
    expects: 'overlap',
    prepare: 'standby',
    hosts: 2,
    guard: [
      { in: { function: 'heartbeat' }, find: `else 'remote_write' end`, put: `else 'off' end` },
    ],
    async story(fleet) {
      const { hosts, standby } = fleet
      const [, second] = hosts
      await depose(fleet)
      // an agent that starts now reaches the new server, the others have the old one
      signal(second!.agentPid(), 'SIGKILL')
      await until(async () => second!.agentPid() === undefined)
      second!.start({ url: onlyAt(second!.network.url, standby!.port) })
      await pause(8_000)
    },
  },
  {
    name: 'no-assert-owner',
    what: 'assert_owner() rejects no process: a zombie that wakes up writes',
    expects: 'late write',
    manners: ['writer', 'writer', 'writer'],
    needs: 'lab',
    guard: [
      {
        in: { function: 'assert_owner' },
        find: `if remaining is null or remaining <= interval '0' then`,
        put: 'if false then',
      },
    ],
    async story(fleet) {
      const host = fleet.hosts[0]!
      const frozen = await host.network.pids()
      const zombies = frozen.filter(isWorkload)
      for (const pid of frozen) signal(pid, 'SIGSTOP')
      await pause(4_500)
      // the machine wakes up, and the workload gets the first slice of time
      for (const pid of zombies) signal(pid, 'SIGCONT')
      await pause(1_500)
      for (const pid of frozen) signal(pid, 'SIGCONT')
      await pause(500)
    },
  },
]

const DEFAULT_MANNERS: readonly Manners[] = ['plain', 'stubborn', 'plain', 'stubborn']

/**
 * One observed double run proves that a removed guard is missed. On a busy machine a story may go
 * well by chance, so it is tried again.
 */
const TRIES = 3

/** Once with the guard, and without it until its absence shows. */
export async function runControl(
  rig: Rig,
  control: Control,
  level: string | undefined,
): Promise<ControlResult> {
  const why = control.needs ? rig.circumstances[control.needs] : null
  const base = { name: control.name, withGuard: '', without: '' }
  if (why !== null) return { ...base, ok: false, sentence: `left out: ${why}`, skipped: why }
  try {
    const guarded = offence(control, await tell(rig, control, level, false))
    let found: string | null = null
    let tries = 0
    while (found === null && tries < (guarded === null ? TRIES : 1)) {
      found = offence(control, await tell(rig, control, level, true))
      tries += 1
    }
    const ok = guarded === null && found !== null
    const sentence =
      `${ok ? 'seen' : 'NOT OK'}: with the guard ${guarded ?? 'in order'}, without ` +
      `it ${found ?? 'in order'}${tries > 1 ? ` (tried ${tries} times)` : ''}`
    return {
      ...base,
      ok,
      withGuard: guarded ?? 'in order',
      without: found ?? 'in order',
      sentence,
      skipped: null,
    }
  } catch (error) {
    return {
      ...base,
      ok: false,
      sentence: `NOT OK, not carried out: ${(error as Error).message}`,
      skipped: null,
    }
  }
}

async function tell(
  rig: Rig,
  control: Control,
  level: string | undefined,
  mutated: boolean,
): Promise<Verdict> {
  const mutations = [...(control.always ?? []), ...(mutated ? control.guard : [])]
  const inFiles = mutations.some((mutation) => 'file' in mutation.in)
  const program = inFiles
    ? mutantProgram(
        rig.stage.program,
        join(rig.stage.folder, `mutant-${control.name}-${++mutants}`),
        mutations,
      )
    : rig.stage.program
  const stage = {
    ...rig.stage,
    level,
    program,
    async prepare({ server: { sql } }: Fleet) {
      if (control.settings) await sql.unsafe(`update mooring.setting set ${control.settings}`)
      await mutateDatabase(sql, mutations)
    },
  }
  const hosts = control.hosts ?? 3
  return await withFleet(
    stage,
    { hosts, prepare: new Set(control.prepare ? [control.prepare] : []) },
    async (fleet, _disks, folder) => {
      await allRunning(fleet, {
        hosts,
        manners: control.manners ?? DEFAULT_MANNERS,
        ...(control.graceMs === undefined ? {} : { graceMs: control.graceMs }),
      })
      const fromMs = nowMs()
      await control.story(fleet)
      const verdict = judge({
        lives: readLives(fleet.stamps),
        written: await writtenIn(fleet),
        assignments: fleet.assignments(),
        fromMs,
        toMs: nowMs(),
        robbed: await robbedOf(fleet, new Set()),
        unharmed: fleet.assignments(),
      })
      if (mutated === (offence(control, verdict) === null))
        await keep(stage, fleet, folder, `${control.name}-${mutated ? 'without' : 'with'}`, {
          control,
          verdict,
        })
      return verdict
    },
  )
}
let mutants = 0

/** Only what the control is about: its story may well leave other things undone. */
function offence({ expects }: Control, verdict: Verdict): string | null {
  switch (expects) {
    case 'overlap':
      return verdict.overlapMs > 0 ? `two copies for ${Math.round(verdict.overlapMs)} ms` : null
    case 'robbed':
      return verdict.robbed.length > 0 ? `${verdict.robbed.length} live nodes robbed` : null
    case 'epoch back':
      return verdict.epochsBack.length > 0
        ? `${verdict.epochsBack.length} epochs given twice or set back`
        : null
    case 'killed':
      return verdict.killed.length > 0 ? `${verdict.killed.length} ended without a right` : null
    case 'late write':
      return verdict.lateWrites.length > 0 ? `${verdict.lateWrites.length} late writes` : null
  }
}
