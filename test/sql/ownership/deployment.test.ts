import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { deployment } from '../../helpers/factories.js'
import type { DeploymentSpec } from '../../helpers/factories.js'
import { refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const names = [
  'http-server',
  '@acme/site',
  'a',
  '~tilde',
  'a.b_c~d-e',
  '@a-b/c',
  '0',
  'x'.repeat(214),
]
const notNames = [
  '',
  'Upper',
  'a b',
  'a;rm -rf /',
  '$(id)',
  '`id`',
  'a|b',
  'a&b',
  'a>b',
  'a\nb',
  'a\0b',
  "a'b",
  'a"b',
  '../x',
  '..',
  './x',
  '/etc/passwd',
  '~/.ssh',
  'a/b',
  '@/b',
  '@a/',
  '@a/b/c',
  'user/repo',
  'http://x/y.tgz',
  'https://x/y.tgz',
  'git+ssh://git@github.com/a/b',
  'git@github.com:a/b',
  'file:../x',
  'github:a/b',
  'npm:x',
  'x@npm:y',
  'a@1',
  'a#b',
  'a%b',
  'a\\b',
  '.hidden',
  '_under',
  'x.tgz',
  '@a/x.tar.gz',
  'é',
  'а',
  'x'.repeat(215),
]
const versions = [
  'latest',
  '14.1.1',
  '1.0.0-rc.1',
  '1.0.0+build.5',
  '1.2.3-a.b+c-d',
  'next',
  'vNext',
  'x-ray',
  'v',
  'x'.repeat(128),
]
const notVersions = [
  '',
  ' ',
  '1',
  '1.x',
  '1.2',
  '1.2.3.4',
  '01.2.3',
  '1.2.3-',
  '1.2.3+',
  'v1.2.3',
  'V1',
  'x',
  'X.x',
  'a.tgz',
  'a.TAR',
  'a+b',
  '2tag',
  '^1.0.0',
  '~1.0.0',
  '>=1',
  '1 || 2',
  '*',
  '-1',
  '../x',
  'file:../x',
  'git+ssh://x',
  'http://x',
  'npm:y@1',
  '1;id',
  '$(id)',
  '1\n2',
  'x'.repeat(129),
]

story('package names of the registry are accepted', async (t, sql) => {
  for (const package_name of names)
    t.ok(await deployment(sql, { package_name }), package_name.slice(0, 30))
})

story(
  'everything else that npm would read as a path, a URL, a git address or a shell word is refused',
  async (t, sql) => {
    for (const package_name of notNames) {
      const expected = package_name.includes('\0')
        ? { code: '22021' }
        : { code: '23514', constraint_name: 'deployment_package_name_is_a_registry_name' }
      await refused(
        t,
        sql,
        (sql) => deployment(sql, { package_name }),
        expected,
        JSON.stringify(package_name.slice(0, 40)),
      )
    }
  },
)

story('a version is exact or a tag, never a range or an address', async (t, sql) => {
  for (const package_version of versions)
    t.ok(await deployment(sql, { package_version }), package_version)
  for (const package_version of notVersions)
    await refused(
      t,
      sql,
      (sql) => deployment(sql, { package_version }),
      { code: '23514', constraint_name: 'deployment_package_version_is_exact_or_a_tag' },
      JSON.stringify(package_version.slice(0, 40)),
    )
})

const bad: [what: string, spec: DeploymentSpec, constraint_name: string][] = [
  ['an unknown type', { type: 'job' }, 'deployment_type_is_deployment_or_daemon'],
  ['negative replicas', { replicas: -1 }, 'deployment_replicas_is_between_0_and_10000'],
  [
    'ten thousand and one replicas',
    { replicas: 10_001 },
    'deployment_replicas_is_between_0_and_10000',
  ],
  ['args that are an object', { args: {} }, 'deployment_args_is_an_array_of_strings'],
  ['args that are a string', { args: '--port 80' }, 'deployment_args_is_an_array_of_strings'],
  ['an argument that is a number', { args: ['a', 1] }, 'deployment_args_is_an_array_of_strings'],
  ['an argument that is null', { args: [null] }, 'deployment_args_is_an_array_of_strings'],
  [
    'an argument that is an array of strings',
    { args: [['a']] },
    'deployment_args_is_an_array_of_strings',
  ],
  ['args above 256 KiB', { args: ['x'.repeat(270_000)] }, 'deployment_args_are_bounded'],
  ['env that is an array', { env: ['A=1'] }, 'deployment_env_is_an_object_of_strings'],
  [
    'an env value that is a number',
    { env: { PORT: 80 } },
    'deployment_env_is_an_object_of_strings',
  ],
  ['an env value that is null', { env: { PORT: null } }, 'deployment_env_is_an_object_of_strings'],
  [
    'an env value that is an array of strings',
    { env: { PATHS: ['a'] } },
    'deployment_env_is_an_object_of_strings',
  ],
  ['an env name with =', { env: { 'A=B': '1' } }, 'deployment_env_names_are_identifiers'],
  ['an empty env name', { env: { '': '1' } }, 'deployment_env_names_are_identifiers'],
  ['an env name with a newline', { env: { 'A\nB': '1' } }, 'deployment_env_names_are_identifiers'],
  ['env above 256 KiB', { env: { A: 'x'.repeat(270_000) } }, 'deployment_env_is_bounded'],
  ['neither package nor command', { package_name: null }, 'deployment_runs_a_package_or_a_command'],
  ['an empty command', { command: '', package_name: 'a' }, 'deployment_command_is_not_empty'],
  ['a selector that is an array', { selector: [] as never }, 'deployment_selector_is_an_object'],
  ['labels that are a string', { labels: 'x' as never }, 'deployment_labels_are_an_object'],
  ['a pin that cannot be a node', { pinned_node: '../x' }, 'deployment_pinned_node_is_a_node_name'],
  ['a name with a slash', { name: 'a/b' }, 'deployment_name_is_a_plain_word'],
  ['an unknown on_lost', { on_lost: 'restart' }, 'deployment_on_lost_is_stop_or_keep'],
  ['a lease of no time', { lease_ttl: '0' }, 'deployment_lease_ttl_is_sane'],
  ['a negative lease', { lease_ttl: '-1 s' }, 'deployment_lease_ttl_is_sane'],
  ['a lease of a year', { lease_ttl: '1 year' }, 'deployment_lease_ttl_is_sane'],
  ['a negative grace', { stop_grace: '-1 s' }, 'deployment_stop_grace_is_sane'],
]
for (const [what, spec, constraint_name] of bad) {
  story(`${what}: refused by a constraint that says so`, async (t, sql) => {
    await refused(t, sql, (sql) => deployment(sql, spec), { code: '23514', constraint_name })
  })
}

// containment of what nests this deep overflows the stack: one such row would stop every claim
const deep = `{"a":${'['.repeat(10_000)}${']'.repeat(10_000)}}`
const odd: [column: string, value: string, constraint_name: string][] = [
  ['args', 'null', 'deployment_args_is_an_array_of_strings'],
  ['env', 'null', 'deployment_env_is_an_object_of_strings'],
  ['updated_at', 'infinity', 'deployment_updated_at_is_finite'],
  ['created_at', '-infinity', 'deployment_created_at_is_finite'],
  ['generation', '0', 'deployment_generation_is_positive'],
  ['selector', deep, 'deployment_selector_is_an_object'],
  ['labels', deep, 'deployment_labels_are_an_object'],
]
for (const [column, value, constraint_name] of odd) {
  story(`${column} = ${value.slice(0, 20)}: refused`, async (t, sql) => {
    await refused(
      t,
      sql,
      (sql) =>
        sql.unsafe(
          `insert into mooring.deployment (package_name, ${column}) values ('a', '${value}')`,
        ),
      { code: '23514', constraint_name },
    )
  })
}

story('a NUL in env or args never gets in', async (t, sql) => {
  await refused(t, sql, (sql) => deployment(sql, { env: { A: 'a\0b' } }), { code: '22P05' }, 'env')
  await refused(t, sql, (sql) => deployment(sql, { args: ['a\0b'] }), { code: '22P05' }, 'args')
  await refused(
    t,
    sql,
    (sql) => deployment(sql, { env: { 'A\0': 'b' } }),
    { code: '22P05' },
    'a name',
  )
  await refused(
    t,
    sql,
    (sql) =>
      sql.unsafe(`insert into mooring.deployment (command, args) values ('a', '["\\ud800"]')`),
    { code: '22P02' },
    'a lone surrogate',
  )
})

story('two deployments may have no name, but not the same one', async (t, sql) => {
  await deployment(sql, { name: 'site' })
  await deployment(sql)
  await deployment(sql)
  await refused(t, sql, (sql) => deployment(sql, { name: 'site' }), {
    code: '23505',
    constraint_name: 'deployment_name_idx',
  })
})

story('id and type never change', async (t, sql) => {
  const id = await deployment(sql)
  await refused(
    t,
    sql,
    (sql) => sql`update mooring.deployment set id = id + 1000 where id = ${id}`,
    { code: 'MR006', hint: /insert a new/i },
  )
  await refused(
    t,
    sql,
    (sql) => sql`update mooring.deployment set type = 'daemon' where id = ${id}`,
    { code: 'MR006' },
  )
})

story(
  'truncate is refused, also by cascade and for what would orphan processes',
  async (t, sql) => {
    await deployment(sql)
    for (const tables of [
      'deployment',
      'assignment',
      'node',
      'heartbeat',
      'policy',
      'mooring.node, mooring.deployment',
    ]) {
      await refused(
        t,
        sql,
        (sql) =>
          sql.unsafe(`truncate ${tables.includes('.') ? tables : 'mooring.' + tables} cascade`),
        { code: 'MR006', hint: /delete|Update it instead/ },
        tables,
      )
    }
  },
)

story('an insert that gives only a package gets every other value by default', async (t, sql) => {
  await sql`insert into mooring.deployment (package_name) values ('left-pad')`
  const [row] = await sql`
      select type, package_version, command, args, env, labels, enabled, replicas, policy, selector,
             pinned_node, needs_urls, on_lost, lease_ttl, stop_grace::text, generation
        from mooring.deployment`
  t.same(row, {
    type: 'deployment',
    package_version: 'latest',
    command: null,
    args: [],
    env: {},
    labels: {},
    enabled: true,
    replicas: 1,
    policy: null,
    selector: {},
    pinned_node: null,
    needs_urls: false,
    on_lost: 'stop',
    lease_ttl: null,
    stop_grace: '00:00:10',
    generation: '1',
  })
})
