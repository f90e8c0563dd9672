-- Traps in the schema public, for a search path on which it comes before
-- pg_catalog: for each name in the list that is given as the setting trap.names
-- (functions) a function of ours in the place of each that pg_catalog has, and
-- one of type name where a literal would match it better; likewise all
-- operators, types and relations. A trap that is called says so in the server's
-- log, which no rollback and no read-only transaction keeps it from.
SET search_path = pg_catalog;
SET client_min_messages = error;
SET check_function_bodies = off;

CREATE FUNCTION public.zz_true(what text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS
	$$ BEGIN RAISE LOG 'TRAP relation %', what; RETURN true; END $$;

DO $make$
DECLARE
	r record;
	n int := 0;
	made int := 0;
	wanted text[] := string_to_array(current_setting('trap.names'), ' ');
	symbols text[] := string_to_array(current_setting('trap.symbols'), ' ');
	every boolean := current_setting('trap.names') = '*';
	t text;
BEGIN
	-- Functions.
	FOR r IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS args, pg_get_function_result(p.oid) AS result
		FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'w') AND p.prosupport = 0
			AND (every OR p.proname = ANY (wanted))
		UNION SELECT p.proname, 'name', pg_get_function_result(p.oid)
		FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.pronargs = 1
			AND p.proargtypes[0] = 'text'::regtype AND (every OR p.proname = ANY (wanted))
	LOOP
		BEGIN
			EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', r.proname, r.args, r.result,
				format('BEGIN RAISE LOG %L; %s; END', 'TRAP function ' || r.proname,
					CASE WHEN r.result LIKE 'SETOF %' OR r.result LIKE 'TABLE%' OR r.result = 'void' THEN 'RETURN' ELSE 'RETURN NULL' END));
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN NULL; -- of a pseudo-type, which only C functions may have
		END;
	END LOOP;
	-- Aggregates.
	FOR r IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS args
		FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'a' AND (every OR p.proname = ANY (wanted))
	LOOP
		n := n + 1;
		BEGIN
			EXECUTE format('CREATE FUNCTION public.zz_state_%s(%s) RETURNS text LANGUAGE plpgsql AS %L', n,
				concat_ws(', ', 'text', nullif(r.args, '')), format('BEGIN RAISE LOG %L; RETURN NULL; END', 'TRAP aggregate ' || r.proname));
			EXECUTE format('CREATE AGGREGATE public.%I(%s) (SFUNC = public.zz_state_%s, STYPE = text)', r.proname,
				CASE WHEN r.args = '' THEN '*' ELSE r.args END, n);
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	-- Operators, and those between two values of one type that pg_catalog lacks.
	FOR r IN SELECT o.oprname, o.oprleft::regtype::text AS l, o.oprright::regtype::text AS r, o.oprresult::regtype::text AS result
		FROM pg_operator AS o WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprcode <> 0 AND o.oprleft <> 0
			AND o.oprname = ANY (symbols)
		UNION SELECT o.oprname, y.typ, y.typ, 'boolean' FROM pg_operator AS o,
			(VALUES ('name'), ('oid'), ('regclass'), ('"char"'), ('bigint'), ('xid'), ('inet')) AS y (typ)
		WHERE o.oprname IN ('=', '<>', '<', '>', '<=', '>=', '~', '!~', '~~', '!~~', '||', '-')
	LOOP
		n := n + 1;
		BEGIN
			EXECUTE format('CREATE FUNCTION public.zz_operator_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', n, r.l, r.r, r.result,
				format('BEGIN RAISE LOG %L; RETURN NULL; END', format('TRAP operator %s (%s, %s)', r.oprname, r.l, r.r)));
			EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.zz_operator_%s, LEFTARG = %s, RIGHTARG = %s)', r.oprname, n, r.l, r.r);
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	-- Types.
	FOREACH t IN ARRAY ARRAY['text', 'name', 'oid', 'int2', 'int4', 'int8', 'bool', 'float8', 'numeric', 'regclass', 'regtype',
		'regnamespace', 'regrole', 'timestamptz', 'interval', 'json', 'jsonb', 'bytea', 'pg_lsn', 'inet', 'xid', 'oidvector', 'int2vector']
	LOOP
		EXECUTE format('CREATE FUNCTION public.zz_check_%s(pg_catalog.%s) RETURNS boolean LANGUAGE plpgsql AS %L', t, t,
			format('BEGIN RAISE LOG %L; RETURN true; END', 'TRAP type ' || t));
		EXECUTE format('CREATE DOMAIN public.%s AS pg_catalog.%s CHECK (public.zz_check_%s(VALUE))', t, t, t);
		made := made + 1;
	END LOOP;
	-- Relations.
	FOR r IN SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v') LOOP
		BEGIN
			EXECUTE format('CREATE VIEW public.%I AS SELECT * FROM pg_catalog.%I WHERE public.zz_true(%L)', r.relname, r.relname, r.relname);
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN NULL; -- a column of a pseudo-type
		END;
	END LOOP;
	PERFORM set_config('trap.made', made::text, false);
END $make$;
