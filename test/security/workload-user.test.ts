/**
 * What a workload of an agent that root started can reach: its own files and processes. Each attack
 * is carried out by a workload, at every level of containment.
 */
import { chmodSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { CONTAINMENT_LEVELS } from '../../agent/warden/containment.js'
import { deployment } from '../helpers/factories.js'
import { testDatabase } from '../helpers/postgres.js'
import { tempDir } from '../helpers/processes.js'
import { waitFor } from '../helpers/wait-for.js'
import { hosts, live, PATIENCE_MS, shortLeases } from '../e2e/hosts.js'

const opts = {
  skip: process.getuid?.() === 0 ? false : 'only root can run workloads as another user',
}

/** Each line is `name ok` or `name denied`. The agent's pid and folder are in its environment. */
const ATTACKS = `
try() {
  name=$1; shift
  if "$@" > /dev/null 2>&1; then echo "$name ok"; else echo "$name denied"; fi
}
echo "uid $(id -u) groups $(id -G) home $HOME user $USER"
grep -E '^(CapEff|CapBnd|CapInh|NoNewPrivs|Groups):' /proc/self/status | tr '\\t\\n' '  '; echo
try own_folder sh -c 'echo x > file'
try home sh -c 'echo x > "$HOME/file2"'
echo to-stderr >> /dev/stderr
try agent_environ cat "/proc/$AGENT/environ"
try agent_memory dd if="/proc/$AGENT/mem" count=1
try agent_signal kill -0 "$AGENT"
try session cat "$FOLDER/session.json"
try process_files ls "$FOLDER/runs"
try logs ls "$FOLDER/logs"
try list ls "$FOLDER"
try socket "$NODE" -e '
  const socket = require("net").connect(process.argv[1])
  socket.on("connect", () => process.exit(0)).on("error", () => process.exit(1))
' "$FOLDER/warden.sock"
try plant sh -c 'echo x > "$FOLDER/x"'
try mount mount -t tmpfs x /mnt
try unmount umount /proc
try root setpriv --reuid=0 true
try new_namespace unshare --pid --fork --mount-proc true
echo done
`

for (const level of CONTAINMENT_LEVELS)
  t.test(`a workload of root's agent reaches what is its own alone: ${level}`, opts, async (t) => {
    const { url, sql } = await testDatabase(t)
    await shortLeases(sql, '10 s')
    const { agent, worker } = hosts(t, url)
    worker()
    const host = agent('host-a', {
      user: 'nobody',
      args: ['--containment', level],
    })
    await live(sql, 'host-a')
    const id = await deployment(sql, {
      command: '/bin/sh',
      args: ['-c', `${ATTACKS}; exec sleep 1000`],
      env: { AGENT: String(host.pid), FOLDER: host.folder, NODE: process.execPath },
    })
    const [assignment] = await sql<{ id: string }[]>`
      select a.id from mooring.assignment a where a.deployment_id = ${id}`
    const said = await waitFor(
      () => {
        const text = host.logOf(assignment!.id)
        return /^done$/m.test(text) ? text : null
      },
      { label: 'all attacks were tried', timeoutMs: PATIENCE_MS, show: () => host.stderr() },
    )
    const work = join(host.folder, 'work', assignment!.id)
    t.match(said, `uid 65534 groups 65534 home ${work} user nobody`)
    t.match(said, /NoNewPrivs: 1/)
    for (const set of ['CapEff', 'CapBnd', 'CapInh'])
      t.match(said, new RegExp(`${set}: 0{16}\\b`), `${set} is empty`)
    t.match(said, /Groups:\s+Cap/, 'no group of root is left')
    t.match(said, /^to-stderr$/m, 'it can open /dev/stderr again')
    const outcomes = Object.fromEntries(
      [...said.matchAll(/^(\w+) (ok|denied)$/gm)].map(([, name, how]) => [name, how]),
    )
    const { own_folder, home, new_namespace, ...others } = outcomes
    t.same({ own_folder, home }, { own_folder: 'ok', home: 'ok' })
    t.equal(Object.keys(others).length, 12)
    for (const [name, how] of Object.entries(others)) t.equal(how, 'denied', name)
    t.equal(statSync(work).uid, 65534)
    t.same(readdirSync(work).sort(), ['file', 'file2'])
    // what the kernel allows every user: a namespace of its own, in which it is still nobody
    t.ok(new_namespace)
  })

t.test('root that names no user, or one that cannot be, is told what to add', opts, async (t) => {
  const { url } = await testDatabase(t)
  const home = tempDir(t, 'closed')
  chmodSync(home, 0o700)
  const closed = join(home, 'state')
  mkdirSync(closed)
  for (const [user, state, error] of [
    [null, undefined, /this agent is root.*add --workload-user NAME/s],
    ['nobody-at-all', undefined, /no user "nobody-at-all".*useradd --system nobody-at-all/s],
    ['nobody', closed, new RegExp(`nobody cannot enter ${home},.*--state-dir`, 's')],
  ] as const) {
    const { agent } = hosts(t, url)
    const host = agent('host-a', { user, ...(state !== undefined && { state }) })
    t.equal((await host.exited).code, 2)
    t.match(host.stderr(), error)
  }
})
