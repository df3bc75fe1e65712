/**
 * The clock of leases. The monotonic clock of a process stands still while a laptop or a virtual
 * machine sleeps, and a lease does not; the boot clock counts the sleep too.
 */
import { uptime } from 'node:os'

/** Milliseconds since the machine booted, suspension included. */
export type BootClock = () => number
export const bootClock: BootClock = () => Math.round(uptime() * 1000)

/** os.uptime() counts in hundredths of a second, rounded down: "now" may be that much later than it says. */
export const CLOCK_GRAIN_MS = 10
/** Timers sleep on the monotonic clock. Looking at the boot clock this often finds a suspension soon after waking up. */
export const LONGEST_SLEEP_MS = 1_000
