/**
 * The clock of leases. A lease goes on while a laptop or a virtual machine sleeps.
 * The monotonic clock of a process stands still during that sleep; the boot clock counts it.
 */
import { uptime } from 'node:os'

/** Milliseconds since the machine booted, suspension included. */
export type BootClock = () => number
export const bootClock: BootClock = () => Math.round(uptime() * 1000)

/** os.uptime() counts hundredths of a second, rounded down. It may be this much later. */
export const CLOCK_GRAIN_MS = 10
/** Timers use the monotonic clock. Reading the boot clock this often finds a suspension soon. */
export const LONGEST_SLEEP_MS = 1_000
