-- Hints save time and are never needed: the next beat or round finds what they tell of.
-- A notification fails the commit of its transaction where the queue is full, and it fails `prepare
-- transaction`. So no hint is sent while the queue is more than half full, nor in a session that
-- has `set mooring.hints = off`.
create or replace function mooring_internal.may_notify() returns boolean
  language sql volatile
return coalesce(current_setting('mooring.hints', true), '') <> 'off'
  and pg_notification_queue_usage() < 0.5;
comment on function mooring_internal.may_notify() is
  'False while a notification could fail the transaction that sends it.';
