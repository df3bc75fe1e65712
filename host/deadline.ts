/** Waiting for an answer, but not for ever. */

/** What work comes to, or what late() says (or throws) when it takes longer than ms; what it comes to then is nobody's, and its failure no unhandled one. */
export async function inTime<T, Late>(
  ms: number,
  work: PromiseLike<T>,
  late: () => Late,
): Promise<T | Late> {
  let timer: NodeJS.Timeout | undefined
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  }).then(late)
  try {
    return await Promise.race([work, over])
  } finally {
    clearTimeout(timer)
  }
}
