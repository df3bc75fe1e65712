/** Every fault: what it does, what it needs, how it is healed. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import postgres from 'postgres'
import { withDeadline, type Circumstance, type Fleet, type Host, type Rival } from './fleet.js'
import { signal } from './processes.js'
import type { SmallDisk } from './small-disk.js'

export interface Scene {
  fleet: Fleet
  /** The host the fault is about; for faults of the server or the worker any. */
  host: Host
  /** In [0, 1), from the seed: chooses what the fault leaves open. */
  draw: number
  /** The small disk that was prepared for this fault. */
  disk: SmallDisk | undefined
}

export type Heal = () => Promise<void> | void

/** What this machine and this version offer. A reason why not, or null. */
export interface Circumstances {
  lab: string | null
  filter: string | null
  smallDisk: string | null
  fakeClock: string | null
  warden: string | null
  handover: string | null
  moves: string | null
}

export interface Fault {
  name: string
  what: string
  /**
   * Two faults of the server itself, or two of one host's network, would be in each other's way.
   */
  at: 'host' | 'network' | 'server' | 'session' | 'worker'
  needs?: keyof Circumstances
  /** How the fleet has to be made. */
  prepare?: 'standby' | 'fakeClock' | 'agentDisk' | 'serverDisk' | 'proxied'
  /** Over when injected: there is nothing to wait for before it is healed. */
  momentary?: true
  /** It gives no right to end anything. */
  harmless?: true
  inject(scene: Scene): Promise<Heal> | Heal
}

const none: Heal = () => {}

/** To both, in one go, warden first: it must not see its agent end. */
const toBoth = (host: Host, name: NodeJS.Signals): (number | undefined)[] =>
  [host.wardenPid(), host.agentPid()].map((pid) => (signal(pid, name), pid))
const toAll = (pids: readonly (number | undefined)[], name: NodeJS.Signals): void =>
  pids.forEach((pid) => signal(pid, name))

/** Of each family below, half of the draws come with --handover. */
const handsOver = (draw: number): boolean => draw >= 0.5

/** A folder with everything that is in the state folder of the host, its lock and sockets too. */
export function copyOfState(host: Host): string {
  const copy = join(host.folder, `copy-${++copies}`)
  execFileSync('cp', ['-a', host.state, copy])
  return copy
}
let copies = 0

/** A server that is not there, or one that refuses the login. */
export const wrongUrl = (host: Host, draw: number): string =>
  (10 * draw) % 1 < 0.5
    ? 'postgres://postgres:wrong@127.0.0.1:1/mooring'
    : host.network.url.replace(/:[^:@]*@/, ':wrong@')

/** A second agent of a name whose first one lives, which it must leave alone. */
const rivalry = (
  name: string,
  what: string,
  how: (scene: Scene) => Promise<Circumstance> | Circumstance,
): Fault => ({
  name,
  what,
  at: 'host',
  harmless: true,
  inject: async (scene) => {
    const { host, draw } = scene
    const rival = host.rival({ ...(await how(scene)), handOver: handsOver(draw) })
    return () => rival.end()
  },
})

/** The agent goes on elsewhere: killed and started there, or asked to hand over from there. */
async function rehome({ host, draw }: Scene, how: Circumstance): Promise<Heal> {
  const rival: Rival | null = handsOver(draw) ? host.rival({ ...how, handOver: true }) : null
  const start = async (): Promise<void> => {
    await rival?.end()
    signal(host.agentPid(), 'SIGKILL')
    await restart(host, how)
  }
  if (rival !== null) return start
  await start()
  return none
}

