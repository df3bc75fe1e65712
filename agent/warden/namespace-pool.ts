/**
 * Keeps a few namespaces ready, so that a start does not wait for one.
 *
 * take() removes a ready namespace, and the pool replaces it in the background. When none is ready,
 * take() makes one. It never returns a dead one, nor one that is older than the last change of the
 * host's mounts, because where mounts are private that one would not show them.
 */
import { readMounts } from '../../host/mounts.js'
import type { Namespace } from './namespace.js'

export interface NamespacePool {
  /** The caller owns what it gets. Throws when no namespace can be made. */
  take(): Namespace
  /** Ends the ready namespaces and makes no more. Idempotent. */
  close(): void
}

/** Two starts at a time are common: editing a deployment with two replicas causes two. */
export const NAMESPACES_READY = 2
/** Pause after a start, because starting workloads comes before refilling the pool. */
const REFILL_AFTER_MS = 20
/**
 * Pause after a ready namespace died, or could not be made. Where that is permanent, retrying each
 * second costs a hundredth of a core.
 */
const REFILL_AFTER_LOSS_MS = 1_000

export function createNamespacePool(
  make: () => Namespace,
  { ready = NAMESPACES_READY, mounts = readMounts }: { ready?: number; mounts?: () => string } = {},
): NamespacePool {
  let pool: { namespace: Namespace; mounts: string }[] = []
  let timer: NodeJS.Timeout | undefined
  let closed = false

  function refillIn(ms: number): void {
    clearTimeout(timer)
    if (!closed) timer = setTimeout(refill, ms).unref()
  }

  /** One namespace per call, because each costs the warden a fork. */
  function refill(): void {
    if (pool.length >= ready) return
    try {
      add()
    } catch {
      return refillIn(REFILL_AFTER_LOSS_MS)
    }
    refillIn(REFILL_AFTER_MS)
  }

  function add(): void {
    const mountsBefore = mounts()
    const namespace = make()
    pool.push({ namespace, mounts: mountsBefore })
    void namespace.ended.then(() => {
      const left = pool.filter((other) => other.namespace !== namespace)
      if (left.length === pool.length) return
      pool = left
      refillIn(REFILL_AFTER_LOSS_MS)
    })
  }

  if (ready > 0) refillIn(0)
  return {
    take() {
      refillIn(REFILL_AFTER_MS)
      const mountsNow = pool.length > 0 ? mounts() : ''
      for (const next of [...pool]) {
        const usable = next.mounts === mountsNow && next.namespace.isAlive()
        // take() does not wait for one in the making: it may still fail
        if (usable && !next.namespace.isReady()) continue
        pool.splice(pool.indexOf(next), 1)
        if (usable) return next.namespace
        next.namespace.kill()
      }
      return make()
    },
    close() {
      closed = true
      clearTimeout(timer)
      for (const { namespace } of pool) namespace.kill()
      pool = []
    },
  }
}
