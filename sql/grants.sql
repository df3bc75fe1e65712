-- Default deny: PUBLIC gets nothing here. The owner of the schema uses it all. Rights of other
-- roles are in functions/roles/rights_of_roles.sql; set_up_roles() grants them.
select from mooring.set_up_roles();
