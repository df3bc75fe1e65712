import {
  chmodSync,
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import postgres from 'postgres'
import t from 'tap'
import type { Test } from 'tap'
import { findBinaries } from '../../../postgres/embedded/binaries.js'
import {
  clusterUrl,
  ensureCluster,
  stopCluster,
  type ClusterOptions,
} from '../../../postgres/embedded/cluster.js'
import { makeServerRoot, serverRoot } from '../../../postgres/embedded/data-folder.js'
import { reachable, serverIdentity } from '../../../postgres/embedded/identity.js'
import { serverState } from '../../../postgres/embedded/postmaster.js'
import { program, tempDir } from '../../helpers/processes.js'
import { MAIN } from '../../helpers/root.js'
import { waitFor } from '../../helpers/wait-for.js'

/** A state folder whose server ends with the test. */
function stateOf(t: Test): ClusterOptions & { stateDir: string } {
  const options = { stateDir: join(tempDir(t), 'state'), durable: false }
  t.teardown(async () => void (await stopCluster(options)))
  return options
}

async function ask<T = string>(url: string, question: string): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} })
  try {
    const rows = await sql.unsafe<{ answer: T }[]>(question)
    return rows[0]?.answer as T
  } finally {
    await sql.end({ timeout: 1 })
  }
}

t.test(
  "a strange folder or link in the place of the server's is refused and left as it is",
  { skip: process.getuid?.() === 0 ? false : 'only root can make what belongs to others' },
  (t) => {
    const identity = serverIdentity()
    const stranger = 54_321
    for (const what of ['folder', 'link']) {
      const stateDir = tempDir(t)
      const [place, target] = [serverRoot(stateDir, identity), join(tempDir(t), 'target')]
      mkdirSync(target)
      if (what === 'folder') mkdirSync(place)
      else symlinkSync(target, place)
      lchownSync(place, stranger, stranger)
      t.throws(() => makeServerRoot(stateDir, identity), {
        message: `${place} is no folder of this user; remove it, or choose another state directory`,
      })
      t.same([lstatSync(place).uid, statSync(target).uid], [stranger, 0])
    }
    t.end()
  },
)

t.test(
  'a statement that fails, and the row it names, come into no log: they may hold secrets',
  async (t) => {
    const options = stateOf(t)
    const { url, dataDir } = await ensureCluster(options)
    await t.rejects(
      ask(
        url,
        `create table guarded (env text, n int check (n > 0));
         insert into guarded values ('hunter2', 0)`,
      ),
      { code: '23514', detail: /hunter2/ },
    )
    const log = readdirSync(join(dataDir, '..')).find((name) => name.endsWith('.log'))!
    t.match(readFileSync(join(dataDir, '..', log), 'utf8'), /violates check constraint/)
    t.notMatch(readFileSync(join(dataDir, '..', log), 'utf8'), /hunter2/)
  },
)

t.test(
  'two first starts at once make one cluster, and one of them says it started it',
  async (t) => {
    const options = stateOf(t)
    const [one, two] = await Promise.all([ensureCluster(options), ensureCluster(options)])
    t.equal(one.url, two.url)
    t.strictSame([one.started, two.started].sort(), [false, true])
    t.equal(await ask(one.url, 'select current_database() as answer'), 'mooring')
    const major = findBinaries(serverIdentity(), process.env, () => {}).major
    t.strictSame(
      readdirSync(join(one.dataDir, '..')).sort(),
      [`data-${major}`, `server-${major}.log`],
      'nothing of the loser is left',
    )
  },
)

t.test('a stopped server comes back with its data at its address', async (t) => {
  const options = stateOf(t)
  const first = await ensureCluster(options)
  await ask(first.url, 'create table kept as select 42 as answer')
  t.equal(await clusterUrl(options), first.url)
  await first.stop()
  await first.stop()
  t.equal(await clusterUrl(options), undefined)
  t.equal(await stopCluster(options), false)
  const second = await ensureCluster(options)
  t.equal(second.url, first.url)
  t.equal(await ask<number>(second.url, 'select answer from kept'), 42)
})

t.test('an address whose port somebody else has taken is given up', async (t) => {
  const options = stateOf(t)
  const first = await ensureCluster(options)
  await first.stop()
  const squatter = createServer().listen(Number(new URL(first.url).port), '127.0.0.1')
  t.teardown(() => squatter.close())
  const second = await ensureCluster(options)
  t.not(second.url, first.url)
  t.equal(await ask<number>(second.url, 'select 1 as answer'), 1)
})

t.test('a server that was killed starts again, with its old backends still ending', async (t) => {
  const options = stateOf(t)
  const first = await ensureCluster(options)
  const state = await serverState(first.dataDir)
  if (state.is !== 'ready') throw new Error('it has just been ready')
  const busy = postgres(first.url, { max: 1, onnotice: () => {}, onclose: () => {} })
  const query = busy`select pg_sleep(60)`.catch((error: Error) => error)
  await waitFor(
    async () =>
      (await ask<number>(
        first.url,
        `
          select count(*)::int as answer
          from pg_stat_activity a
          where a.query like 'select pg_sleep(60)'`,
      )) > 0,
    { label: 'a backend is busy' },
  )
  process.kill(state.pid, 'SIGKILL')
  const second = await ensureCluster(options)
  t.equal(second.started, true)
  t.equal(await ask<number>(second.url, 'select 1 as answer'), 1)
  await busy.end({ timeout: 0 })
  t.match(await query, Error)
})

