// Installs graphile-worker's schema into GM_DBURL (set by graphile-migrate for its actions).
import { Logger, runMigrations } from 'graphile-worker'

await runMigrations({ connectionString: process.env.GM_DBURL, logger: new Logger(() => () => {}) })
