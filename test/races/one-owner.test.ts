/**
 * The promise that everything else serves: at no moment have two nodes the right to run one
 * assignment. Four agents, which are only calls of the verbs, beat, fall silent for a while and
 * come back, as fast as the settings allow. Workers reap and claim; a user edits, deletes and
 * inserts again.
 *
 * Each agent notes from when to when it was allowed to run what. The right begins at the start of a
 * beat whose answer confirmed it, and lasts for the lease in that answer. A judge compares the
 * notes. All of them share one machine and one clock, so the judge needs no tolerance. An overlap
 * of any length is a broken promise.
 */
import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as silence } from 'node:timers/promises'
import t from 'tap'
import { deployments, node } from '../helpers/factories.js'
import { waitFor } from '../helpers/wait-for.js'
import { stage, type Stage } from './stage.js'

const LEASE_MS = 1_000
const SETTINGS = {
  beat_interval: '250 ms',
  lease_ttl: `${LEASE_MS} ms`,
  reap_margin: '100 ms',
  round_interval: '50 ms',
  evict_interval: '300 ms',
  placement_lock_timeout: '5 s',
}

interface Right {
  agent: string
  assignment: string
  epoch: string
  fromMs: number
  untilMs: number
}
interface Owned {
  assignment_id: string
  epoch: string
  generation: string
  wanted: 'run' | 'stop'
  on_lost: string
  stop_grace_ms: number
}

const digestOf = (owned: readonly Owned[]) =>
  createHash('sha256')
    .update(
      owned
        .map(
          (a) =>
            `${a.assignment_id}:${a.epoch}:${a.generation}:` +
            `${a.wanted}:${a.on_lost}:${a.stop_grace_ms}`,
        )
        .join(','),
    )
    .digest('hex')

/**
 * Beats until it is over, and notes the rights it has. beliefMs is how long it takes a lease for.
 */
async function playAgent(
  pg: Stage,
  name: string,
  rights: Right[],
  beliefMs: number,
  over: AbortSignal,
): Promise<void> {
  const { sql } = await pg.session(name)
  let session = (await node(sql, { name })).session
  let known: Owned[] = []
  while (!over.aborted) {
    const startedMs = performance.now()
    try {
      const [answer] = await sql<
        { digest: string }[]
      >`select digest from mooring.heartbeat(${name}, ${session})`
      if (answer!.digest === digestOf(known)) {
        for (const { assignment_id, epoch, wanted } of known) {
          if (wanted === 'run')
            rights.push({
              agent: name,
              assignment: assignment_id,
              epoch,
              fromMs: performance.now(),
              untilMs: startedMs + beliefMs,
            })
        }
        // mostly a beat, at times longer than the lease
        await silence(
          Math.random() < 0.2 ? Math.random() * 2.5 * LEASE_MS : 30 + Math.random() * 100,
        )
      } else {
        // what is new may be run when the next beat has confirmed it
        known = await sql<Owned[]>`
          select assignment_id, epoch, generation, wanted, on_lost, stop_grace_ms
            from mooring.assignments_of(${name}, ${session})`
      }
      const stopping = known.filter(({ wanted }) => wanted === 'stop')
      if (stopping.length > 0) {
        // its process is gone now: the right ends with the word
        for (const right of rights)
          if (
            right.agent === name &&
            stopping.some((a) => a.assignment_id === right.assignment && a.epoch === right.epoch)
          )
            right.untilMs = Math.min(right.untilMs, performance.now())
        await sql`
          select *
            from mooring.report(
              ${name}, ${session}, ${sql.json(stopping.map((a) => ({ ...a, state: 'stopped' })))}
            )`
      }
    } catch (error) {
      if (!['MR001', 'MR002'].includes((error as { code: string }).code)) throw error
      session = randomUUID()
      await sql`select from mooring.register_node(${name}, ${session}, '.')`.catch(() => {})
    }
  }
}

/** Until it was enough: how many rows were reaped, and the rights that were noted. */
async function play(
  t: Parameters<typeof stage>[0],
  beliefMs: number,
  enough: (reaped: number, rights: readonly Right[]) => boolean,
): Promise<Right[]> {
  const pg = await stage(t)
  await pg.sql`update mooring.setting set ${pg.sql(SETTINGS)}`
  await deployments(pg.sql, 20)
  const over = new AbortController()
  const loop = async (
    name: string,
    step: (sql: Stage['sql'], round: number) => Promise<unknown>,
  ) => {
    const { sql } = await pg.session(name)
    for (let round = 0; !over.signal.aborted; round++) await step(sql, round)
  }
  const rights: Right[] = []
  const all = Promise.all([
    ...['host-a', 'host-b', 'host-c', 'host-d'].map((name) =>
      playAgent(pg, name, rights, beliefMs, over.signal),
    ),
    ...['first', 'second'].map((name) =>
      loop(name, async (sql) => {
        await sql`select * from mooring.tick(${name}, inline => true)`
        await sql`select count(*) from mooring.claim()`
        await silence(10)
      }),
    ),
    loop('user', async (sql, round) => {
      const id = 1 + (round % 20)
      if (round % 3 === 0)
        await sql`update mooring.deployment set enabled = not enabled where id = ${id}`
      else if (round % 3 === 1)
        await sql`
          update mooring.deployment
             set generation = generation + 1, enabled = true
           where id = ${id}`
      else
        await sql.begin(async (sql) => {
          await sql`delete from mooring.deployment where id = ${id}`
          await sql`insert into mooring.deployment (id, package_name) values (${id}, 'http-server')`
        })
      await silence(150)
    }),
  ])
  const reaped = async () =>
    (
      await pg.sql<
        { n: number }[]
      >`select count(*)::int as n from mooring.event where kind = 'reaped'`
    )[0]!.n
  const played = waitFor(async () => enough(await reaped(), rights), {
    label: 'there is enough to judge',
    timeoutMs: 50_000,
    show: () => pg.sql`select * from mooring.last_events(30)`,
  })
  await Promise.race([all, played]).finally(() => over.abort())
  await all
  return rights
}

/**
 * Rights of different agents to one assignment at one time; fromMs to untilMs of each is when a
 * process may run.
 */
function overlaps(rights: readonly Right[]): [Right, Right][] {
  const of = new Map<string, Right[]>()
  for (const right of rights) of.set(right.assignment, [...(of.get(right.assignment) ?? []), right])
  return [...of.values()].flatMap((same) =>
    same.flatMap((one) =>
      same
        .filter(
          (other) =>
            one.agent < other.agent && one.fromMs < other.untilMs && other.fromMs < one.untilMs,
        )
        .map((other): [Right, Right] => [one, other]),
    ),
  )
}

t.test('no two agents have the right to run one assignment, whatever falls silent', async (t) => {
  const rights = await play(t, LEASE_MS, (reaped, rights) => reaped > 40 && rights.length > 300)
  t.same(overlaps(rights).slice(0, 3), [], `of ${rights.length} rights`)
})

t.test(
  'negative control: agents that overestimate their lease run beside the next owner',
  async (t) => {
    const rights = await play(t, 3 * LEASE_MS, (_, rights) => overlaps(rights).length > 0)
    t.ok(overlaps(rights).length > 0, `${overlaps(rights).length} overlaps`)
  },
)