t.test(
  'a lock file whose pid now belongs to another process does not keep the server down',
  async (t) => {
    const options = stateOf(t)
    const first = await ensureCluster(options)
    const lockFile = join(first.dataDir, 'postmaster.pid')
    const lock = readFileSync(lockFile, 'utf8')
    await first.stop()
    const owner = statSync(first.dataDir)
    writeFileSync(lockFile, lock.replace(/^\d+/, String(process.pid)))
    if (serverIdentity().uid !== undefined) chownSync(lockFile, owner.uid, owner.gid)
    t.equal((await ensureCluster(options)).started, true)
  },
)

t.test('PG* variables of the caller reach neither initdb nor the server', async (t) => {
  const options = stateOf(t)
  const meddling = {
    PGPORT: '1',
    PGHOST: '/nowhere',
    PGDATA: '/nowhere',
    PGUSER: 'nobody',
    PGOPTIONS: '-c search_path=nowhere',
    PGDATABASE: 'nowhere',
  }
  t.teardown(() => Object.keys(meddling).forEach((name) => delete process.env[name]))
  Object.assign(process.env, meddling)
  const { url } = await ensureCluster(options)
  for (const name of Object.keys(meddling)) delete process.env[name]
  t.equal(await ask(url, `select current_setting('search_path') as answer`), '"$user", public')
})

t.test(
  'settings hold for a start, values are quoted, and only tests give up durability',
  async (t) => {
    const options = stateOf(t)
    const { url } = await ensureCluster({
      ...options,
      settings: { max_connections: '17', cluster_name: `it's ours` },
    })
    t.equal(
      await ask(
        url,
        `select concat_ws(' ',
           current_setting('max_connections'),
           current_setting('cluster_name'),
           current_setting('fsync')) as answer`,
      ),
      `17 it's ours off`,
    )
    await stopCluster(options)
    const durable = await ensureCluster({ ...options, durable: true })
    t.equal(
      await ask(
        durable.url,
        `select concat_ws(' ',
           current_setting('max_connections'),
           current_setting('cluster_name'),
           current_setting('fsync')) as answer`,
      ),
      '300  on',
    )
  },
)

t.test('a setting the server refuses is an error that shows what the server said', async (t) => {
  const options = stateOf(t)
  await t.rejects(ensureCluster({ ...options, settings: { max_connections: 'many' } }), {
    message: /max_connections/,
  })
})

t.test('the password is needed, and only the server and its owner can read it', async (t) => {
  const { url, dataDir } = await ensureCluster(stateOf(t))
  await t.rejects(
    ask(Object.assign(new URL(url), { password: 'guess' }).href, 'select 1 as answer'),
    { code: '28P01' },
  )
  t.equal(statSync(join(dataDir, 'mooring.password')).mode & 0o077, 0)
  t.equal(statSync(dataDir).mode & 0o077, 0)
})

t.test('a state folder below a 0700 directory works, for root too', async (t) => {
  const closed = join(tempDir(t), 'closed')
  mkdirSync(closed, { mode: 0o700 })
  chmodSync(closed, 0o700)
  const options = { stateDir: join(closed, 'state'), durable: false }
  const { url, dataDir } = await ensureCluster(options)
  t.teardown(async () => {
    await stopCluster(options)
    rmSync(join(dataDir, '..'), { recursive: true, force: true })
  })
  t.equal(await ask<number>(url, 'select 1 as answer'), 1)
  t.equal(dataDir.startsWith(closed), serverIdentity().uid === undefined)
  t.equal(await clusterUrl(options), url)
})

t.test(
  'the server outlives the process that started it, and another process stops it',
  async (t) => {
    const options = stateOf(t)
    const env = {
      MOORING_STATE_DIR: options.stateDir,
      ...(process.env.PGBINDIR ? { PGBINDIR: process.env.PGBINDIR } : {}),
    }
    const up = program(t, process.execPath, [MAIN, 'db', 'up'], { env })
    t.match(await up.exited, { code: 0 })
    const url = await clusterUrl(options)
    t.equal(await ask<number>(url ?? '', 'select 1 as answer'), 1)
    t.notMatch(`${up.stdout()}${up.stderr()}`, new URL(url ?? '').password)
    const down = program(t, process.execPath, [MAIN, 'db', 'down'], { env })
    t.match(await down.exited, { code: 0 })
    t.equal(await clusterUrl(options), undefined)
  },
)

t.test('an ordinary user needs no other user', async (t) => {
  const other = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  const user = reachable(process.execPath, other) && reachable(join(MAIN, '..'), other) ? other : {}
  if (user !== other) t.comment('another user cannot reach this checkout: tried as ourselves')
  const folder = tempDir(t)
  chmodSync(folder, 0o777)
  const stateDir = join(folder, 'state')
  const mooring = async (...args: string[]) => {
    const run = program(t, process.execPath, [MAIN, ...args, '--state-dir', stateDir], {
      user,
      cwd: folder,
    })
    return { ...(await run.exited), said: `${run.stdout()}${run.stderr()}` }
  }
  t.match(await mooring('db', 'up'), { code: 0, said: /started/ })
  t.match(await mooring('migrate'), { code: 0, said: /migrated mooring/ })
  t.match(await mooring('db', 'down'), { code: 0, said: /stopped/ })
})
