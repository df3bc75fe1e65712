import t from 'tap'
import { raceDeadline } from '../../host/deadline.js'

const never = new Promise<never>(() => {})

t.test('a result or a failure in time is passed on, and onLate is not called', async (t) => {
  const late = (): never => t.fail('it was not late') as never
  t.equal(await raceDeadline(60_000, Promise.resolve(7), late), 7)
  await t.rejects(raceDeadline(60_000, Promise.reject(new Error('no')), late), { message: 'no' })
})

t.test(
  'a late result is replaced or becomes a failure, and its own end has no effect',
  async (t) => {
    t.equal(await raceDeadline(1, never, () => 'nothing'), 'nothing')
    await t.rejects(
      raceDeadline(1, never, () => {
        throw new Error('too late')
      }),
      { message: 'too late' },
    )
    let fail = (_: Error): void => {}
    t.equal(
      await raceDeadline(
        1,
        new Promise<never>((_, reject) => {
          fail = reject
        }),
        () => null,
      ),
      null,
    )
    // an unhandled one would end this process
    fail(new Error('much later'))
    await new Promise((resolve) => {
      setImmediate(resolve)
    })
  },
)
