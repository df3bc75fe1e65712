// tsc writes no exec bit; `npx mooring` in a checkout needs it.
import { chmodSync } from 'node:fs'
import { join } from 'node:path'

chmodSync(join(import.meta.dirname, '..', 'dist', 'cli', 'main.js'), 0o755)
