-- Default deny: nothing here is for PUBLIC. Whoever owns the schema uses it; what others may do is said by role in functions/roles/set_up_roles.sql.
revoke all on all routines in schema mooring, mooring_internal from public;
revoke all on all tables in schema mooring, mooring_internal from public;
revoke all on schema mooring, mooring_internal from public;
select from mooring.set_up_roles();
