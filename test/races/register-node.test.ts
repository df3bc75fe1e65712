/**
 * Two agents run under one name: a copied start-up script, a machine cloned from an image, a
 * supervisor that starts the new one before the old one is gone. If both were admitted, each beat
 * of the one would keep alive what the other runs. Both would run everything the node owns.
 *
 * A name belongs to one session at a time. The second hears in how many milliseconds the name is
 * free. It gets the name when the lease of the first has ended, or at once when it names the
 * session it replaces. From then on every call of the first is rejected.
 */
import { randomUUID } from 'node:crypto'
import t from 'tap'
import {
  age,
  assignments,
  beat,
  deployments,
  node,
  report,
  type TestNode,
} from '../helpers/factories.js'
import { gateBefore, rewrite, stage, waitsFor } from './stage.js'

const FIRST = randomUUID()
const SECOND = randomUUID()

async function twoAgents(t: Parameters<typeof stage>[0]) {
  const pg = await stage(t)
  const [first, second] = [await pg.session('first agent'), await pg.session('second agent')]
  const registers = (who: typeof first, session: string, replaces: string | null = null) =>
    who.start(
      (sql) =>
        sql<{ node_id: number }[]>`
          select node_id
            from mooring.register_node(
              'host-a', ${session}, '.', '{npm}', replaces => ${replaces}
            )`,
    )
  const holder = async () => (await pg.sql`select h.session from mooring.heartbeat h`)[0]?.session
  return { pg, first, second, registers, holder }
}

const refusal = (error: unknown): { code: string; free_in_ms: number } => {
  const { code, detail } = error as { code: string; detail: string }
  return { code, ...(JSON.parse(detail) as { free_in_ms: number }) }
}

t.test(
  'of two that register a new name at once one wins, and the other hears when to come back',
  async (t) => {
    const { pg, first, second, registers, holder } = await twoAgents(t)
    await first.begin()
    await registers(first, FIRST).done
    const late = registers(second, SECOND)
    await waitsFor(t, pg, second, first)
    await first.commit()
    const answer = refusal(await late.done.catch((error: unknown) => error))
    t.equal(answer.code, 'MR002')
    t.ok(answer.free_in_ms > 0 && answer.free_in_ms <= 15_000, `free in ${answer.free_in_ms} ms`)
    t.equal(await holder(), FIRST)
  },
)

t.test('of two that register a name whose lease has ended at once one wins as well', async (t) => {
  const { pg, first, second, registers, holder } = await twoAgents(t)
  await node(pg.sql, { name: 'host-a', seen: '61 seconds ago' })
  await first.begin()
  await registers(first, FIRST).done
  const late = registers(second, SECOND)
  await waitsFor(t, pg, second, first)
  await first.commit()
  t.equal(refusal(await late.done.catch((error: unknown) => error)).code, 'MR002')
  t.equal(await holder(), FIRST)
})

t.test("the second is admitted when the first one's transaction rolls back", async (t) => {
  const { pg, first, second, registers, holder } = await twoAgents(t)
  await first.begin()
  await registers(first, FIRST).done
  const late = registers(second, SECOND)
  await waitsFor(t, pg, second, first)
  await first.rollback()
  await late.done
  t.equal(await holder(), SECOND)
})

t.test(
  'when the lease ends the second gets the name and the work, and calls of the first are rejected',
  async (t) => {
    const { pg, first, second, registers, holder } = await twoAgents(t)
    await registers(first, FIRST).done
    await deployments(pg.sql, 2)
    await pg.sql`select mooring.claim()`
    const [row] = await assignments(pg.sql)
    await pg.sql`update mooring.setting set reap_margin = '1 min'`
    await age(pg.sql, 'host-a', '30 seconds ago')
    t.equal(
      refusal(await registers(second, SECOND).done.catch((error: unknown) => error)).code,
      'MR002',
      'the lease is over, the margin is not',
    )
    await pg.sql`update mooring.setting set reap_margin = default`
    await age(pg.sql, 'host-a', '15.1 seconds ago')
    await registers(second, SECOND).done
    t.equal(await holder(), SECOND)
    const was: TestNode = { id: 0, name: 'host-a', session: FIRST }
    await t.rejects(beat(first.sql, was), { code: 'MR001' })
    await t.rejects(report(first.sql, was, row!, 'running'), { code: 'MR001' })
    await t.rejects(first.sql`select mooring.leave('host-a', ${FIRST})`, { code: 'MR001' })
    await t.rejects(first.sql`select * from mooring.assignments_of('host-a', ${FIRST})`, {
      code: 'MR001',
    })
    t.match(
      await beat(second.sql, { ...was, session: SECOND }),
      { owned: 2 },
      'the second one runs it',
    )
  },
)

t.test('the name is kept for as long as the longest lease that was given', async (t) => {
  const { pg, first, second, registers } = await twoAgents(t)
  await registers(first, FIRST).done
  await pg.sql`
    insert into mooring.deployment (package_name, lease_ttl) values ('http-server', '1 min')`
  await pg.sql`select mooring.claim()`
  await age(pg.sql, 'host-a', '20 seconds ago')
  const { code, free_in_ms } = refusal(
    await registers(second, SECOND).done.catch((error: unknown) => error),
  )
  t.equal(code, 'MR002')
  t.ok(free_in_ms > 33_000 && free_in_ms <= 43_000, `free in ${free_in_ms} ms`)
})

t.test(
  'a registration that names the live session replaces it; one that names an older one waits',
  async (t) => {
    const { first, second, registers, holder } = await twoAgents(t)
    await registers(first, FIRST).done
    await registers(second, SECOND, FIRST).done
    t.equal(await holder(), SECOND)
    t.equal(
      refusal(await registers(first, randomUUID(), FIRST).done.catch((error: unknown) => error))
        .code,
      'MR002',
    )
  },
)

