/**
 * Cells that stand ready, so that a start need not wait for one: a few, made anew in the background when one is taken. Whoever finds none ready makes his own.
 *
 * A start never gets one that is dead, or that was made before the host's mounts changed: where mounts are private it would not show them.
 */
import { readMounts } from '../../host/mounts.js'
import type { Cell } from './namespace.js'

export interface Cells {
  /** Throws where none can be made. Its caller's from then on. */
  take(): Cell
  /** Ends those that are ready; none are made ahead any more. Idempotent. */
  close(): void
}

/** Two starts at a time are not rare: a deployment that is edited has two replicas. */
export const CELLS_READY = 2
/** Quiet after a start, before the next cell is made: what was started comes first, and a burst goes on undisturbed. */
const REFILL_AFTER_MS = 20
/** After one that died while it was ready, or could not be made: where that is so for good, trying costs a hundredth of a core. */
const REFILL_AFTER_LOSS_MS = 1_000

export function createCells(
  make: () => Cell,
  { ready = CELLS_READY, mounts = readMounts }: { ready?: number; mounts?: () => string } = {},
): Cells {
  let cells: { cell: Cell; mounts: string }[] = []
  let timer: NodeJS.Timeout | undefined
  let closed = false

  function refillIn(ms: number): void {
    clearTimeout(timer)
    if (!closed) timer = setTimeout(refill, ms).unref()
  }

  /** One at a time: each costs the warden a fork. */
  function refill(): void {
    if (cells.length >= ready) return
    try {
      add()
    } catch {
      return refillIn(REFILL_AFTER_LOSS_MS)
    }
    refillIn(REFILL_AFTER_MS)
  }

  function add(): void {
    const seen = mounts()
    const cell = make()
    cells.push({ cell, mounts: seen })
    void cell.ended.then(() => {
      const left = cells.filter((other) => other.cell !== cell)
      if (left.length === cells.length) return
      cells = left
      refillIn(REFILL_AFTER_LOSS_MS)
    })
  }

  if (ready > 0) refillIn(0)
  return {
    take() {
      refillIn(REFILL_AFTER_MS)
      const now = cells.length > 0 ? mounts() : ''
      for (const next of [...cells]) {
        const fit = next.mounts === now && next.cell.lives()
        // one that is being made is not waited for: what becomes of it is not known yet
        if (fit && !next.cell.stands()) continue
        cells.splice(cells.indexOf(next), 1)
        if (fit) return next.cell
        next.cell.kill()
      }
      return make()
    },
    close() {
      closed = true
      clearTimeout(timer)
      for (const { cell } of cells) cell.kill()
      cells = []
    },
  }
}
