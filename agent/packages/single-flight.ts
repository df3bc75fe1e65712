/**
 * Work that several callers wait for is done once, with at most `limit` pieces at a time.
 *
 * A piece is aborted when its last caller has aborted. All callers share its result or its failure,
 * and the next call starts again. p-limit limits the number of pieces. The sharing is our own,
 * because each caller can leave alone.
 */
import pLimit from 'p-limit'

export interface SingleFlight {
  /** `own` aborts when the last caller of this key has aborted. */
  run<T>(key: string, signal: AbortSignal, work: (own: AbortSignal) => Promise<T>): Promise<T>
}

interface Flight {
  result: Promise<unknown>
  callers: number
  own: AbortController
}

export function createSingleFlight(limit: number): SingleFlight {
  const flights = new Map<string, Flight>()
  const limited = pLimit(limit)

  const begin = <T>(key: string, work: (own: AbortSignal) => Promise<T>): Flight => {
    const own = new AbortController()
    const result = limited(() => {
      own.signal.throwIfAborted()
      return work(own.signal)
    })
    const flight = { result, callers: 0, own }
    const forget = (): void => {
      if (flights.get(key) === flight) flights.delete(key)
    }
    result.then(forget, forget)
    flights.set(key, flight)
    return flight
  }

  return {
    run<T>(key: string, signal: AbortSignal, work: (own: AbortSignal) => Promise<T>): Promise<T> {
      if (signal.aborted) return Promise.reject(signal.reason as Error)
      const flight = flights.get(key) ?? begin(key, work)
      flight.callers++
      return new Promise<T>((resolve, reject) => {
        const leave = (): void => {
          reject(signal.reason as Error)
          if (--flight.callers > 0) return
          // a later caller must not join an aborted flight
          if (flights.get(key) === flight) flights.delete(key)
          flight.own.abort(signal.reason)
        }
        signal.addEventListener('abort', leave, { once: true })
        const done = (settle: () => void): void => {
          signal.removeEventListener('abort', leave)
          settle()
        }
        flight.result.then(
          (result) => done(() => resolve(result as T)),
          (error: unknown) => done(() => reject(error as Error)),
        )
      })
    },
  }
}
