-- Default deny: PUBLIC gets nothing here. The owner of the schema uses it all. Rights of other
-- roles are in functions/roles/rights_of_roles.sql; set_up_roles() grants them.
revoke all on all routines in schema mooring, mooring_internal from public;
revoke all on all tables in schema mooring, mooring_internal from public;
revoke all on schema mooring, mooring_internal from public;
select from mooring.set_up_roles();
