/**
 * A control removes a guard by its text. Here each text is found once, so that no control proves
 * nothing.
 */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { CONTROLS } from '../../faults/controls.js'
import { definitionOf, mutate } from '../../faults/mutant.js'
import { testDatabase } from '../helpers/postgres.js'
import { MAIN } from '../helpers/root.js'

const DIST = join(dirname(MAIN), '..')

t.test('each guard that a control removes is where the control looks for it', async (t) => {
  const { sql } = await testDatabase(t)
  for (const { name, guard, always = [] } of CONTROLS) {
    for (const mutation of [...guard, ...always]) {
      const { in: where } = mutation
      const text =
        'file' in where
          ? readFileSync(join(DIST, where.file), 'utf8')
          : await definitionOf(sql, where.function)
      t.doesNotThrow(() => mutate(text, mutation), `${name}: ${mutation.find}`)
    }
  }
})

t.test('negative control: a text that is not there is refused', (t) => {
  const mutation = { in: { file: 'x.js' }, find: 'gone', put: '' }
  t.throws(() => mutate('here', mutation), /0 times/)
  t.throws(() => mutate('gone, gone', mutation), /2 times/)
  t.end()
})
