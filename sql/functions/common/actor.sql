-- actor: who an event names. The login, which is proven, and in brackets what its client calls itself: "alice (psql)", "mooring (mooring worker: jobs)". The second half is any
-- text a client chooses, so it is cut, kept printable and free of brackets, and never believed: nothing is decided by it. The role comes first, whatever it says.
-- One expression that is inlined; statements that write thousands of rows ask once: (select mooring_internal.actor()).
create or replace function mooring_internal.actor() returns text
  language sql stable
return session_user || coalesce(' (' || nullif(btrim(translate(regexp_replace(left(current_setting('application_name', true), 63), '[^ -~]', '?', 'g'), '()', '[]')), '') || ')', '');
comment on function mooring_internal.actor() is 'Who acts: the login, and in brackets the application_name its client gave itself (unproven).';
