// Installs the schema of our jobs into GM_DBURL (set by graphile-migrate for its actions).
import pg from 'pg'
import { installJobsSchema } from '../dist/postgres/jobs-schema.js'

const pool = new pg.Pool({ connectionString: process.env.GM_DBURL, max: 1 })
pool.on('error', () => {})
await installJobsSchema(pool)
await pool.end()
