import t from 'tap'
import { createBackoff } from '../../../host/backoff.js'
import { lastComplaint, RESTART_WAITS } from '../../../cli/up/child.js'

t.test('a child that keeps dying is started less and less often', async (t) => {
  const { firstBackoffMs, maxBackoffMs } = RESTART_WAITS
  const backoff = createBackoff(firstBackoffMs, maxBackoffMs, () => 1)
  t.same(
    [1, 2, 3, 4, 5, 6, 7].map(() => backoff.nextMs()),
    [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000],
  )
})

t.test('the reason of a death is the last thing it complained about', async (t) => {
  const info = '{"level":"info","msg":"process started"}'
  t.equal(
    lastComplaint([info, '{"level":"error","msg":"no way","err":{"message":"too steep"}}', info]),
    'no way: too steep',
  )
  t.equal(
    lastComplaint([info, 'error: the name is taken', 'hint: choose another']),
    'the name is taken',
  )
  t.equal(
    lastComplaint(['TypeError: x is not a function', '    at y (file:///z.js:1:1)']),
    'TypeError: x is not a function',
  )
  t.equal(lastComplaint(['ror","msg":"cut"}', info]), null)
  t.equal(lastComplaint(['']), null)
})
