/**
 * Lists of a command as SQL. They travel as JSON, because the connection knows no array types:
 * asking the server for them costs a round trip at every start (see database.ts).
 */
import type { Sql } from 'postgres'

/** A subquery of texts, for `in (...)`. */
export const textList = (sql: Sql, texts: readonly string[]) => sql`
  select u.text from jsonb_array_elements_text(${sql.json([...texts])}::jsonb) u (text)`

/** An array of the texts that can be an id, for `= any (...)`. */
export const idArray = (sql: Sql, ids: readonly string[]) => sql`
  array(
    select u.id::bigint
      from jsonb_array_elements_text(${sql.json([...ids])}::jsonb) u (id)
     where u.id ~ '^\\d{1,18}$')`