export const CATALOGUE: readonly Fault[] = [
  {
    name: 'agent-kill',
    what: 'SIGKILL of the agent, started again later',
    at: 'host',
    inject: ({ host }) => {
      signal(host.agentPid(), 'SIGKILL')
      return () => restart(host)
    },
  },
  {
    name: 'agent-restart',
    what: 'SIGKILL of the agent, its supervisor starts it again after 200 ms',
    at: 'host',
    momentary: true,
    inject: async ({ host }) => {
      signal(host.agentPid(), 'SIGKILL')
      await pause(200)
      await restart(host)
      return none
    },
  },
  {
    name: 'agent-stop',
    what: 'SIGSTOP of the agent',
    at: 'host',
    inject: ({ host }) => {
      const pid = host.agentPid()
      signal(pid, 'SIGSTOP')
      return () => void signal(pid, 'SIGCONT')
    },
  },
  {
    name: 'agent-block',
    what: 'the event loop of the agent stands still',
    at: 'host',
    inject: ({ host }) => {
      host.block(true)
      return () => host.block(false)
    },
  },
  {
    name: 'agent-leave',
    what: 'SIGTERM of the agent: it stops everything and leaves; started again later',
    at: 'host',
    inject: ({ host }) => {
      signal(host.agentPid(), 'SIGTERM')
      return () => restart(host)
    },
  },
  {
    name: 'agent-handover',
    what: 'SIGUSR2 of the agent: it leaves its work to the next session',
    at: 'host',
    needs: 'handover',
    momentary: true,
    inject: async ({ host }) => {
      signal(host.agentPid(), 'SIGUSR2')
      await restart(host)
      return none
    },
  },
  {
    name: 'warden-kill',
    what: 'SIGKILL of the warden',
    at: 'host',
    needs: 'warden',
    momentary: true,
    inject: ({ host }) => {
      signal(host.wardenPid(), 'SIGKILL')
      return () => host.start()
    },
  },
  {
    name: 'warden-stop',
    what: 'SIGSTOP of the warden',
    at: 'host',
    needs: 'warden',
    inject: ({ host }) => {
      const pid = host.wardenPid()
      signal(pid, 'SIGSTOP')
      return () => {
        signal(pid, 'SIGCONT')
        host.start()
      }
    },
  },
  {
    name: 'both-kill',
    what: 'SIGKILL of warden and agent, the agent started again later',
    at: 'host',
    needs: 'warden',
    inject: ({ host }) => {
      toBoth(host, 'SIGKILL')
      return () => restart(host)
    },
  },
  {
    name: 'both-stop',
    what: 'SIGSTOP of warden and agent',
    at: 'host',
    needs: 'warden',
    inject: ({ host }) => {
      const pids = toBoth(host, 'SIGSTOP')
      return () => {
        toAll(pids, 'SIGCONT')
        host.start()
      }
    },
  },
  {
    name: 'host-lost',
    what: 'the host and all it runs, at once; its agent started again later',
    at: 'host',
    inject: async ({ host }) => {
      await host.lose()
      return () => restart(host)
    },
  },
  rivalry(
    'folder-copied',
    'a second agent of that name, over a copy of its folder',
    ({ host }) => ({
      state: copyOfState(host),
    }),
  ),
  rivalry(
    'other-login',
    'a second agent of that name, with a folder and a login of its own',
    async ({ fleet, host }) => {
      await withDeadline(
        fleet.primary().sql`create role other superuser login password 'other'`,
        2_000,
      ).catch(() => {})
      return {
        state: join(host.folder, 'other'),
        url: host.network.url.replace(/\/\/[^@]*@/, '//other:other@'),
      }
    },
  ),
  rivalry(
    'wrong-url',
    'a second agent over its folder, with a DATABASE_URL that is wrong',
    (scene) => ({
      url: wrongUrl(scene.host, scene.draw),
    }),
  ),
  {
    name: 'twin-machine',
    what: 'a second agent of that name, on another machine',
    at: 'host',
    harmless: true,
    inject: async ({ fleet, host, draw }) => {
      const twin = await fleet.addHost(host.name, `${host.name}-twin`)
      const rival = twin.rival({ handOver: handsOver(draw) })
      return () => rival.end()
    },
  },
  {
    name: 'folder-moved',
    what: 'the folder of a living agent is renamed, and the agent goes on with it there',
    at: 'host',
    inject: (scene) => {
      const state = join(scene.host.folder, 'moved')
      renameSync(scene.host.state, state)
      return rehome(scene, { state })
    },
  },
  {
    name: 'folder-emptied',
    what: 'all files of a living agent are removed, and another one goes on with the folder',
    at: 'host',
    inject: (scene) => {
      const { state } = scene.host
      rmSync(join(state, 'agents'), { recursive: true, force: true })
      return rehome(scene, { state })
    },
  },
  {
    name: 'other-cwd',
    what: 'the agent goes on in another working directory, with a folder named from there',
    at: 'host',
    inject: (scene) => {
      const cwd = join(scene.host.folder, 'cwd')
      mkdirSync(cwd, { recursive: true })
      return rehome(scene, { cwd, state: join(cwd, 'state') })
    },
  },
  {
    name: 'agent-disk-full',
    what: 'no free byte for the logs and files of the agent',
    at: 'host',
    needs: 'smallDisk',
    prepare: 'agentDisk',
    inject: ({ disk }) => {
      disk!.fill()
      return () => disk!.empty()
    },
  },
  {
    name: 'cut',
    what: 'the network cut between one agent and Postgres',
    at: 'network',
    inject: ({ host }) => healing(host, host.network.cut()),
  },
  {
    name: 'deaf',
    what: 'one way only: requests arrive, answers do not',
    at: 'network',
    inject: ({ host }) => healing(host, host.network.deaf()),
  },
  {
    name: 'mute',
    what: 'one way only: answers would arrive, requests do not',
    at: 'network',
    inject: ({ host }) => healing(host, host.network.mute()),
  },
  {
    name: 'loss',
    what: 'a fifth to two thirds of the packets lost',
    at: 'network',
    needs: 'filter',
    inject: ({ host, draw }) => healing(host, host.network.lose(Math.round(20 + 47 * draw))),
  },
  {
    name: 'reset',
    what: 'every connection of one agent reset, new ones too',
    at: 'network',
    inject: ({ host }) => healing(host, host.network.reset()),
  },
  {
    name: 'delay',
    what: 'up to 450 ms of delay each way',
    at: 'network',
    prepare: 'proxied',
    inject: ({ host, draw }) => {
      const ms = Math.round(50 + 400 * draw)
      host.network.delay({ there: Math.round(ms * ((10 * draw) % 1)), back: ms })
      return () => host.network.heal()
    },
  },
  {
    name: 'pg-terminate',
    what: 'pg_terminate_backend of every session, again and again',
    at: 'session',
    inject: ({ fleet }) => {
      const over = new AbortController()
      const ending = (async () => {
        while (!over.signal.aborted) {
          await withDeadline(
            fleet.primary().sql`
              select pg_terminate_backend(a.pid)
                from pg_stat_activity a
               where a.backend_type = 'client backend' and a.application_name not like 'faults:%'`,
            1_000,
          ).catch(() => {})
          await pause(150)
        }
      })()
      return async () => {
        over.abort()
        await ending
      }
    },
  },
  {
    name: 'idle-transaction',
    what: 'a forgotten transaction in psql that has locked rows',
    at: 'session',
    inject: async ({ fleet, draw }) => {
      const psql = postgres(fleet.primary().url('127.0.0.1'), {
        max: 1,
        fetch_types: false,
        connect_timeout: 2,
        onnotice: () => {},
        connection: { application_name: 'faults: psql' },
      })
      const held = [
        'select from mooring.assignment for update',
        'select from mooring.deployment for update',
        'select from mooring.node for update',
        'update mooring.node set weight = weight',
      ][Math.floor(4 * draw)]!
      // No sql.begin(): where its connection is cut, the driver writes the rollback to a closed
      // socket, an error that no caller can catch.
      const end = (): void => void psql.end({ timeout: 0 }).catch(() => {})
      await withDeadline(psql.unsafe(`begin; ${held}`), 2_000).catch((error: unknown) => {
        end()
        throw error
      })
      return async () => {
        await withDeadline(psql.unsafe('rollback'), 2_000).catch(() => {})
        end()
      }
    },
  },
  {
    name: 'pg-restart',
    what: 'Postgres restarted (fast)',
    at: 'server',
    momentary: true,
    inject: async ({ fleet }) => {
      await fleet.server.stop('fast')
      await fleet.server.start()
      return none
    },
  },
  {
    name: 'pg-away',
    what: 'Postgres stopped (fast), started later',
    at: 'server',
    inject: async ({ fleet }) => {
      await fleet.server.stop('fast')
      return () => fleet.server.start()
    },
  },
  {
    name: 'pg-crash',
    what: 'SIGKILL of the postmaster, crash recovery later',
    at: 'server',
    inject: ({ fleet }) => {
      signal(fleet.server.postmaster(), 'SIGKILL')
      return () => fleet.server.start()
    },
  },
  {
    name: 'pg-backend-crash',
    what: 'SIGKILL of one backend: Postgres restarts itself with crash recovery',
    at: 'server',
    momentary: true,
    inject: async ({ fleet }) => {
      const [backend] = await withDeadline(
        fleet.server.sql<{ pid: number }[]>`
          select a.pid
            from pg_stat_activity a
           where a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
           limit 1`,
        2_000,
      )
      signal(backend?.pid, 'SIGKILL')
      return none
    },
  },
  {
    name: 'pg-stop',
    what: 'SIGSTOP of Postgres with all backends',
    at: 'server',
    inject: ({ fleet }) => {
      const pids = fleet.server.pids()
      toAll(pids, 'SIGSTOP')
      return () => toAll(pids, 'SIGCONT')
    },
  },
  {
    name: 'pg-promote',
    what: 'Postgres crashes, a standby that lags behind by up to 1 s is promoted',
    at: 'server',
    prepare: 'standby',
    momentary: true,
    inject: async ({ fleet, draw }) => {
      const [receiver] = await withDeadline(
        fleet.standby!.sql<{ pid: number }[]>`select w.pid from pg_stat_wal_receiver w`,
        2_000,
      )
      signal(receiver?.pid, 'SIGSTOP')
      await pause(1_000 * draw)
      await fleet.server.stop('immediate')
      signal(receiver?.pid, 'SIGTERM')
      signal(receiver?.pid, 'SIGCONT')
      await fleet.standby!.promote()
      fleet.moved()
      return none
    },
  },
  {
    name: 'clock-forward',
    what: 'the wall clock of the server jumps 1 to 30 s ahead, and back later',
    at: 'server',
    needs: 'fakeClock',
    prepare: 'fakeClock',
    inject: ({ fleet, draw }) => {
      fleet.server.setClock(Math.round(1 + 29 * draw))
      return () => fleet.server.setClock(0)
    },
  },
  {
    name: 'clock-back',
    what: 'the wall clock of the server jumps 1 to 30 s back, and ahead later',
    at: 'server',
    needs: 'fakeClock',
    prepare: 'fakeClock',
    inject: ({ fleet, draw }) => {
      fleet.server.setClock(-Math.round(1 + 29 * draw))
      return () => fleet.server.setClock(0)
    },
  },
  {
    name: 'pg-disk-full',
    what: 'no free byte for Postgres; emptied and started later',
    at: 'server',
    needs: 'smallDisk',
    prepare: 'serverDisk',
    inject: async ({ fleet, disk }) => {
      disk!.fill()
      // what is there of the log of changes would last for long
      await withDeadline(
        fleet.server.sql`
            select pg_logical_emit_message(false, 'faults', repeat('x', 1000000))
              from generate_series(1, 40)`,
        2_000,
      ).catch(() => {})
      return () => {
        disk!.empty()
        return fleet.server.start()
      }
    },
  },
  {
    name: 'worker-kill',
    what: 'SIGKILL of the worker, started again later',
    at: 'worker',
    inject: ({ fleet }) => {
      signal(fleet.workerPid(), 'SIGKILL')
      return () => fleet.startWorker()
    },
  },
  {
    name: 'worker-stop',
    what: 'SIGSTOP of the worker',
    at: 'worker',
    inject: ({ fleet }) => {
      const pid = fleet.workerPid()
      signal(pid, 'SIGSTOP')
      return () => void signal(pid, 'SIGCONT')
    },
  },
]

