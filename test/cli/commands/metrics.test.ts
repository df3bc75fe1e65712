import t from 'tap'
import { metricsText } from '../../../cli/commands/metrics.js'
import type { FleetRow } from '../../../cli/queries/rows.js'
import { assignments, deployment, node, report } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { mooring, tempDir } from '../../helpers/processes.js'

t.test(
  'Y43: metrics describes each running process, the nodes and the fleet in the words of Prometheus',
  async (t) => {
    const { sql, url } = await testDatabase(t)
    await sql`update mooring.setting set lease_ttl = '1 hour'`
    const host = await node(sql, { name: 'host-a', sample: { cpu_pct: 12.5, memory_mb: 1024 } })
    await deployment(sql, { name: 'site', replicas: 2, env: { TOKEN: 's3cret' } })
    await deployment(sql, { type: 'daemon', command: 'id' })
    await sql`select count(*) from mooring.claim()`
    for (const row of (await assignments(sql)).slice(0, 2))
      await report(sql, host, row, 'running', { pid: 4700 + Number(row.id) })
    const program = mooring(t, ['metrics'], {
      databaseUrl: url,
      env: { MOORING_STATE_DIR: tempDir(t) },
    })
    t.same(await program.exited, { code: 0, signal: null }, program.stderr())
    const lines = program.stdout().trimEnd().split('\n')
    const samples = lines.filter((line) => !line.startsWith('#'))
    t.same(
      samples.filter((line) => line.startsWith('mooring_deployment_info')),
      [1, 2].map(
        (nr) =>
          `mooring_deployment_info{assignment_id="${nr}",deployment_id="1",name="site",` +
          `type="deployment",ordinal="${nr - 1}",package_name="http-server",` +
          `package_version="14.1.1",node="host-a",epoch="1",pid="${4700 + nr}"} 1`,
      ),
    )
    for (const line of [
      'mooring_node_info{node="host-a",health="HEALTHY"} 1',
      'mooring_node_assignments{node="host-a"} 3',
      'mooring_node_running{node="host-a"} 2',
      'mooring_node_cpu_percent{node="host-a"} 12.5',
      'mooring_fleet_running 2',
      'mooring_fleet_waiting 0',
      'mooring_fleet_hold 0',
      'mooring_fleet_reap_paused 0',
    ])
      t.ok(samples.includes(line), line)
    t.notMatch(
      program.stdout(),
      /disk_free_percent|s3cret/,
      'what is not known is left out, and so is what nobody may see',
    )
    // the grammar: every line is a comment or name{label="value",...} number, and each name is
    // declared once, before its samples
    for (const line of lines)
      t.match(
        line,
        new RegExp(
          '^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\\{([a-z_]+="([^"\\\\\\n]|\\\\["\\\\n])*",?)*\\})? ' +
            '-?\\d+(\\.\\d+)?)$',
        ),
      )
    const declared = lines
      .filter((line) => line.startsWith('# TYPE'))
      .map((line) => line.split(' ')[2])
    t.equal(new Set(declared).size, declared.length)
    for (const sample of samples) t.ok(declared.includes(/^[a-z_]+/.exec(sample)![0]), sample)
  },
)

t.test('a value of a label cannot break out of its line', (t) => {
  const fleet: FleetRow = {
    nodes: 0,
    healthy: 0,
    deployments: 0,
    assignments: 0,
    assigned: 0,
    running: 0,
    waiting: 0,
    failing: 0,
    version: 1,
    hold: 'the clock went back by 5 s',
    reap_paused: null,
    placement_lock_holder: null,
    workers: 0,
  }
  const text = metricsText(
    fleet,
    [],
    [
      {
        assignment_id: '1',
        deployment_id: '1',
        name: 'a"b\\c\nd',
        type: 'deployment',
        ordinal: null,
        package_name: null,
        package_version: null,
        node: 'host-a',
        epoch: '1',
        pid: null,
      },
    ],
  )
  t.match(text, 'name="a\\"b\\\\c\\nd",type="deployment",ordinal=""')
  t.match(text, /^mooring_fleet_hold 1$/m)
  t.end()
})
