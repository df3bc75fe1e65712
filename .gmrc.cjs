// For graphile-migrate's own command line and for scripts/migration-commit.mjs.
// `mooring migrate` does not read this file. It runs migrations/committed with the same pgSettings
// (postgres/migrate/steps.ts).
module.exports = {
  migrationsFolder: `${__dirname}/migrations`,
  // an unqualified name must fail and not find something by chance
  pgSettings: { search_path: 'pg_catalog' },
  // our triggers call mooring_jobs.add_job, so that schema comes first
  // the shadow database needs it too
  afterReset: [
    { _: 'command', command: `node ${JSON.stringify(`${__dirname}/scripts/worker-schema.mjs`)}` },
  ],
  blankMigrationContent:
    '-- The next migration; its first line is a header "--! Message: what-it-does".\n',
}
