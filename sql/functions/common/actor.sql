-- The name an event gives to its cause: the login, then in brackets the client's own name.
-- Examples: "alice (psql)", "mooring (mooring worker: jobs)".
-- The login is proven. The client chooses the second part freely, so nothing is decided by it.
-- That part is cut, made printable and stripped of brackets, and it always stands second.
-- One expression, so that it inlines. A statement that writes thousands of rows evaluates it once:
-- (select mooring_internal.actor()).
create or replace function mooring_internal.actor() returns text
  language sql stable
return session_user || coalesce(
  ' (' || nullif(
    btrim(translate(
      regexp_replace(
        left(current_setting('application_name', true), 63),
        '[^ -~]',
        '?',
        'g'),
      '()',
      '[]')),
    '') || ')',
  '');
comment on function mooring_internal.actor() is
  'Who acts: the login, and in brackets the application_name its client chose (unproven).';
