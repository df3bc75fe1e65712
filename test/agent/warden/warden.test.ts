/**
 * The warden alone, with real processes and a clock that the test moves.
 * For agent and warden together see client.test.ts and e2e/takeover.test.ts.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { withRunIdPrefix } from '../../../host/process-table.js'
import type { Doomed } from '../../../agent/warden/dead-man.js'
import { createLocalRunner } from '../../../agent/warden/local-runner.js'
import { createWarden } from '../../../agent/warden/warden.js'
import type { WardenOptions } from '../../../agent/warden/warden.js'
import type { FromWarden, LeaseTerm } from '../../../agent/warden/protocol.js'
import { signalProcess } from '../../../agent/warden/process-tree.js'
import { waitFor } from '../../helpers/wait-for.js'
import { temporaryFolder } from '../rig.js'

let tests = 0

function warden(t: Test, more: Partial<WardenOptions> = {}) {
  const prefix = `warden-test-${process.pid}-${++tests}.`
  const clock = { nowMs: 1_000_000 }
  const heard: FromWarden[] = []
  const armed: (readonly Doomed[])[] = []
  let empty = 0
  let nr = 0
  const made = createWarden({
    id: 'w',
    containment: 'process-group',
    runner: createLocalRunner(),
    deadMan: { arm: (doomed) => armed.push(doomed) > 0 },
    onEmpty: () => void empty++,
    clock: () => clock.nowMs,
    ...more,
  })
  made.attach((message) => heard.push(message))
  t.teardown(async () => {
    for (const p of withRunIdPrefix(prefix)) signalProcess(p, 'SIGKILL')
    await waitFor(() => made.running() === 0, { label: 'all have ended' })
  })
  const of = <T extends FromWarden['t']>(kind: T, id: string) =>
    heard.filter(
      (m): m is Extract<FromWarden, { t: T; runId: string }> =>
        m.t === kind && 'runId' in m && m.runId === prefix + id,
    )
  return {
    ...made,
    clock,
    heard,
    armed,
    of,
    runIdOf: (id: string) => prefix + id,
    empty: () => empty,
    alive: (id: string) => withRunIdPrefix(prefix + id).length > 0,
    renew: (...terms: LeaseTerm[]) => made.receive({ t: 'lease', nr: ++nr, terms }),
    /** The clock stands still, so no timer fires: a ping makes the warden check its deadlines. */
    at(ms: number) {
      clock.nowMs = 1_000_000 + ms
      made.receive({ t: 'lease', nr: ++nr, terms: [] })
    },
    start: (id: string, more: { epoch?: string; leased?: boolean; script?: string } = {}) =>
      made.receive({
        t: 'start',
        spec: {
          argv: ['sh', '-c', more.script ?? 'exec sleep 1000'],
          cwd: '/',
          env: { PATH: process.env['PATH']! },
          logFile: null,
          runId: prefix + id,
          about: {
            assignment_id: id,
            epoch: more.epoch ?? '1',
            generation: '1',
            stop_grace_ms: 60_000,
            leased: more.leased ?? true,
            restarts: 0,
          },
        },
      }),
    async runs(id: string) {
      await waitFor(() => of('started', id).length === 1, {
        label: `${id} runs`,
        show: () => heard,
      })
    },
  }
}

const term = (id: string, termAtMs: number, endAtMs: number, epoch = '1'): LeaseTerm => [
  id,
  epoch,
  1_000_000 + termAtMs,
  1_000_000 + endAtMs,
]

t.test(
  'what has no lease is not started, nor what is past its term, nor under another epoch',
  async (t) => {
    const w = warden(t)
    w.start('1')
    t.match(w.of('exit', '1'), [{ exit: { error: /lease it would run under is over/ } }])
    t.equal(w.of('gone', '1').length, 1)
    w.renew(term('2', 500, 800), term('3', 500, 800, '7'))
    w.start('3')
    await waitFor(() => w.of('gone', '3').length === 1, { label: 'the second is refused' })
    w.clock.nowMs += 500
    w.start('2')
    await waitFor(() => w.of('gone', '2').length === 1, { label: 'the third is refused' })
    t.equal(w.running(), 0)
  },
)

t.test(
  'at its term it is asked to end and says so; at the end of the lease it is dead',
  async (t) => {
    const w = warden(t)
    w.renew(term('1', 500, 800), term('2', 500, 800))
    const deaf = join(await temporaryFolder(t), 'deaf')
    w.start('1', { script: `trap "" TERM; : > '${deaf}'; while :; do sleep 0.02; done` })
    w.start('2')
    await Promise.all([w.runs('1'), w.runs('2')])
    await waitFor(() => existsSync(deaf), { label: 'it ignores SIGTERM by now' })
    w.at(499)
    t.equal(w.of('fenced', '1').length, 0)
    w.at(500)
    t.equal(w.of('fenced', '1').length + w.of('fenced', '2').length, 2)
    await waitFor(() => w.of('gone', '2').length === 1, { label: 'the polite one ends' })
    t.match(w.of('exit', '2'), [{ exit: { signal: 'SIGTERM' } }])
    w.at(800)
    await waitFor(() => w.of('gone', '1').length === 1, { label: 'the rude one is killed' })
    t.match(w.of('exit', '1'), [{ exit: { signal: 'SIGKILL' } }])
    t.equal(w.of('fenced', '1').length, 1, 'said once')
    t.ok(w.empty() > 0)
  },
)

