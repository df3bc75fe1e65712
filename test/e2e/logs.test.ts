import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { placements, running } from '../agent/fleet.js'
import { deployment } from '../helpers/factories.js'
import { testDatabase } from '../helpers/postgres.js'
import { mooring, tempDir, type Program } from '../helpers/processes.js'
import { waitFor } from '../helpers/wait-for.js'
import { hosts, live, PATIENCE_MS, shortLeases } from './hosts.js'

/**
 * Writes numbered lines that are no ASCII, the very first time a burst of long ones; says when it
 * is asked to end.
 */
const CHATTY = `
const { readFileSync, writeFileSync } = require('node:fs')
const { MOORING_NODE: node, BURST_FILE: file } = process.env
const burst = Number(readFileSync(file, 'utf8'))
writeFileSync(file, '0')
let n = 0
const LETTERS = ' \\u00fc\\u65e5\\ud83d\\ude00'
const line = (more = '') => process.stdout.write(node + ' says ' + n++ + LETTERS + more + '\\n')
for (let i = 0; i < burst; i++) line('.'.repeat(1000))
setInterval(line, 20)
process.on('SIGTERM', () => process.stdout.write(node + ' says goodbye\\n', () => process.exit(0)))
`

interface Heard {
  node: string
  n: number
}

/**
 * unshare(1), which some containments put before a workload, may say a word of its own into the log
 * when it ends.
 */
const NOT_ITS_OWN = /^unshare: /

/** What a follower has shown so far; anything but whole lines fails the test. */
function heard(t: Test, follower: Program): Heard[] {
  return follower
    .stdout()
    .split('\n')
    .slice(0, -1)
    .flatMap((text) => {
      const found = /^(host-\w) says (?:(\d+) \u00fc\u65e5\u{1f600}\.*|goodbye)$/u.exec(text)
      if (!found && !NOT_ITS_OWN.test(text))
        t.fail(`not a whole line: ${JSON.stringify(text.slice(0, 200))}`)
      return found?.[2] === undefined ? [] : [{ node: found[1]!, n: Number(found[2]) }]
    })
}

const isGapless = (lines: readonly Heard[]): boolean =>
  lines.every(({ n }, index) => n === lines[0]!.n + index)

t.test(
  'Y40: with DATABASE_URL alone a log is followed live, across rotation, moves and failover',
  async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql)
    // state folders of their own, as on hosts of their own
    const agents = {
      'host-a': hosts(t, url).agent('host-a'),
      'host-b': hosts(t, url).agent('host-b'),
    }
    hosts(t, url).worker()
    await live(sql, 'host-a', 'host-b')
    const folder = tempDir(t, 'chatty')
    const script = join(folder, 'chatty.cjs')
    writeFileSync(script, CHATTY)
    writeFileSync(join(folder, 'burst'), '12000')
    // more than one rotation of 10 MiB
    const id = await deployment(sql, {
      name: 'web',
      command: process.execPath,
      args: [script],
      env: { BURST_FILE: join(folder, 'burst') },
    })
    const [row] = await running(sql, 1, PATIENCE_MS)
    const first = row!.node as 'host-a' | 'host-b'
    const second = first === 'host-a' ? 'host-b' : 'host-a'
    const elsewhere = { databaseUrl: url, env: { MOORING_STATE_DIR: tempDir(t, 'elsewhere') } }

    const follower = mooring(t, ['logs', 'web', '-f', '--tail', 'all'], elsewhere)
    const of = (node: string): Heard[] => heard(t, follower).filter((line) => line.node === node)
    const upTo = (node: string, n: number) =>
      waitFor(() => (of(node).at(-1)?.n ?? 0) > n, {
        label: `line ${n} of ${node} is shown`,
        timeoutMs: PATIENCE_MS,
        show: () => [follower.stdout().slice(-500), follower.stderr().slice(-2_000)],
      })
    await upTo(first, 12_500)
    t.equal(of(first)[0]?.n, 0, 'from the oldest line on')
    t.ok(isGapless(of(first)), 'no line is lost or doubled by the rotation')

    // the follower may lose its connections
    const cut = await sql`
        select pg_terminate_backend(a.pid)
          from pg_stat_activity a
         where a.datname = current_database()
           and (
             a.application_name = 'mooring cli' or a.application_name like 'mooring agent%: logs'
           )`
    t.ok(cut.length > 0)
    await upTo(first, of(first).at(-1)!.n + 100)
    t.ok(isGapless(of(first)), 'nor by connections that are lost')

    await sql`select mooring.reassign(${row!.assignment_id}::bigint, ${second})`
    await upTo(second, 100)
    t.match(
      follower.stdout(),
      `${first} says goodbye\n`,
      'the last words of the first node are shown',
    )
    t.ok(
      follower.stdout().indexOf(`${first} says goodbye`) <
        follower.stdout().indexOf(`${second} says 0`),
      'before the first of the second',
    )
    t.equal(of(second)[0]?.n, 0)
    t.ok(isGapless(of(first)) && isGapless(of(second)))

    const before = of(first).length
    agents[second].killTree()
    await waitFor(async () => (await placements(sql))[0]?.node === first, {
      label: 'it has come back to the first node',
      timeoutMs: PATIENCE_MS,
      show: () => placements(sql),
    })
    await waitFor(() => of(first).length > before + 100, {
      label: 'the first node is followed again',
      timeoutMs: PATIENCE_MS,
      show: () => [follower.stdout().slice(-500), follower.stderr().slice(-2_000)],
    })
    const again = of(first).slice(before)
    t.equal(again[0]?.n, 0, 'nothing of what it wrote the first time is shown again')
    t.ok(isGapless(again))
    t.notOk(follower.ended())
    t.match(
      follower.stderr(),
      new RegExp(`moved from ${first} to ${second}\\n(.*\\n)*.*moved from ${second} to ${first}`),
    )

    await t.test(
      'a former node answers by name; for a dead one: health, last beat, and what to type next',
      async (t) => {
        const dead = mooring(t, ['logs', row!.assignment_id, '--node', second], elsewhere)
        t.equal((await dead.exited).code, 1)
        t.match(
          dead.stderr(),
          new RegExp(
            `error: node ${second} does not answer, and the log is there: it is STALE, its ` +
              `last beat was [\\d.]+ s ago\\nhint: .*mooring history ${row!.assignment_id} lists ` +
              `where else it ran: then mooring logs ${row!.assignment_id} --node NAME`,
          ),
        )
        const tail = mooring(
          t,
          ['logs', row!.assignment_id, '--node', first, '--tail', '3'],
          elsewhere,
        )
        t.equal((await tail.exited).code, 0)
        t.match(tail.stdout(), new RegExp(`^(${first} says \\d+ .*\\n){3}$`))
      },
    )

    await sql`delete from mooring.deployment where id = ${id}`
    t.equal((await follower.exited).code, 0, 'a follower ends with what it follows')
    t.match(follower.stdout(), /says goodbye\n(unshare: .*\n)*$/)
    t.same(
      await sql`
        select r.data
          from mooring_internal.log_request r
         where r.answered_at < now() - interval '2 min'`,
      [],
      'nothing stays in the database',
    )
  },
)
