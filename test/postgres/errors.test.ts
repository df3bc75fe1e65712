import t from 'tap'
import { describeError, freeInMs, errorKind } from '../../postgres/errors.js'

const coded = (code: string, more: object = {}) =>
  Object.assign(new Error(`said with ${code}`), { code, ...more })

t.test('what to do about an error is decided by its code', (t) => {
  const kinds = {
    session_over: ['MR001', 'MR003'],
    name_taken: ['MR002'],
    refused: ['MR007'],
    unfit: ['MR009', '3F000', '42P01', '42883', '42501', '28P01', '28000', '3D000'],
    bad_value: ['22021', '22P05', '22P02', '23514', '23505'],
    retry: [
      'ECONNREFUSED',
      'ECONNRESET',
      'CONNECTION_CLOSED',
      'CALL_DEADLINE',
      '57P01',
      '57P03',
      '53300',
      '40001',
      '40P01',
      '55P03',
      '57014',
      '25006',
      'XX000',
    ],
  }
  for (const [kind, codes] of Object.entries(kinds))
    for (const code of codes) t.equal(errorKind(coded(code)), kind, code)
  t.equal(errorKind(new Error('no code at all')), 'retry')
  t.equal(errorKind('not even an error'), 'retry')
  t.equal(
    errorKind(new AggregateError([coded('ECONNREFUSED'), coded('EHOSTUNREACH')], '')),
    'retry',
  )
  t.end()
})

t.test('a log line shows what an error says, and neither its query nor its parameters', (t) => {
  const error = coded('42883', {
    hint: 'the way out',
    query: 'select $1',
    parameters: ['s3cret'],
    args: ['s3cret'],
  })
  t.same(describeError(error), { code: '42883', message: 'said with 42883', hint: 'the way out' })
  t.same(describeError(new AggregateError([coded('ECONNREFUSED')], '')), {
    code: 'ECONNREFUSED',
    message: 'said with ECONNREFUSED',
  })
  t.same(describeError(undefined), { message: 'undefined' })
  t.end()
})

t.test('a name that is taken says when it is free, and nothing else is believed', (t) => {
  t.equal(freeInMs(coded('MR002', { detail: '{"free_in_ms": 8400}' })), 8_400)
  for (const detail of [undefined, '', 'soon', '{}', '{"free_in_ms":"8"}', '[]'])
    t.equal(freeInMs(coded('MR002', { detail })), null, detail ?? 'no detail')
  t.equal(freeInMs(null), null)
  t.end()
})
