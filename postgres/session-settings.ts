/**
 * What every session of ours relies on. A role, a database or a server may have other defaults: an
 * application that is isolated serializable, dates of another style, a statement_timeout of 1 s.
 * The names are parameters of Postgres: https://www.postgresql.org/docs/17/runtime-config.html
 */
export const SESSION_SETTINGS = {
  client_encoding: 'UTF8',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
  standard_conforming_strings: 'on',
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  default_transaction_deferrable: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
} as const

/** As the startup parameter `options`; a blank is escaped there. */
export const settingOptions = (settings: Readonly<Record<string, string>>): string =>
  Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(/[\\ ]/g, '\\$&')}`)
    .join(' ')
