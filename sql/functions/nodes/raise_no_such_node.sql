-- Whoever mistypes a name is told the nearest ones. Alike are names that share many pairs of neighbouring letters: that finds swapped, missing and
-- added letters, needs no extension, and is one pass over the names.
create or replace function mooring.letter_pairs(word text) returns text[]
  language sql immutable parallel safe
return array(select distinct substr('^' || lower(word) || '$', g.at, 2) from generate_series(1, length(word) + 1) g (at));
comment on function mooring.letter_pairs(text) is 'Pairs of neighbouring letters of a word, its ends included.';

create or replace function mooring.no_such_node(name text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  typed text[] := mooring.letter_pairs(no_such_node.name);
  nearest text;
begin
  if no_such_node.name is null then
    raise exception using errcode = 'MR007', message = 'the name of a node is missing', hint = 'See mooring.node_status for the names there are.';
  end if;
  select string_agg(c.name, ', ' order by c.alike desc, c.name)
    into nearest
    from (select n.name, 2.0 * cardinality(array(select unnest(mooring.letter_pairs(n.name)) intersect select unnest(typed))) / nullif(cardinality(mooring.letter_pairs(n.name)) + cardinality(typed), 0) as alike
            from mooring.node n order by 2 desc, n.name limit 3) c;
  raise exception using errcode = 'MR003', message = format('there is no node %s', no_such_node.name), hint = coalesce('The nearest names are ' || nearest || '.', 'No node has registered yet: start an agent.');
end;
$$;
comment on function mooring.no_such_node(text) is 'Raises MR003 with the nearest names.';

create or replace function mooring.node_named(name text) returns mooring.node
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  node mooring.node;
begin
  select n.* into node from mooring.node n where n.name = node_named.name;
  if node.id is null then
    perform mooring.no_such_node(node_named.name);
  end if;
  return node;
end;
$$;
comment on function mooring.node_named(text) is 'The node of that name; raises MR003 with the nearest names where there is none.';

create or replace function mooring.no_such_assignment(id bigint) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  known text;
begin
  select string_agg(k.id::text, ', ' order by k.id) into known from (select a.id from mooring.assignment a order by abs(a.id - no_such_assignment.id), a.id limit 3) k;
  raise exception using errcode = 'MR003', message = format('there is no assignment %s', coalesce(no_such_assignment.id::text, 'null')),
    hint = coalesce('The nearest ids are ' || known || '; see mooring.placement.', 'There is none at all: insert a deployment.');
end;
$$;
comment on function mooring.no_such_assignment(bigint) is 'Raises MR003 with the nearest ids.';
