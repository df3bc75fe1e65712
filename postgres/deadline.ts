import { raceDeadline } from '../host/deadline.js'

/** Rejects with code CALL_DEADLINE when the database takes longer than deadlineMs to answer. */
export function answerWithin<T>(deadlineMs: number, question: PromiseLike<T>): Promise<T> {
  return raceDeadline(deadlineMs, question, () => {
    throw Object.assign(new Error(`the database did not answer within ${deadlineMs / 1000} s`), {
      code: 'CALL_DEADLINE',
    })
  })
}
