import t from 'tap'
import { fitting } from '../../../cli/terminal/listing.js'

t.test('a list that is longer than the terminal says how much of it is not shown', (t) => {
  const lines = Array.from({ length: 37 }, (_, nr) => `line ${nr}`)
  t.same(fitting(lines, 20), [...lines.slice(0, 18), '... 19 more'])
  t.same(fitting(lines.slice(0, 19), 20), lines.slice(0, 19), 'what fits is shown whole')
  t.same(fitting(lines, 1), ['... 37 more'])
  t.end()
})
