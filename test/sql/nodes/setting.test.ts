import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const bad: [edit: string, constraint_name: string][] = [
  ["beat_interval = '5 s'", 'setting_three_beats_fit_into_a_lease'],
  ["beat_interval = '1 ms'", 'setting_beat_interval_is_sane'],
  ["beat_interval = '-3 s'", 'setting_beat_interval_is_sane'],
  ["beat_interval = '20 ms', lease_ttl = '99 ms'", 'setting_lease_ttl_is_sane'],
  ["lease_ttl = '2 hours'", 'setting_lease_ttl_is_sane'],
  ["reap_margin = '0'", 'setting_reap_margin_is_sane'],
  ["round_interval = '0'", 'setting_round_interval_is_sane'],
  ["cpu_weight = 'NaN'", 'setting_cpu_weight_is_between_0_and_a_million'],
  ["memory_weight = 'Infinity'", 'setting_memory_weight_is_between_0_and_a_million'],
  ['cpu_weight = 1e308', 'setting_cpu_weight_is_between_0_and_a_million'],
  ['cpu_weight = -1', 'setting_cpu_weight_is_between_0_and_a_million'],
  ['cpu_weight = 0, memory_weight = 0', 'setting_some_weight_is_positive'],
  ["disk_free_min_pct = 'NaN'", 'setting_disk_free_min_pct_is_a_percentage'],
  ['disk_free_min_pct = 101', 'setting_disk_free_min_pct_is_a_percentage'],
  ['claim_window = 0', 'setting_claim_window_is_sane'],
  ["event_retention = '0'", 'setting_event_retention_is_sane'],
  ['only_row = false', 'setting_is_one_row'],
]

for (const [edit, constraint_name] of bad) {
  story(`${edit} is refused`, async (t, sql) => {
    await refused(t, sql, (sql) => sql.unsafe(`update mooring.setting set ${edit}`), {
      code: '23514',
      constraint_name,
    })
  })
}

story(
  'defect 14: a lease holds at least three beats, whichever of the two is edited',
  async (t, sql) => {
    for (const edit of [
      "beat_interval = '4.001 s'",
      "lease_ttl = '8.999 s'",
      'beat_interval = lease_ttl',
    ])
      await refused(
        t,
        sql,
        (sql) => sql.unsafe(`update mooring.setting set ${edit}`),
        { code: '23514', constraint_name: 'setting_three_beats_fit_into_a_lease' },
        edit,
      )
    await sql`update mooring.setting set beat_interval = '4 s'`
  },
)

story('intervals down to 300 ms are fine', async (t, sql) => {
  await sql`
    update mooring.setting
       set beat_interval = '100 ms',
           lease_ttl = '300 ms',
           reap_margin = '100 ms',
           round_interval = '100 ms'`
  t.pass()
})

story('there is one row and no second', async (t, sql) => {
  await refused(t, sql, (sql) => sql`insert into mooring.setting default values`, {
    code: '23505',
    constraint_name: 'setting_pkey',
  })
})

story('the defaults are those of the documentation', async (t, sql) => {
  const [row] = await sql`
      select beat_interval::text, lease_ttl::text, reap_margin::text, round_interval::text,
             default_policy, cpu_weight, memory_weight, disk_free_min_pct
        from mooring.setting`
  t.same(row, {
    beat_interval: '00:00:03',
    lease_ttl: '00:00:12',
    reap_margin: '00:00:03',
    round_interval: '00:00:02',
    default_policy: 'deployment_count',
    cpu_weight: 0.5,
    memory_weight: 0.5,
    disk_free_min_pct: 15,
  })
})

for (const statement of [
  'delete from mooring.setting',
  'truncate mooring.setting',
  'delete from mooring.setting where false',
]) {
  story(`${statement} is refused: nobody would beat without it`, async (t, sql) => {
    await refused(t, sql, (sql) => sql.unsafe(statement), {
      code: 'MR006',
      message: /cannot be deleted/,
      hint: /Update it instead/,
    })
  })
}
