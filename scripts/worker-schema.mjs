// Installs the schema of our jobs into GM_DBURL (set by graphile-migrate for its actions).
import { installJobsSchema } from '../dist/postgres/jobs-schema.js'

await installJobsSchema({ connectionString: process.env.GM_DBURL })
