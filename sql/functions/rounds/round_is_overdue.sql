-- A round is overdue after one and a quarter of its periods without work. It is also overdue when
-- its last work lies in the future by the clock. Then the answer to a heartbeat asks the agent to
-- run it.
-- That is sooner than the next beat by default. Otherwise an agent alone would tick with every
-- second beat, half a lease apart, which is an outage by the rules of notice_outage().
create or replace function mooring_internal.round_is_overdue(round mooring_internal.round)
  returns boolean
  language sql stable
return not round.done_at
  between clock_timestamp() - 1.25 * mooring_internal.round_interval(round.name)
      and clock_timestamp() + mooring_internal.round_interval(round.name);
comment on function mooring_internal.round_is_overdue(mooring_internal.round) is
  'True when the round''s work has not been done in time.';
