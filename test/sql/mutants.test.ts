import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../helpers/postgres.js'
import { storiesIn } from './story.js'
import { weather } from './storm.js'

// A storm proves something when it catches mutants: each guard that is removed here has to be
// missed by it.

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

type Change = [guard: string, instead: string]

async function mutate(sql: TransactionSql, name: string, changes: Change[]): Promise<void> {
  const [row] = await sql<{ def: string }[]>`
    select pg_get_functiondef(p.oid) as def
      from pg_proc p
     where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
       and p.proname = ${name}`
  let def = row?.def ?? ''
  for (const [guard, instead] of changes) {
    if (!def.includes(guard))
      throw new Error(
        `mooring.${name} has no ${JSON.stringify(guard)} any more: give this mutant another guard`,
      )
    def = def.replaceAll(guard, () => instead)
  }
  await sql.unsafe(def)
}

const mutants: [what: string, name: string, ...changes: Change[]][] = [
  ['loads that do not follow', 'tg_assignment__follow', ['having', 'having false and']],
  [
    'scale-down that leaves the surplus running',
    'make_assignments',
    ['(j.is_surplus or j.is_disabled)', '(j.is_disabled or j.is_deleted)'],
  ],
  [
    'a disabled deployment that runs on',
    'make_assignments',
    ['(j.is_surplus or j.is_disabled)', '(j.is_surplus)'],
  ],
  [
    'an order to stop that is revoked',
    'requeue',
    ['wanted = case when a.node_id is not null then', 'wanted = case when false then'],
  ],
  [
    'a claim that looks only at what is permitted',
    'placeable_classes',
    ['where e.eligible', 'where e.permitted'],
  ],
  [
    'a claim that forgets which node refused',
    'placeable_classes',
    ["case when w.refused_by = '{}' then", 'case when true then'],
  ],
  [
    'a reap that does not look at the lease',
    'reap',
    ['mooring_internal.lease_end(h, a) + margin < at', 'true'],
    ['h.beat_at < at - margin', 'true'],
  ],
  ['a release without a look at the deployment', 'release', [' and not a.surplus', '']],
  ['an edit that evicts nothing', 'evict', ['where not e.permitted', 'where false']],
  ['a node that is deleted with its work', 'tg_node__guard', ['if owned > 0', 'if false']],
  [
    'a live node that is deleted under its daemons',
    'tg_node__guard',
    ['if daemons > 0', 'if false'],
  ],
  [
    'work that is freed by hand under a live owner',
    'tg_assignment__by_hand',
    ['mooring_internal.owner_may_run(old)', 'false'],
  ],
  [
    'an epoch that is set back',
    'tg_assignment__by_hand',
    ['if new.epoch < old.epoch then', 'if false then'],
    ['mooring_internal.next_epoch(old.epoch)', 'new.epoch + 1'],
  ],
  [
    'a reap that believes every silence',
    'update_reap_pause',
    ['silent > setting.reap_pause_share * nodes', 'false'],
  ],
  [
    'a reap that believes none',
    'update_reap_pause',
    ['silent > setting.reap_pause_share * nodes', 'silent > 0'],
  ],
  [
    'a pause that never counts as ended',
    'update_reap_pause',
    ['elsif not too_many', 'elsif false'],
  ],
  [
    'a pause that no operator can end',
    'update_reap_pause',
    ['return too_many and pause.resumed_at is null', 'return too_many'],
  ],
  [
    'an operator whose resume outlasts the outage',
    'update_reap_pause',
    [
      'elsif not too_many and pause.paused_at is not null',
      'elsif not too_many and pause.paused_at is not null and pause.resumed_at is null',
    ],
  ],
  [
    'a move that goes on though its deployment was disabled',
    'make_assignments',
    ["wanted = 'stop', move_to = null, move_reason = null,", "wanted = 'stop',"],
  ],
  [
    'a promise that is kept for a node that has changed',
    'place_moves',
    ['and d.obstacle is null', ''],
    ['and d.obstacle is not null', 'and false'],
  ],
  [
    'places that are promised and given away',
    'node_states',
    [
      'mooring_internal.assigned_and_promised_per_node()',
      '(select x.node_id, x.assigned as assigned_and_promised ' +
        'from mooring_internal.assigned_per_node() x)',
    ],
  ],
  [
    'a history that misses what was given back',
    'tg_assignment__follow',
    [
      'where p.epoch <> p.epoch_before',
      'where p.epoch <> p.epoch_before and p.node_id is not null',
    ],
  ],
  [
    'a history in which what is gone is owned for ever',
    'tg_assignment__record_owned',
    ["if tg_op = 'DELETE' then", "if tg_op = 'DELETE' then return null;"],
  ],
  [
    'daemons that do not come to new nodes',
    'make_daemons',
    [
      'where e.permitted and (make_daemons.nodes is null',
      'where e.permitted and make_daemons.nodes is null and (true',
    ],
  ],
]

/** The seed whose storm met the mutant soonest. It is tried before the others. */
const SOONEST: Record<string, number> = {
  'loads that do not follow': 3,
  'scale-down that leaves the surplus running': 11,
  'a disabled deployment that runs on': 3,
  'an order to stop that is revoked': 3,
  'a claim that looks only at what is permitted': 3,
  'a claim that forgets which node refused': 2,
  'work that is freed by hand under a live owner': 2,
  'a reap that believes every silence': 3,
  'a reap that believes none': 2,
  'a pause that no operator can end': 4,
  'a promise that is kept whatever became of the node': 3,
}

/** Seeds of the storms that met a mutant. */
const tried = new Set<number>()

for (const [what, name, ...changes] of mutants) {
  story(`the laws notice ${what}`, async (t, sql) => {
    await mutate(sql, name, changes)
    let broken: string[] = []
    for (const seed of new Set([
      SOONEST[what] ?? 1,
      ...Array.from({ length: 12 }, (_, i) => i + 1),
    ])) {
      if (broken.length > 0) break
      tried.add(seed)
      await sql
        .savepoint(async (sql) => {
          broken = await weather(sql, seed, 300)
          throw undone
        })
        .catch((error: unknown) => {
          if (error !== undone) broken = [String(error)]
        })
    }
    t.ok(broken.length > 0)
    t.comment(broken[0]?.slice(0, 160) ?? 'it survived')
  })
}
const undone = new Error('only tried')

story('without a mutant the same storms break no law', async (t, sql) => {
  for (const seed of tried)
    await sql
      .savepoint(async (sql) => {
        t.same(await weather(sql, seed, 300), [], `seed ${seed}`)
        throw undone
      })
      .catch((error: unknown) => {
        if (error !== undone) throw error
      })
})