t.test('of two that replace the same session one wins', async (t) => {
  const { pg, first, second, registers, holder } = await twoAgents(t)
  const { session } = await node(pg.sql, { name: 'host-a' })
  await first.begin()
  await registers(first, FIRST, session).done
  const late = registers(second, SECOND, session)
  await waitsFor(t, pg, second, first)
  await first.commit()
  t.equal(refusal(await late.done.catch((error: unknown) => error)).code, 'MR002')
  t.equal(await holder(), FIRST)
})

t.test('a beat that is on its way when the name is taken over comes too late', async (t) => {
  const { pg, first, second, registers } = await twoAgents(t)
  const was = await node(pg.sql, { name: 'host-a' })
  await second.begin()
  await registers(second, SECOND, was.session).done
  const beating = first.start(
    (sql) => sql`select * from mooring.heartbeat(${was.name}, ${was.session})`,
  )
  await waitsFor(t, pg, first, second)
  await second.commit()
  await t.rejects(beating.done, { code: 'MR001' })
})

t.test(
  'a beat that is not yet committed keeps the name: the second waits for it and is refused',
  async (t) => {
    const { pg, first, second, registers } = await twoAgents(t)
    const was = await node(pg.sql, {
      name: 'host-a',
      trusts: '.',
      drivers: ['npm'],
      seen: '61 seconds ago',
    })
    await first.begin()
    await beat(first.sql, was)
    const late = registers(second, SECOND)
    await waitsFor(t, pg, second, first)
    await first.commit()
    t.equal(refusal(await late.done.catch((error: unknown) => error)).code, 'MR002')
  },
)

t.test('a refused registration has changed nothing of the node', async (t) => {
  const { pg, second } = await twoAgents(t)
  await node(pg.sql, { name: 'host-a', labels: { zone: 'b' } })
  await deployments(pg.sql, 2)
  await pg.sql`select mooring.claim()`
  await t.rejects(
    second.sql`
      select *
        from mooring.register_node('host-a', ${SECOND}, '^nothing@', '{npm}', '{"zone": "c"}', 0)`,
    { code: 'MR002' },
  )
  t.match(await pg.sql`select trusts, labels, max_assignments from mooring.node`, [
    { trusts: '.', labels: { zone: 'b' }, max_assignments: null },
  ])
  t.match(await assignments(pg.sql), [{ wanted: 'run' }, { wanted: 'run' }])
})

t.test(
  'a reap in progress and a new session: the session waits, gets in, and owns nothing',
  async (t) => {
    const { pg, first: rounds, second, registers, holder } = await twoAgents(t)
    await node(pg.sql, { name: 'host-a', drivers: ['npm'] })
    await deployments(pg.sql, 2)
    await pg.sql`select mooring.claim()`
    await age(pg.sql, 'host-a', '61 seconds ago')
    await rounds.begin()
    t.equal((await rounds.sql`select * from mooring.reap()`).length, 2)
    const registering = registers(second, SECOND)
    await waitsFor(t, pg, second, rounds)
    await rounds.commit()
    await registering.done
    t.equal(await holder(), SECOND)
    t.match(await beat(pg.sql, { name: 'host-a', session: SECOND }), { owned: 0 })
  },
)

t.test(
  'negative control: judged without the lock, both believe that they have the name',
  async (t) => {
    const { pg, first, second, registers, holder } = await twoAgents(t)
    await node(pg.sql, { name: 'host-a', drivers: ['npm'], seen: '61 seconds ago' })
    await rewrite(pg.sql, 'register_node', [
      'where h.node = register_node.node\n       for update;',
      'where h.node = register_node.node;',
    ])
    await first.begin()
    await registers(first, FIRST).done
    const late = registers(second, SECOND)
    await waitsFor(t, pg, second, first)
    await first.commit()
    await late.done
    t.equal(await holder(), SECOND, 'a moment ago the first was confirmed to hold the name')
  },
)

for (const [order, moved] of [
  ['as it is', false],
  ['negative control: were it asked behind the nodes', true],
] as const) {
  t.test(
    'after an absence of all, the second host returns during a claim that knows ' +
      `the first: ${order}`,
    async (t) => {
      const pg = await stage(t)
      await pg.sql`update mooring.setting set return_wait = '5 min'`
      const both = [await node(pg.sql, { name: 'host-a' }), await node(pg.sql, { name: 'host-b' })]
      await deployments(pg.sql, 4)
      await pg.sql`select mooring.claim()`
      for (const { name, session } of both) await pg.sql`select mooring.leave(${name}, ${session})`
      for (const { name } of both) await age(pg.sql, name, '1 minute ago')
      await node(pg.sql, { name: 'host-a', came: '0 s' })
      const ask = 'awaited := mooring_internal.awaited_nodes();'
      const nodes = 'select array_agg(s) into nodes from mooring_internal.node_states() s;'
      const worker = await pg.session('worker')
      const gate = await gateBefore(pg, 'claim', nodes)
      if (moved) await rewrite(pg.sql, 'claim', [ask, ''], [nodes, `${nodes}\n${ask}`])
      await gate.stopHere(worker)
      const claiming = worker.start((sql) => sql`select * from mooring.claim()`)
      await waitsFor(t, pg, worker, gate.session)
      await node(pg.sql, { name: 'host-b', came: '0 s' })
      await gate.open()
      t.equal((await claiming.done).length, moved ? 4 : 0)
      // the one its registration asks for
      await pg.sql`select mooring.claim()`
      t.match(
        await pg.sql`select node, assignments from mooring.node_status order by node`,
        moved ? [{ assignments: 4 }, { assignments: 0 }] : [{ assignments: 2 }, { assignments: 2 }],
      )
    },
  )
}
