// A slice of a log on its way through the database: request_log -> log_requests_of -> answer_log ->
// read_log.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { Test } from 'tap'
import {
  age,
  assignments,
  deployment,
  node,
  report,
  type Db,
  type TestNode,
} from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'
import { claim, pattern, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** A node that owns one assignment. */
async function owned(sql: Db): Promise<{ host: TestNode; id: string; deployment: string }> {
  const host = await node(sql, { name: 'host-a' })
  const id = await deployment(sql)
  await claim(sql)
  return { host, id: (await assignments(sql, id))[0]!.id, deployment: id }
}

const ask = async (sql: Db, id: string, more = ''): Promise<string> =>
  (await sql.unsafe<{ r: string }[]>(`select mooring.request_log(${id}${more}) as r`))[0]!.r
const asked = (sql: Db, { name, session }: TestNode) =>
  sql`select r.* from mooring.log_requests_of(${name}, ${session}) r`

async function answer(
  sql: Db,
  { name, session }: TestNode,
  request: string,
  text: string,
  more: { next?: string | null; more?: boolean; error?: string | null } = {},
): Promise<boolean> {
  const data = more.error === undefined ? Buffer.from(text) : null
  const [row] = await sql<{ taken: boolean }[]>`
    select mooring.answer_log(
      ${name}, ${session}, ${request}, 0, ${data}, ${more.next ?? null}, ${more.more ?? false},
      ${text.length}, ${more.error ?? null}
    ) as taken`
  return row!.taken
}

const read = (sql: Db, request: string) => sql`select r.* from mooring.read_log(${request}) r`
const open = async (sql: Db): Promise<number> =>
  (await sql`select from mooring_internal.log_request`).length

story(
  'Y39: a slice is asked for, answered by the agent of the node, and read once',
  async (t, sql) => {
    const { host, id } = await owned(sql)
    const request = await ask(sql, id, ', from_byte => -1000')
    t.same(await read(sql, request), [], 'no row while it is not answered')
    t.match(await asked(sql, host), [
      {
        request,
        assignment_id: id,
        from_byte: '-1000',
        tail_lines: null,
        after: null,
        max_bytes: 131072,
        wait_ms: 0,
      },
    ])
    t.equal(
      await answer(sql, host, request, 'hello\n', { next: '0:6:6:0123456789abcdef', more: true }),
      true,
    )
    t.same(await asked(sql, host), [])
    t.equal(await answer(sql, host, request, 'again'), false, 'a second answer is rejected')
    t.match(await read(sql, request), [
      {
        assignment_id: id,
        node: 'host-a',
        start_byte: '0',
        data: Buffer.from('hello\n'),
        next: '0:6:6:0123456789abcdef',
        more: true,
        size: '6',
        error: null,
      },
    ])
    t.equal(await open(sql), 0, 'reading deletes it')
    await refused(t, sql, (sql) => read(sql, request), {
      code: 'MR003',
      hint: /read once, within a minute, and by the login that requested it/,
    })
  },
)

story(
  'a request without a word of where to begin is one for the last 200 lines',
  async (t, sql) => {
    const { host, id } = await owned(sql)
    await ask(sql, id)
    await ask(sql, id, `, after => '3:77:10:0123456789abcdef', max_bytes => 5, wait => '1 s'`)
    t.match(await asked(sql, host), [
      { tail_lines: 200, from_byte: null },
      { after: '3:77:10:0123456789abcdef', max_bytes: 5, wait_ms: Number },
    ])
  },
)

story(
  'the hint repeats once a second, but not to an agent that knows of the request',
  async (t, sql) => {
    const { host, id } = await owned(sql)
    const request = await ask(sql, id, `, wait => '20 s'`)
    const aSecondLater = async () => {
      await sql`
        update mooring_internal.log_request
           set requested_at = requested_at - interval '1.1 s',
               hinted_at = hinted_at - interval '1.1 s'`
      const hinted = async () =>
        (
          await sql<
            { at: string }[]
          >`select r.hinted_at::text as at from mooring_internal.log_request r`
        )[0]!.at
      const before = await hinted()
      await read(sql, request)
      return before !== (await hinted())
    }
    t.equal(await aSecondLater(), true)
    await asked(sql, host)
    t.equal(await aSecondLater(), false)
  },
)

story('Y39: what is huge, negative, infinite or twice said is refused by name', async (t, sql) => {
  const { id } = await owned(sql)
  for (const [args, message] of [
    [', max_bytes => 131073', /max_bytes is 131073/],
    [', max_bytes => 0', /max_bytes is 0/],
    [', max_bytes => -1', /max_bytes is -1/],
    [', max_bytes => null', /max_bytes is null/],
    [', tail_lines => -1', /tail_lines is -1/],
    [', tail_lines => 1000001', /tail_lines is 1000001/],
    [`, wait => '-1 s'`, /wait is -00:00:01/],
    [`, wait => '31 s'`, /wait is 00:00:31/],
    [', wait => null', /wait is null/],
    [', from_byte => 1, tail_lines => 1', /before the end, or at after: give one$/],
    [`, after => ''`, /'' is no place in a log/],
    [`, after => '../../etc/passwd'`, /is no place in a log/],
    [`, after => repeat('9', 100000)`, /is no place in a log/],
  ] as const)
    await refused(
      t,
      sql,
      (sql) => ask(sql, id, args),
      { code: 'MR007', message, hint: /./ },
      args.slice(0, 60),
    )
  for (const args of [
    ', from_byte => 9223372036854775808',
    `, wait => 'infinity'`,
    `, from_byte => 'NaN'`,
    `, tail_lines => 'NaN'`,
  ])
    await refused(
      t,
      sql,
      (sql) => ask(sql, id, args),
      { code: /^(22...|42883|MR007)$/ } as never,
      args,
    )
  t.equal(await open(sql), 0)
  await ask(sql, id, ', from_byte => 9223372036854775807')
  await ask(sql, id, ', from_byte => -9223372036854775808')
})

story(
  'the log is read where the assignment runs, else where it ran last, else on a named node',
  async (t, sql) => {
    const { host, id, deployment: of } = await owned(sql)
    const other = await node(sql, { name: 'host-b' })
    await ask(sql, id, `, node => 'host-b'`)
    t.equal((await asked(sql, other)).length, 1)
    const [{ epoch, generation } = { epoch: '', generation: '' }] = await assignments(sql, of)
    await sql`delete from mooring.deployment where id = ${of}`
    await report(sql, host, { id, epoch, generation }, 'stopped')
    t.same(await assignments(sql), [], 'its row is gone')
    await ask(sql, id)
    t.match(await asked(sql, host), [{ assignment_id: id }], 'its log is not')
    await refused(t, sql, (sql) => ask(sql, '987654'), {
      code: 'MR003',
      message: /there is no assignment 987654/,
    })
    await refused(t, sql, (sql) => ask(sql, 'null'), { code: 'MR003' })
    await refused(t, sql, (sql) => ask(sql, id, `, node => 'hots-a'`), {
      code: 'MR003',
      hint: /host-a/,
    })
    const waits = await deployment(sql, { selector: { zone: 'nowhere' } })
    await refused(t, sql, async (sql) => ask(sql, (await assignments(sql, waits))[0]!.id), {
      code: 'MR006',
      message: /has not run anywhere yet/,
      hint: new RegExp(`mooring\\.explain\\(${waits}\\)`),
    })
  },
)

story(
  'a node that does not answer is named, with its health, its last beat and what to do',
  async (t, sql) => {
    const { host, id } = await owned(sql)
    const request = await ask(sql, id)
    await sql`
      update mooring_internal.log_request set requested_at = clock_timestamp() - interval '11 s'`
    const hint = new RegExp(
      `mooring status\\. .*mooring history ${id} lists where else it ran: ` +
        `then mooring logs ${id} --node NAME`,
    )
    await refused(t, sql, (sql) => read(sql, request), {
      code: 'MR006',
      message: pattern(
        /node host-a does not answer, and the log is there: it is HEALTHY, its last /,
        /beat was \d+\.\d s ago/,
      ),
      hint,
    })
    await sql`update mooring_internal.log_request set wait = '30 s'`
    t.same(await read(sql, request), [], 'negative control: it is given its time')
    await age(sql, host.name, '42 seconds ago')
    await refused(
      t,
      sql,
      (sql) => ask(sql, id),
      { code: 'MR006', message: /it is STALE, its last beat was 4\d\.\d s ago/, hint },
      'one that is dead is not asked at all',
    )
    await node(sql, { name: 'host-new', seen: 'never' })
    await refused(t, sql, (sql) => ask(sql, id, `, node => 'host-new'`), {
      code: 'MR006',
      message: /UNKNOWN, it has never beaten/,
    })
  },
)

story(
  'requests are bounded: 150 of a login, 200 of a node; reading and time free them',
  async (t, sql) => {
    const { host, id } = await owned(sql)
    const requests = await sql<
      { r: string }[]
    >`select mooring.request_log(${id}::bigint) as r from generate_series(1, 150)`
    await refused(t, sql, (sql) => ask(sql, id), {
      code: 'MR007',
      message: /150 log requests of .+ are open/,
      hint: /read_log\(\) closes a request, and so does a minute without it/,
    })
    await answer(sql, host, requests[0]!.r, 'x')
    await refused(
      t,
      sql,
      (sql) => ask(sql, id),
      { code: 'MR007' },
      'an answer that is not read keeps its place',
    )
    await read(sql, requests[0]!.r)
    await ask(sql, id)
    await sql`
      update mooring_internal.log_request set requested_at = clock_timestamp() - interval '30 s'`
    await refused(
      t,
      sql,
      (sql) => ask(sql, id),
      { code: 'MR007' },
      'negative control: for a minute they count',
    )
    await sql`
      update mooring_internal.log_request
         set requested_at = clock_timestamp() - interval '61 s'
       where id = ${requests[1]!.r}`
    await ask(sql, id)
    await sql`update mooring_internal.log_request set requested_by = 'somebody'`
    await sql`select mooring.request_log(${id}::bigint) as r from generate_series(1, 50)`
    await refused(t, sql, (sql) => ask(sql, id), {
      code: 'MR007',
      message: /200 log requests are open at node host-a/,
    })
    t.equal(await open(sql), 200)
    await node(sql, { name: 'host-b' })
    await ask(sql, id, `, node => 'host-b'`)
  },
)

story(
  'unread answers are deleted after a minute: by the next request or answer and the prune round',
  async (t, sql) => {
    const { host, id } = await owned(sql)
    const grownOld = async (): Promise<string> => {
      const request = await ask(sql, id)
      await answer(sql, host, request, 'a secret')
      await sql`
        update mooring_internal.log_request
           set answered_at = clock_timestamp() - interval '61 s'
         where id = ${request}`
      return request
    }
    for (const deletes of [
      () => ask(sql, id),
      () => answer(sql, host, randomUUID(), ''),
      () => sql`select mooring.prune_events()`,
    ]) {
      const request = await grownOld()
      await deletes()
      t.same(await sql`select from mooring_internal.log_request r where r.id = ${request}`, [])
    }
  },
)

story(
  'an agent answers with a slice or an error, and with no more than it was asked for',
  async (t, sql) => {
    const { host, id } = await owned(sql)
    const request = await ask(sql, id, ', max_bytes => 10')
    await refused(t, sql, (sql) => answer(sql, host, request, 'x'.repeat(11)), {
      code: '23514',
      constraint_name: 'log_request_data_is_within_what_was_asked',
    })
    await refused(t, sql, (sql) => answer(sql, host, request, 'x'.repeat(131_073)), {
      code: 'MR007',
      message: /a slice of 131073 bytes/,
    })
    await refused(t, sql, (sql) => answer(sql, host, request, '', { next: 'x'.repeat(101) }), {
      code: '23514',
    })
    await refused(
      t,
      sql,
      (sql) =>
        sql`
          select mooring.answer_log(
            'host-a', ${host.session}, ${request}, null, null, null, null, null, null
          )`,
      { code: 'MR007', message: /a slice or an error/ },
    )
    await refused(
      t,
      sql,
      (sql) => answer(sql, { ...host, session: randomUUID() }, request, 'x'),
      { code: 'MR001' },
      'a session that is over',
    )
    await refused(t, sql, (sql) => asked(sql, { ...host, session: randomUUID() }), {
      code: 'MR001',
    })
    t.equal(await answer(sql, host, request, '', { error: 'e'.repeat(100_000) }), true)
    t.match(await sql`select length(r.error) as length from mooring.read_log(${request}) r`, [
      { length: 2000 },
    ])
  },
)

story('a node answers what it was asked itself, and nothing else', async (t, sql) => {
  const { host, id } = await owned(sql)
  const other = await node(sql, { name: 'host-b' })
  const request = await ask(sql, id)
  t.same(await asked(sql, other), [])
  t.equal(await answer(sql, other, request, 'forged'), false)
  t.same(await read(sql, request), [])
  t.equal(await answer(sql, host, request, 'true'), true, 'negative control')
})

story('bytes that are no text are shown with escapes', async (t, sql) => {
  const text = async (bytes: Buffer) =>
    (await sql<{ t: string }[]>`select mooring.log_text(${bytes}) as t`)[0]!.t
  t.equal(await text(Buffer.from('äöü 日本\n')), 'äöü 日本\n')
  t.equal(await text(Buffer.from([0x61, 0xff, 0x62])), 'a\\377b')
  t.equal(await text(Buffer.from([0x61, 0x00, 0x62])), 'a\\000b')
  t.equal(await text(Buffer.alloc(0)), '')
})

/** An agent that hears hints and answers each request with the next of these texts. */
async function answering(
  t: Test,
  sql: Awaited<ReturnType<typeof testDatabase>>['sql'],
  host: TestNode,
  texts: string[],
  deaf = 0,
): Promise<{ hints: string[] }> {
  const hints: string[] = []
  const listening = await sql.listen(`mooring_node_${host.id}`, (payload) => {
    hints.push(payload)
    if (payload !== 'log' || hints.filter((hint) => hint === 'log').length <= deaf) return
    void asked(sql, host).then(async (requests) => {
      for (const { request } of requests) {
        const text = texts.shift() ?? ''
        await answer(sql, host, request as string, text, {
          next: '0:1:1:0123456789abcdef',
          more: texts.length > 0,
        })
      }
    })
  })
  t.teardown(() => listening.unlisten())
  return { hints }
}

t.test(
  'Y39: call show_log() shows the last lines in psql, in one statement and many slices',
  async (t) => {
    const { sql } = await testDatabase(t)
    const { host, id } = await owned(sql)
    await answering(t, sql, host, ['one\nzwei: Ä', 'pfel\n', 'three\n'])
    t.same(await sql.unsafe(`call mooring.show_log(${id}, 3)`), [
      { log: 'one\nzwei: Äpfel\nthree\n' },
    ])
    t.equal(await open(sql), 0)
    await t.rejects(
      sql.begin((sql) => sql.unsafe(`call mooring.show_log(${id})`)),
      { code: 'MR008', hint: /request_log\(\), commit, and then/ },
      'in the middle of a transaction it says why it cannot',
    )
    await t.rejects(Promise.resolve(sql.unsafe('call mooring.show_log(987654)')), { code: 'MR003' })
  },
)

t.test('a lost notification costs a second: the waiting reader repeats it', async (t) => {
  const { sql } = await testDatabase(t)
  const { host, id } = await owned(sql)
  const { hints } = await answering(t, sql, host, ['here\n'], 1)
  const request = await ask(sql, id)
  const [row] = await waitFor(
    async () => {
      const rows = await read(sql, request)
      return rows.length > 0 ? rows : null
    },
    { label: 'it is answered', show: () => hints },
  )
  t.match(row, { data: Buffer.from('here\n') })
  // once when it was asked, and again while it waited: on a slow machine more than once
  t.ok(hints.length >= 2 && hints.every((hint) => hint === 'log'), hints.join(' '))
})
