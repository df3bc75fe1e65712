-- Compares the grants with what set_up_roles() gives: grants that are missing, grants that were
-- added by hand, and the caller's own role.
create or replace function mooring_internal.doctor_rights()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  groups text[] := array(
    select k
      from jsonb_object_keys(mooring_internal.rights_of_roles() -> 'verbs') k
     order by 1);
  absent text[];
  member_of text[];
  g record;
begin
  absent := array(
    select r
      from unnest(groups) r
     where to_regrole(r) is null
     order by 1);
  member_of := array(
    select r
      from unnest(groups) r
     where to_regrole(r) is not null
       and pg_has_role(session_user, to_regrole(r), 'member')
     order by 1);
  return query
    select 'your role',
        case
          when mooring_internal.is_schema_owner() or member_of && '{mooring_viewer}' then 'ok'
          else 'warning'
        end,
        case
          when mooring_internal.is_schema_owner() then format(
            '%s acts as the owner of the schema: everything is allowed', session_user)
          when member_of = '{}' then format(
            '%s is a member of none of %s', session_user, array_to_string(groups, ', '))
          else format('%s is a member of %s', session_user, array_to_string(member_of, ', '))
        end,
        case
          when not mooring_internal.is_schema_owner() and not member_of && '{mooring_viewer}'
            then format(
              'grant mooring_viewer to %I; (mooring_operator: also to change things)',
              session_user)
        end;
  return query
    select 'roles',
        case when absent = '{}' then 'ok' else 'warning' end,
        case
          when absent = '{}' then array_to_string(groups, ', ')
          else format(
            'there is no %s: only the owner''s login has these rights',
            array_to_string(absent, ', '))
        end,
        case
          when absent <> '{}'
            then 'as a role that may create roles: '
              'mooring migrate, or select * from mooring.set_up_roles();'
        end;
  select array_agg(
        format('%s lacks %s on %s', d.role, lower(d.privilege), d.object)
        order by 1) filter (where d.intended) as missing,
      array_agg(
        format('%s on %s for %s', lower(d.privilege), d.object, d.role)
        order by 1) filter (where d.role = 'PUBLIC' and not d.intended) as public,
      array_agg(
        format('%s on %s for %s', lower(d.privilege), d.object, d.role)
        order by 1) filter (where d.role <> 'PUBLIC' and not d.intended) as extra
    into g
    from (
      (
        select i.role, i.privilege, i.object || coalesce('.' || i.col, '') as object,
            true as intended
          from mooring_internal.intended_grants() i
         where to_regrole(i.role) is not null
        except all
        select a.role, a.privilege, a.object || coalesce('.' || a.col, ''), true
          from mooring_internal.actual_grants() a)
      union all
      (
        select a.role, a.privilege, a.object || coalesce('.' || a.col, ''), false
          from mooring_internal.actual_grants() a
        except all
        select i.role, i.privilege, i.object || coalesce('.' || i.col, ''), false
          from mooring_internal.intended_grants() i)) d;
  return query
    select 'grants',
        case when g.missing is null then 'ok' else 'problem' end,
        coalesce(
          cardinality(g.missing) || ' are missing: '
            || mooring_internal.abbreviate_list(g.missing),
          'each role has what set_up_roles() gives it'),
        case
          when g.missing is not null
            then 'mooring migrate, or as the owner: select * from mooring.set_up_roles();'
        end;
  return query
    select 'grants to all',
        case when g.public is null then 'ok' else 'problem' end,
        coalesce(
          'PUBLIC may ' || mooring_internal.abbreviate_list(g.public),
          'PUBLIC may do nothing in the schemas'),
        case
          when g.public is not null
            then 'revoke all on all functions in schema mooring, mooring_internal from public; '
              'revoke all on all tables in schema mooring, mooring_internal from public;'
        end;
  return query
    select 'added grants',
        case when g.extra is null then 'ok' else 'warning' end,
        coalesce(
          'granted by hand: ' || mooring_internal.abbreviate_list(g.extra),
          'none besides those of set_up_roles()'),
        case
          when g.extra is not null
            then 'revoke this, and give a login its group instead (docs/security.md); '
              'set_up_roles() restores the rights of the four groups'
        end;
end;
$$;
comment on function mooring_internal.doctor_rights() is
  'Theme of doctor(): the caller''s role, and grants against what set_up_roles() gives.';
