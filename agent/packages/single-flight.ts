/**
 * Work that several wait for is done once, at most `limit` pieces at a time, and is called off when nobody waits for it any more.
 * Failures are shared like results, with those who waited then; the next to ask begins anew.
 */
export interface SharedWork {
  share<T>(key: string, signal: AbortSignal, work: (own: AbortSignal) => Promise<T>): Promise<T>
}

interface Piece {
  promise: Promise<unknown>
  waiting: number
  own: AbortController
}

export function createSharedWork(limit: number): SharedWork {
  const pieces = new Map<string, Piece>()
  const queue: (() => void)[] = []
  let busy = 0

  const withSlot = async <T>(work: () => Promise<T>): Promise<T> => {
    if (busy >= limit) await new Promise<void>((resolve) => queue.push(resolve))
    else busy++
    try {
      return await work()
    } finally {
      // A slot is handed on, not freed, so that nobody can come between.
      const next = queue.shift()
      if (next) next()
      else busy--
    }
  }

  const begin = <T>(key: string, work: (own: AbortSignal) => Promise<T>): Piece => {
    const own = new AbortController()
    const promise = withSlot(async () => {
      own.signal.throwIfAborted()
      return work(own.signal)
    })
    const piece = { promise, waiting: 0, own }
    const forget = (): void => {
      if (pieces.get(key) === piece) pieces.delete(key)
    }
    promise.then(forget, forget)
    pieces.set(key, piece)
    return piece
  }

  return {
    share<T>(key: string, signal: AbortSignal, work: (own: AbortSignal) => Promise<T>): Promise<T> {
      if (signal.aborted) return Promise.reject(signal.reason as Error)
      const piece = pieces.get(key) ?? begin(key, work)
      piece.waiting++
      return new Promise<T>((resolve, reject) => {
        const leave = (): void => {
          reject(signal.reason as Error)
          if (--piece.waiting > 0) return
          // Nobody joins what is being called off.
          if (pieces.get(key) === piece) pieces.delete(key)
          piece.own.abort(signal.reason)
        }
        signal.addEventListener('abort', leave, { once: true })
        const done = (settle: () => void): void => {
          signal.removeEventListener('abort', leave)
          settle()
        }
        piece.promise.then(
          (result) => done(() => resolve(result as T)),
          (error: unknown) => done(() => reject(error as Error)),
        )
      })
    },
  }
}
