import t from 'tap'
import { backoffMs, messageIn } from '../../cli/up-child.js'

t.test('a child that keeps dying is started less and less often', async (t) => {
  t.same([1, 2, 3, 4, 5, 6, 40].map(backoffMs), [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
})

t.test('the reason of a death is the last thing it said', async (t) => {
  t.equal(messageIn(['{"level":"info","msg":"started"}', '{"level":"error","msg":"no way","err":{"message":"too steep"}}']), 'no way: too steep')
  t.equal(messageIn(['error: the name is taken', 'hint: choose another']), 'error: the name is taken')
  t.equal(messageIn(['', 'plain text']), 'plain text')
  t.equal(messageIn(['']), null)
})
