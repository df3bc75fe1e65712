-- Default deny: nothing here is for PUBLIC. Whoever owns the schema uses it; give others what they need:
--   grant usage on schema mooring to app; grant select, insert, update, delete on mooring.deployment to app;
revoke all on all functions in schema mooring from public;
revoke all on all tables in schema mooring from public;
revoke all on schema mooring from public;
