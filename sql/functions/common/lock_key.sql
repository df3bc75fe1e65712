-- Mooring's advisory locks by name. They use the two-key form: the first key stands for Mooring,
-- the second for the lock.
create or replace function mooring_internal.lock_key(name text) returns int
  language sql immutable parallel safe
return case name when 'placing' then 1
                 when 'waiting to place' then 2 end;
comment on function mooring_internal.lock_key(text) is
  'Second key of an advisory lock; the first is mooring_internal.lock_space().';
