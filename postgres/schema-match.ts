/** Whether the schema of a database fits a program. Both count the committed migrations. */

export interface SchemaMismatch {
  /** Its subject is the schema or the database: "is older than this program". */
  problem: string
  remedy: string
}

/** Null: the versions are equal, which is the only match. */
export function schemaMismatch(
  databaseVersion: number,
  programVersion: number,
): SchemaMismatch | null {
  if (databaseVersion === programVersion) return null
  return databaseVersion > programVersion
    ? { problem: 'is newer than this program', remedy: 'update mooring on this host' }
    : { problem: 'is older than this program', remedy: 'run `mooring migrate`' }
}
