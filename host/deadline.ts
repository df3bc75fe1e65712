/**
 * Resolves with the result of `work`, or with that of onLate() when `work` takes longer than ms.
 * Rejects when onLate() throws. A result that arrives later is dropped.
 * A later failure is not an unhandled rejection.
 */
export async function raceDeadline<T, Late>(
  ms: number,
  work: PromiseLike<T>,
  onLate: () => Late,
): Promise<T | Late> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  }).then(onLate)
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