/** The standby, which has received every commit, follows its primary no more, and is promoted. */
export async function depose(fleet: Fleet): Promise<void> {
  const { server, standby } = fleet
  await server.sql`alter system set synchronous_standby_names = '*'`
  await server.sql`select pg_reload_conf()`
  await until(
    async () =>
      (await server.sql`select from pg_stat_replication r where r.sync_state = 'sync'`).length ===
      1,
  )
  await loseReceiver(fleet)
  await standby!.promote()
  fleet.moved()
}

/** The standby receives nothing more. */
export async function loseReceiver({ standby }: Fleet): Promise<void> {
  await standby!.sql`alter system set primary_conninfo = ''`
  await standby!.sql`select pg_reload_conf()`
  await until(async () => (await standby!.sql`select from pg_stat_wal_receiver`).length === 0)
}

export async function until(condition: () => Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 15_000; !(await condition()); await pause(30))
    if (performance.now() > deadline) throw new Error('waited 15 s in vain')
}

async function healing(host: Host, injected: Promise<void>): Promise<Heal> {
  await injected
  return () => host.network.heal()
}

/** As its supervisor would: as soon as the old process is gone, which a stop in order may delay. */
async function restart(host: Host, how: Circumstance = {}): Promise<void> {
  for (
    const deadline = performance.now() + 10_000;
    host.agentPid() !== undefined && performance.now() < deadline;
  )
    await pause(10)
  host.start(how)
}