t.test(
  'a deadline is moved on and never back; that of another epoch is another matter',
  async (t) => {
    const w = warden(t)
    w.renew(term('1', 500, 800))
    w.start('1')
    await w.runs('1')
    w.renew(term('1', 1_500, 1_800))
    w.renew(term('1', 700, 900))
    w.renew(term('1', 9_500, 9_800, '2'))
    w.at(1_499)
    t.equal(w.of('fenced', '1').length, 0)
    w.at(1_500)
    t.equal(w.of('fenced', '1').length, 1, 'what the next epoch may is nothing to this one')
  },
)

t.test('daemons and what is to be kept have no deadline, until they are given one', async (t) => {
  const w = warden(t)
  w.renew(['1', '1', null, null])
  w.start('1', { leased: false })
  w.start('2', { leased: false })
  await Promise.all([w.runs('1'), w.runs('2')])
  w.at(1_000_000_000)
  t.equal(w.of('fenced', '1').length + w.of('fenced', '2').length, 0)
  w.renew(['1', '1', w.clock.nowMs + 10, w.clock.nowMs + 20])
  w.at(1_000_000_010)
  t.equal(w.of('fenced', '1').length, 1, 'its deployment says on_lost = stop now')
})

t.test('it goes on without its agent, and the next agent learns everything', async (t) => {
  const w = warden(t)
  w.renew(term('1', 5_000, 8_000), term('2', 5_000, 8_000), term('3', 500, 60_000))
  for (const id of ['1', '2', '3'])
    w.start(id, { script: id === '2' ? 'exit 4' : 'exec sleep 1000' })
  await Promise.all([w.runs('1'), w.runs('3')])
  w.detach()
  w.clock.nowMs += 600
  w.receive({ t: 'lease', nr: 99, terms: [] })
  await waitFor(() => w.running() === 1, { label: 'what ended, and what lost its lease, are gone' })
  const received: FromWarden[] = []
  w.attach((message) => received.push(message))
  const hello = received[0]
  t.equal(hello?.t, 'hello')
  const running =
    hello?.t === 'hello'
      ? Object.fromEntries(hello.running.map((each) => [each.about.assignment_id, each]))
      : {}
  t.match(running['1'], { pid: Number, exit: null, fenced: false })
  t.match(running['3'], { exit: { signal: 'SIGTERM' }, fenced: true })
  t.match(
    received.slice(1).map(({ t }) => t),
    ['gone'],
  )
})

t.test('a start that fails in the warden is reported, and the next one is made', async (t) => {
  const host = createLocalRunner()
  const w = warden(t, {
    runner: {
      start: (spec) => {
        if (spec.about.assignment_id === '1')
          throw Object.assign(new Error('s3cret'), { code: 'EIO' })
        return host.start(spec)
      },
    },
  })
  w.start('1', { leased: false })
  w.start('2', { leased: false })
  await w.runs('2')
  t.match(w.of('exit', '1'), [{ exit: { error: 'cannot start: the warden failed (EIO)' } }])
  t.equal(w.of('gone', '1').length, 1)
})

t.test('exit is always reported before gone', async (t) => {
  const w = warden(t)
  const ids = Array.from({ length: 10 }, (_, nr) => `${nr}`)
  for (const id of ids) w.start(id, { leased: false })
  await Promise.all(ids.map(w.runs))
  for (const id of ids) w.receive({ t: 'end', runId: w.runIdOf(id), graceMs: 0 })
  await waitFor(() => ids.every((id) => w.of('gone', id).length === 1), { label: 'all are gone' })
  for (const id of ids)
    t.equal(
      w.heard.findIndex((m) => m === w.of('exit', id)[0]) <
        w.heard.findIndex((m) => m === w.of('gone', id)[0]),
      true,
    )
})

t.test('a dead-man timer that could not be started is tried again', async (t) => {
  let tries = 0
  const w = warden(t, { deadMan: { arm: () => ++tries > 2 } })
  w.renew(term('1', 5_000, 8_000))
  w.start('1')
  await w.runs('1')
  await waitFor(() => tries > 2, { label: 'it is armed at last' })
})

t.test('the dead-man timer always holds exactly what has a deadline', async (t) => {
  const w = warden(t)
  w.renew(term('1', 500, 800), term('2', 5_000, 8_000), ['3', '1', null, null])
  for (const id of ['1', '2', '3']) w.start(id)
  await Promise.all(['1', '2', '3'].map(w.runs))
  await waitFor(() => w.armed.at(-1)?.length === 2, { label: 'two are armed', show: () => w.armed })
  t.same(
    w.armed.at(-1)!.map(({ inMs }) => inMs),
    [800, 8_000],
  )
  w.clock.nowMs += 100
  w.renew(term('1', 1_500, 1_800))
  await waitFor(() => w.armed.at(-1)?.[0]?.inMs === 1_700, { label: 'moved on' })
  w.at(8_000)
  await waitFor(() => w.running() === 1 && w.armed.at(-1)?.length === 0, {
    label: 'nothing is left that has one',
  })
})

t.test(
  'many starts take one turn each, with answers in between; a cancelled one never runs',
  async (t) => {
    const w = warden(t)
    const ids = Array.from({ length: 20 }, (_, nr) => String(nr))
    w.renew(...ids.map((id) => term(id, 60_000, 90_000)))
    w.heard.length = 0
    for (const id of ids) w.start(id)
    w.receive({ t: 'end', runId: w.runIdOf('19'), graceMs: 1_000 })
    w.at(1)
    t.ok(w.heard.some((message) => message.t === 'ack'))
    t.ok(w.running() < ids.length - 1, 'before all have been started')
    await waitFor(() => ids.slice(0, -1).every((id) => w.of('started', id).length === 1), {
      label: 'all run but the last',
    })
    t.match(w.of('exit', '19'), [{ exit: { error: /cancelled/ } }])
    t.equal(w.of('gone', '19').length, 1)
    t.equal(w.of('started', '19').length, 0)
  },
)
