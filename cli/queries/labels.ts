/** Label selectors: the parts of one, and the condition they become. */
import type { Sql } from 'postgres'

/** One part of a label selector. For `exists` and `absent` the value is null. */
export interface Requirement {
  key: string
  op: 'is' | 'is_not' | 'exists' | 'absent'
  value: string | null
}

/** True for rows whose labels meet every requirement. Text is compared, so 5 equals "5". */
export function labelled(
  sql: Sql,
  labels: ReturnType<Sql>,
  requirements: readonly Requirement[] | undefined,
) {
  if (!requirements) return sql`true`
  return sql`(
    select coalesce(bool_and(case r.op
               when 'is' then ${labels} ->> r.key is not distinct from r.value
               when 'is_not' then ${labels} ->> r.key is distinct from r.value
               when 'exists' then ${labels} ? r.key
               when 'absent' then not ${labels} ? r.key
               else false end), false)
      from jsonb_to_recordset(${sql.json(requirements as never)}::jsonb)
           r (key text, op text, value text))`
}
