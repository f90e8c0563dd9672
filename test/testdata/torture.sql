-- A database that is as hard to copy as PostgreSQL allows. Run it with psql as a
-- superuser in a new UTF8 database, after torture_globals.sql; PostgreSQL 15.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- Settings, access list and comment of the database itself.
SELECT format($$
ALTER DATABASE %1$I OWNER TO "torture Owner";
ALTER DATABASE %1$I SET search_path = "we ""ird" , public, "$user";
ALTER DATABASE %1$I SET "DateStyle" = 'SQL, DMY';
ALTER DATABASE %1$I SET timezone = 'Asia/Kathmandu';
ALTER DATABASE %1$I SET "torture.custom" = E'it''s a \\ test';
ALTER DATABASE %1$I SET default_transaction_read_only = off;
ALTER ROLE torture_reader IN DATABASE %1$I SET statement_timeout = '7s';
REVOKE ALL ON DATABASE %1$I FROM PUBLIC;
GRANT CONNECT ON DATABASE %1$I TO torture_reader;
GRANT CREATE, TEMPORARY ON DATABASE %1$I TO torture_writer WITH GRANT OPTION;
ALTER DATABASE %1$I CONNECTION LIMIT 90;
COMMENT ON DATABASE %1$I IS 'Tor''ture \ ünïcode "and" more';
$$, current_database()) AS statements \gset
:statements

-- Names.
CREATE SCHEMA "we ""ird";
CREATE SCHEMA "UPPER lower" AUTHORIZATION "torture Owner";
CREATE SCHEMA "new
line";
CREATE SCHEMA "select";
CREATE SCHEMA "schéma_ünï_日本";
CREATE SCHEMA types;
CREATE SCHEMA parts;
CREATE SCHEMA code;
COMMENT ON SCHEMA "new
line" IS 'a name of two lines';

CREATE TABLE "we ""ird"."ta""ble with 'quotes' and \backslash" (
    "co""lumn" int PRIMARY KEY, "sp ace" text, "CamelCase" text, "select" text, "new
line" text, "ünï" text, "dollar$" text, "a.b" text, " " text
);
INSERT INTO "we ""ird"."ta""ble with 'quotes' and \backslash"
SELECT n, 'tab' || chr(9) || 'nl' || chr(10) || 'cr' || chr(13) || 'bs\', '\.', '\N', '', NULL, 'x'
FROM generate_series(1, 20) AS n;
CREATE INDEX "in""dex" ON "we ""ird"."ta""ble with 'quotes' and \backslash" ("sp ace", ("a.b" || '"'));
CREATE TABLE "select"."table" ("from" int, "where" text DEFAULT 'COPY x FROM stdin;');
INSERT INTO "select"."table" VALUES (1), (2), (3);
CREATE TABLE "new
line"."ta
ble" ("co
l" int DEFAULT 7, note text);
INSERT INTO "new
line"."ta
ble" VALUES (DEFAULT, E'\\.\nCOPY t FROM stdin;\n\\.\n'), (8, E'\\.');
CREATE TABLE "schéma_ünï_日本"."表" ("列" text, "emoji 🩺" text);
INSERT INTO "schéma_ünï_日本"."表" VALUES ('値', '🩺'), (U&'\FEFF', U&'e\0301');
CREATE TABLE "UPPER lower"."a name that is exactly sixty-three bytes long, as many as fit xx" (i int);
INSERT INTO "UPPER lower"."a name that is exactly sixty-three bytes long, as many as fit xx" VALUES (1);

-- Types of our own.
CREATE TYPE types.mood AS ENUM ('sad', 'o''k', '"happy"', 'ünï', '');
ALTER TYPE types.mood ADD VALUE 'between' BEFORE 'o''k';
CREATE TYPE types."Comp osite" AS (a int, "B b" text, c types.mood[]);
CREATE SEQUENCE types.domain_default;
SET search_path = types, public;
-- Its default is stored as text that leaves out the schema of the search path.
CREATE DOMAIN numbered AS bigint DEFAULT nextval('domain_default') NOT NULL;
RESET search_path;
CREATE DOMAIN types.percent AS numeric(5, 2) DEFAULT 50 CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN types.status AS varchar(10) CHECK (VALUE IN ('open', 'closed'));
CREATE TYPE types.floatrange AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN types.nested AS types."Comp osite"[] CHECK (array_length(VALUE, 1) < 9);
COMMENT ON CONSTRAINT percent_check ON DOMAIN types.percent IS 'of a hundred';

CREATE TABLE types.everything (
    id int GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 3) PRIMARY KEY,
    i2 smallint, i4 int, i8 bigint, n numeric, n1 numeric(1000, 500), n2 numeric(3, -2), f4 real, f8 float8, m money,
    b boolean, t text, vc varchar(20), c char(10), ch "char", nm name, by bytea,
    d date, ti time, tiz timetz, ts timestamp, tz timestamptz(3), iv interval, iv2 interval year to month,
    u uuid, j json, jb jsonb, jp jsonpath, x xml, ip inet, ci cidr, ma macaddr, ma8 macaddr8,
    bi bit(5), vb bit varying, pt point, ln line, ls lseg, bx box, pa path, po polygon, ce circle,
    tv tsvector, tq tsquery, i4r int4range, nr numrange, tr tstzrange, dr daterange, i4m int4multirange, tm tstzmultirange,
    o oid, rc regclass, rt regtype, lsn pg_lsn, xid xid8, snap pg_snapshot,
    ai int[], aai int[][], at text[], ats timestamptz[], ab bytea[], aj jsonb[], ac types."Comp osite"[], am types.mood[],
    mood types.mood, comp types."Comp osite", pc types.percent, st types.status, nested types.nested, fr types.floatrange
);
INSERT INTO types.everything (i2, i4, i8, n, n1, n2, f4, f8, m, b, t, vc, c, ch, nm, by, d, ti, tiz, ts, tz, iv, iv2,
    u, j, jb, jp, x, ip, ci, ma, ma8, bi, vb, pt, ln, ls, bx, pa, po, ce, tv, tq, i4r, nr, tr, dr, i4m, tm, o, rc, rt, lsn, xid, snap,
    ai, aai, at, ats, ab, aj, ac, am, mood, comp, pc, st, nested, fr)
VALUES
(-32768, -2147483648, -9223372036854775808, 'NaN', ('1' || repeat('0', 490) || '.' || repeat('9', 500))::numeric, 12300,
    '-Infinity', 'NaN', '-92233720368547758.08', true, repeat('ü', 3000), 'trailing  ', 'pad', 'é', 'name', '\x00ff00',
    '-infinity', '24:00:00', '23:59:59.999999-15:59', 'infinity', '-infinity', '-178000000 years', '-1 year -1 month',
    '00000000-0000-0000-0000-000000000000', '{"a" :  1, "a": 2}', '{"n": 1e400, "u": "\u00e9", "e": {}, "a": []}', '$.a[*] ? (@ > 1)',
    '<a b="c">&amp;<!-- c --></a>', '::1/128', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:ff:fe:01:02:03', B'10101', B'',
    '(1e300,-0)', '{1,2,3}', '[(0,0),(1,1)]', '((1,1),(0,0))', '[(0,0),(1,1)]', '((0,0),(1,1),(1,0))', '<(0,0),0>',
    '''a b'':1A cat:2,3', '''a'' & !''b c'':*', 'empty', '(,)', '[2020-01-01,infinity)', '[,2020-01-01)', '{}', '{[2020-01-01,2021-01-01),[2022-01-01,)}',
    4294967295, 'pg_catalog.pg_class', 'int', 'FFFFFFFF/FFFFFFFF', '18446744073709551615', '10:20:10,14,15',
    '{}', '[2:3][-1:0]={{1,2},{3,NULL}}', ARRAY['', NULL, 'NULL', '"', '\', '{', ','], '{infinity,"2000-01-01 00:00:00+00"}', ARRAY['\x00'::bytea, ''],
    ARRAY['{"a": [1, "}"]}', 'null'::jsonb], ARRAY[ROW(1, 'x,"y"', '{sad,"o''k"}')::types."Comp osite", NULL], '{"\"happy\"",""}',
    '', ROW(NULL, '', '{}'), 100, 'open', ARRAY[ROW(2, NULL, NULL)::types."Comp osite"], '[-Infinity,Infinity]'),
(32767, 2147483647, 9223372036854775807, 'Infinity', -0.1, -99900, '1e-45', '5e-324', '92233720368547758.07', false, '', '', '', '', '', '',
    'infinity', '00:00:00', '00:00:00+15:59', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999+00', '1 mon -1 day +00:00:00.000001', '178000000 years',
    'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', 'null', 'strict $', 'text only', '255.255.255.255/0', '::/0', '00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff:ff:ff',
    B'00000', B'1', '(NaN,Infinity)', '{0,-1,0}', '[(1,1),(1,1)]', '((0,0),(0,0))', '((0,0),(1,1))', '((0,0))', '<(1e-300,2),1e300>', '', '',
    '[1,5)', '[-Infinity,Infinity]', 'empty', '[4713-01-01 BC,5874897-12-31)', '{[1,2),[5,)}', '{}', 0, NULL, 'types.mood', '0/0', '3', '1:1:',
    '{1,NULL,3}', '{{{1}}}', '{}', '{-infinity}', '{}', '{}', '{}', '{}', 'between', NULL, 0, 'closed', NULL, 'empty');
INSERT INTO types.everything (n, f8) VALUES (NULL, '-0'), ('-Infinity', 1.7976931348623157e308), (1e-16000, 0.1 + 0.2);
CREATE TABLE types.numbers (id types.numbered, other int DEFAULT 1);
INSERT INTO types.numbers (other) SELECT n FROM generate_series(1, 5) AS n;
CREATE TABLE types.of_type OF types."Comp osite" (PRIMARY KEY (a));
INSERT INTO types.of_type VALUES (1, 'x', '{sad}');

-- Tables of odd shapes.
CREATE TABLE public.no_columns ();
INSERT INTO public.no_columns SELECT FROM generate_series(1, 7);
CREATE TABLE public.only_generated (g text GENERATED ALWAYS AS ('x' || 'y') STORED);
INSERT INTO public.only_generated SELECT FROM generate_series(1, 3);
CREATE TABLE public.all_dropped (a int, b text);
INSERT INTO public.all_dropped VALUES (1, 'x'), (2, 'y');
ALTER TABLE public.all_dropped DROP a, DROP b;
CREATE TABLE public.some_dropped (a int, gone text, b int, id bigint GENERATED BY DEFAULT AS IDENTITY,
    g int GENERATED ALWAYS AS (b * 2) STORED);
ALTER TABLE public.some_dropped DROP gone;
ALTER TABLE public.some_dropped ADD late text DEFAULT 'late' NOT NULL;
INSERT INTO public.some_dropped (a, b) SELECT n, n FROM generate_series(1, 50) AS n;
CREATE UNLOGGED TABLE public.unlogged (i int PRIMARY KEY, t text);
INSERT INTO public.unlogged SELECT n, 'u' FROM generate_series(1, 9) AS n;
CREATE TABLE public.toasted (id int PRIMARY KEY, packed text, plain text, bin bytea)
    WITH (fillfactor = 70, toast.autovacuum_enabled = false);
ALTER TABLE public.toasted ALTER plain SET STORAGE EXTERNAL, ALTER bin SET STORAGE EXTENDED;
INSERT INTO public.toasted
SELECT n, repeat('compresses ', 20000), (SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 300) AS i),
    decode(repeat('00ff', 5000), 'hex') FROM generate_series(1, 8) AS n;
CREATE TABLE public.in_space (i int) TABLESPACE "torture space";
INSERT INTO public.in_space VALUES (1), (2);
CREATE INDEX in_space_i ON public.in_space (i) TABLESPACE "torture space";

-- The known drift: the server prints the casts of IN over varchar in one way
-- before a dump and in another after it.
CREATE TABLE public.drift (
    status varchar(12) NOT NULL CHECK (status IN ('open', 'sent')),
    kind varchar CONSTRAINT kinds CHECK (kind = ANY (ARRAY['a'::varchar, 'b'])) DEFAULT 'a'::varchar
);
CREATE INDEX drift_open ON public.drift (kind) WHERE status IN ('open', 'sent');
CREATE VIEW public.drifting AS SELECT * FROM public.drift WHERE status IN ('open', 'sent');
INSERT INTO public.drift VALUES ('open', 'a'), ('sent', 'b');

-- Partitions.
CREATE TABLE parts.by_list (k text, v int NOT NULL) PARTITION BY LIST (k);
CREATE TABLE parts.by_list_a PARTITION OF parts.by_list FOR VALUES IN ('a', 'ä', NULL);
CREATE TABLE parts.by_list_rest PARTITION OF parts.by_list DEFAULT;
INSERT INTO parts.by_list SELECT (ARRAY['a', 'ä', 'z', NULL])[1 + n % 4], n FROM generate_series(1, 40) AS n;
CREATE TABLE parts.by_range (at timestamptz NOT NULL, id int NOT NULL, note text) PARTITION BY RANGE (at, id);
-- A leaf with its columns in another order, one gone, and a default of its own.
CREATE TABLE parts.by_range_old (note text DEFAULT 'old', gone int, id int NOT NULL, at timestamptz NOT NULL);
ALTER TABLE parts.by_range_old DROP gone;
ALTER TABLE parts.by_range ATTACH PARTITION parts.by_range_old FOR VALUES FROM (MINVALUE, MINVALUE) TO ('2020-01-01', 0);
CREATE TABLE parts.by_range_new PARTITION OF parts.by_range FOR VALUES FROM ('2020-01-01', 0) TO ('infinity', MAXVALUE)
    PARTITION BY HASH (id);
CREATE TABLE parts.by_range_new_0 PARTITION OF parts.by_range_new FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts.by_range_new_1 PARTITION OF parts.by_range_new FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO parts.by_range SELECT '2019-12-20'::timestamptz + n * interval '1 day', n, 'n' FROM generate_series(1, 40) AS n;
ALTER TABLE parts.by_range ADD CONSTRAINT by_range_pkey PRIMARY KEY (at, id);
CREATE INDEX by_range_note ON parts.by_range (note) WHERE note IS NOT NULL;
-- The hash of an enum's value depends on its OID: pg_dump loads it by the root.
CREATE TABLE parts.by_enum (m types.mood, n int) PARTITION BY HASH (m);
CREATE TABLE parts.by_enum_0 PARTITION OF parts.by_enum FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE parts.by_enum_1 PARTITION OF parts.by_enum FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE parts.by_enum_2 PARTITION OF parts.by_enum FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO parts.by_enum SELECT (enum_range(NULL::types.mood))[1 + n % 6], n FROM generate_series(1, 60) AS n;
CREATE TABLE parts.no_leaf (a int) PARTITION BY RANGE (a);
-- Foreign keys of and to partitioned tables. Partitions that come later, and
-- keys that are renamed, leave names that a copy does not have.
CREATE TABLE parts.target (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parts.target_9 PARTITION OF parts.target FOR VALUES FROM (900) TO (1000);
CREATE TABLE parts.refers (id int, target int REFERENCES parts.target) PARTITION BY LIST (id);
CREATE TABLE parts.refers_1 PARTITION OF parts.refers FOR VALUES IN (1);
CREATE TABLE parts.target_1 PARTITION OF parts.target FOR VALUES FROM (0) TO (100);
CREATE TABLE parts.target_5 PARTITION OF parts.target FOR VALUES FROM (500) TO (600);
ALTER TABLE parts.refers RENAME CONSTRAINT refers_target_fkey TO "renamed key";
CREATE TABLE parts.refers_2 PARTITION OF parts.refers FOR VALUES IN (2);
INSERT INTO parts.target VALUES (1), (555), (999);
INSERT INTO parts.refers VALUES (1, 1), (2, 555), (1, 999);

-- Inheritance.
CREATE TABLE public.parent (id int PRIMARY KEY, name text CHECK (name <> ''), extra text DEFAULT 'p');
CREATE TABLE public.mother (age int, CONSTRAINT grown CHECK (age >= 0) NO INHERIT);
CREATE TABLE public.child (own int, name text DEFAULT 'child' NOT NULL) INHERITS (public.parent, public.mother);
CREATE TABLE public.adopted (extra text, name text, id int NOT NULL, CHECK (name <> ''), CONSTRAINT parent_name_check CHECK (name <> ''));
ALTER TABLE public.adopted INHERIT public.parent;
INSERT INTO public.parent VALUES (1, 'p'), (2, 'q');
INSERT INTO public.child (id, own, age) VALUES (3, 3, 3), (4, 4, 4), (5, 5, 5);
INSERT INTO public.adopted VALUES ('x', 'a', 6);

-- Foreign keys: in cycles, deferred, not valid, to oneself.
CREATE TABLE public.chicken (id int PRIMARY KEY, egg int NOT NULL, boss int REFERENCES public.chicken);
CREATE TABLE public.egg (id int PRIMARY KEY, chicken int NOT NULL REFERENCES public.chicken ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE public.chicken ADD CONSTRAINT "egg first" FOREIGN KEY (egg) REFERENCES public.egg DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO public.chicken VALUES (1, 1, 2), (2, 2, 1);
INSERT INTO public.egg VALUES (1, 1), (2, 2);
COMMIT;
CREATE TABLE public.unchecked (egg int);
INSERT INTO public.unchecked VALUES (999), (NULL);
ALTER TABLE public.unchecked ADD CONSTRAINT nowhere FOREIGN KEY (egg) REFERENCES public.egg ON DELETE SET NULL NOT VALID;
ALTER TABLE public.unchecked ADD CONSTRAINT below CHECK (egg < 100) NOT VALID;
CREATE EXTENSION btree_gist;
CREATE TABLE public.booking (room int, during tstzrange, EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (room > 0));
INSERT INTO public.booking VALUES (1, '[2020-01-01,2020-01-02)'), (1, '[2020-01-02,2020-01-03)');
CREATE TABLE public.keys (a int, b text, UNIQUE NULLS NOT DISTINCT (a, b) INCLUDE (b), UNIQUE (b) DEFERRABLE);
ALTER TABLE public.keys REPLICA IDENTITY FULL;
INSERT INTO public.keys VALUES (1, 'x'), (NULL, NULL);
CREATE INDEX keys_expression ON public.keys USING btree (lower(b) COLLATE "C" DESC NULLS LAST, (a + 1)) WITH (fillfactor = 50);
ALTER INDEX public.keys_expression ALTER COLUMN 2 SET STATISTICS 500;
CREATE INDEX keys_hash ON public.keys USING hash (a);
CLUSTER public.toasted USING toasted_pkey;

-- Sequences.
CREATE SEQUENCE public.never_called START 42;
CREATE SEQUENCE public.called AS smallint INCREMENT -3 MINVALUE -100 MAXVALUE 100 START 50;
SELECT nextval('public.called'), nextval('public.called');
CREATE SEQUENCE public.cycled MINVALUE 1 MAXVALUE 3 CYCLE CACHE 1;
SELECT nextval('public.cycled') FROM generate_series(1, 5);
CREATE SEQUENCE public.at_the_end MAXVALUE 9223372036854775807 START 9223372036854775807;
SELECT nextval('public.at_the_end');
CREATE UNLOGGED SEQUENCE public.unlogged_sequence;
SELECT setval('public.unlogged_sequence', 11, false);
CREATE SEQUENCE public.owned OWNED BY public.keys.a;
ALTER TABLE public.keys ALTER a SET DEFAULT nextval('public.owned');

-- Large objects.
SELECT lo_from_bytea(600001, '\x00010203ff'), lo_from_bytea(600002, ''), lo_from_bytea(600003, decode(repeat('ab', 10000), 'hex'));
ALTER LARGE OBJECT 600002 OWNER TO "torture Owner";
GRANT SELECT ON LARGE OBJECT 600001 TO torture_reader;
COMMENT ON LARGE OBJECT 600001 IS 'an image, say';

-- Code. The bodies look like the rows of a dump, and are never run.
SET check_function_bodies = off;
CREATE FUNCTION code.looks_like_a_dump(text DEFAULT E'\\.') RETURNS text LANGUAGE plpgsql AS $_$
BEGIN
COPY x FROM stdin;
1	2
\.
    RETURN $1 || 'it''s' || $q$COPY y (a) FROM stdin;
\.
$q$; /* a comment; with /* another */ COPY z FROM stdin; */
END -- COPY w FROM stdin;
$_$;
CREATE FUNCTION code.quoted() RETURNS text LANGUAGE sql AS 'SELECT ''COPY x FROM stdin;
\.
''::text';
CREATE FUNCTION code.atomic(a int, b int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE BEGIN ATOMIC
    SELECT a + b;
    SELECT (SELECT count(*)::int FROM public.drift WHERE status IN ('open', 'sent'));
END;
CREATE FUNCTION code.variadic(OUT o int, INOUT io text, VARIADIC v int[]) RETURNS record LANGUAGE sql
    SECURITY DEFINER SET search_path = code, pg_temp SET work_mem = '1MB' COST 5 AS $$SELECT 1, io$$;
CREATE FUNCTION code.rows(n int) RETURNS TABLE (a int, "B" text) LANGUAGE sql ROWS 5 AS $$SELECT n, 'b'$$;
CREATE PROCEDURE code.proc(INOUT a int) LANGUAGE plpgsql AS $$BEGIN a := a + 1; COMMIT; END$$;
CREATE FUNCTION code.add_up(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT coalesce($1, 0) + coalesce($2, 0)';
CREATE AGGREGATE code.total(numeric) (SFUNC = code.add_up, STYPE = numeric, INITCOND = '0', PARALLEL = SAFE);
CREATE AGGREGATE code.at_place(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE FUNCTION code.same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT lower($1) = lower($2)';
CREATE OPERATOR code.=~= (LEFTARG = text, RIGHTARG = text, FUNCTION = code.same, COMMUTATOR = OPERATOR(code.=~=), RESTRICT = eqsel);
CREATE OPERATOR FAMILY code.fam USING btree;
CREATE OPERATOR CLASS code.backwards FOR TYPE int USING btree FAMILY code.fam AS
    OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int);
CREATE FUNCTION code.mood_number(types.mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT length($1::text)';
CREATE CAST (types.mood AS int) WITH FUNCTION code.mood_number(types.mood) AS ASSIGNMENT;
CREATE COLLATION code.numeric_order (provider = icu, locale = 'en-u-kn-true', deterministic = false);
CREATE COLLATION code.plain FROM "C";
CREATE TABLE code.sorted (t text COLLATE code.numeric_order PRIMARY KEY, u text COLLATE code.plain);
INSERT INTO code.sorted VALUES ('a2', 'x'), ('a10', 'y');
CREATE TEXT SEARCH DICTIONARY code.dictionary (TEMPLATE = pg_catalog.simple, stopwords = 'english');
CREATE TEXT SEARCH CONFIGURATION code.search (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION code.search ALTER MAPPING FOR asciiword WITH code.dictionary, pg_catalog.english_stem;
CREATE CONVERSION code.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE STATISTICS code.stat (dependencies, mcv) ON a, b FROM public.some_dropped;
CREATE STATISTICS code.expression ON (a + b), (b % 3) FROM public.some_dropped;
ALTER STATISTICS code.stat SET STATISTICS 33;
ALTER TABLE public.some_dropped ALTER a SET STATISTICS 77, ALTER b SET (n_distinct = -0.5);
COMMENT ON FUNCTION code.looks_like_a_dump(text) IS E'COPY x FROM stdin;\n1\n\\.\n-- it''s a trap; $$';
COMMENT ON OPERATOR code.=~= (text, text) IS 'the same';
COMMENT ON AGGREGATE code.total(numeric) IS 'sum';

-- Views, rules, triggers.
CREATE VIEW public.v1 WITH (security_barrier) AS SELECT id, name AS "Na me" FROM public.parent WHERE id > 0 WITH LOCAL CHECK OPTION;
CREATE VIEW public.v2 AS SELECT v.*, c.own FROM public.v1 AS v JOIN public.child AS c USING (id);
ALTER VIEW public.v2 ALTER "Na me" SET DEFAULT 'from the view';
ALTER TABLE public.child RENAME own TO owned;
-- Depends on a primary key, which comes after the rows: pg_dump makes it twice.
CREATE VIEW public.grouped AS SELECT p.*, count(*) AS n FROM public.parent AS p JOIN public.child AS c ON c.id <> p.id GROUP BY p.id;
CREATE VIEW public.recursive AS WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r;
CREATE MATERIALIZED VIEW public.m1 AS SELECT k, sum(v) AS total FROM parts.by_list GROUP BY k;
CREATE MATERIALIZED VIEW public.a_on_m1 AS SELECT count(*) AS n, max(total) AS most FROM public.m1;
CREATE UNIQUE INDEX m1_k ON public.m1 (k);
CREATE MATERIALIZED VIEW public.never_filled AS SELECT * FROM public.m1 WITH NO DATA;
-- Stale on purpose: a restore refreshes it.
INSERT INTO parts.by_list VALUES ('late', 1000);
CREATE TABLE public.rule_log (at int, what text);
CREATE RULE "on insert" AS ON INSERT TO public.v2 DO INSTEAD INSERT INTO public.rule_log VALUES (1, 'insert');
CREATE RULE also AS ON UPDATE TO public.some_dropped WHERE new.a > 10 DO ALSO INSERT INTO public.rule_log VALUES (new.a, 'update; COPY x FROM stdin;');
ALTER TABLE public.some_dropped DISABLE RULE also;
UPDATE public.some_dropped SET late = 'x' WHERE a = 11;
CREATE FUNCTION code.count_inserts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.rule_log VALUES (0, tg_argv[0]);
    RETURN new;
END$$;
-- Neither may fire while the rows are loaded.
CREATE TRIGGER "be fore" BEFORE INSERT OR UPDATE OF name ON public.parent FOR EACH ROW WHEN (new.name IS NOT NULL)
    EXECUTE FUNCTION code.count_inserts('it''s');
CREATE TRIGGER leaf AFTER INSERT ON parts.by_range FOR EACH ROW EXECUTE FUNCTION code.count_inserts('leaf');
CREATE TRIGGER transition AFTER UPDATE ON public.parent REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION code.count_inserts('t');
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON public.chicken DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION code.count_inserts('later');
ALTER TABLE public.parent ENABLE ALWAYS TRIGGER "be fore";
ALTER TABLE public.parent DISABLE TRIGGER transition;
ALTER TABLE parts.by_range_old DISABLE TRIGGER leaf;
COMMENT ON TRIGGER leaf ON parts.by_range IS 'on each leaf';
COMMENT ON VIEW public.v2 IS 'a view on a view';
COMMENT ON COLUMN public.v1."Na me" IS 'renamed';
COMMENT ON MATERIALIZED VIEW public.m1 IS 'stale';
COMMENT ON RULE also ON public.some_dropped IS 'disabled';
COMMENT ON TYPE types.mood IS 'how one is';
COMMENT ON COLUMN types."Comp osite"."B b" IS 'an attribute';
COMMENT ON INDEX public.drift_open IS 'partial';
COMMENT ON CONSTRAINT nowhere ON public.unchecked IS 'not valid';
COMMENT ON SEQUENCE public.cycled IS '1, 2, 3, 1';

-- Row-level security. The roles stand in another order than they were made in.
CREATE TABLE public.secrets (owner name, secret text);
INSERT INTO public.secrets VALUES ('torture_reader', 'a'), ('torture_writer', 'b');
ALTER TABLE public.secrets OWNER TO "torture Owner";
ALTER TABLE public.secrets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON public.secrets FOR SELECT TO torture_a, torture_z, torture_reader USING (owner = current_user);
CREATE POLICY "not yours" ON public.secrets AS RESTRICTIVE FOR INSERT WITH CHECK (owner <> '''');
COMMENT ON POLICY mine ON public.secrets IS 'rows of one''s own';

-- Access lists.
GRANT USAGE ON SCHEMA types, code, parts TO torture_reader;
GRANT SELECT, INSERT ON public.parent TO torture_reader WITH GRANT OPTION;
SET SESSION AUTHORIZATION torture_reader;
GRANT SELECT ON public.parent TO "torture ""quoted"" rôle";
RESET SESSION AUTHORIZATION;
GRANT SELECT (id), UPDATE (name) ON public.child TO torture_writer;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO torture_writer;
REVOKE ALL ON FUNCTION code.quoted() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION code.quoted() TO torture_a;
REVOKE USAGE ON TYPE types.mood FROM PUBLIC;
REVOKE ALL ON public.rule_log FROM postgres;
REVOKE USAGE ON LANGUAGE sql FROM PUBLIC;
GRANT USAGE ON LANGUAGE sql TO PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO torture_reader;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO torture_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE "torture Owner" IN SCHEMA "UPPER lower" GRANT ALL ON SEQUENCES TO torture_writer WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_writer REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER TABLE parts.by_list OWNER TO torture_writer;

-- Extensions. Those of the rows of a table that CREATE EXTENSION did not make
-- are dumped.
CREATE SCHEMA "exten sions";
CREATE EXTENSION hstore SCHEMA "exten sions";
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION pg_trgm SCHEMA "exten sions";
CREATE EXTENSION postgres_fdw SCHEMA "exten sions";
CREATE EXTENSION file_fdw;
COMMENT ON EXTENSION hstore IS 'a comment of our own';
CREATE TABLE public.of_extensions (h "exten sions".hstore, c citext UNIQUE, CHECK (c <> 'X'));
INSERT INTO public.of_extensions VALUES ('a=>1, "b c"=>NULL', 'MiXed');
CREATE INDEX of_extensions_trgm ON public.of_extensions USING gin ((c::text) "exten sions".gin_trgm_ops);
GRANT EXECUTE ON FUNCTION "exten sions".hstore(text, text) TO torture_reader;
CREATE SERVER "no where" FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'it''s');
CREATE USER MAPPING FOR torture_writer SERVER "no where" OPTIONS (user 'x', password 'not a secret');
CREATE FOREIGN TABLE public.remote (id int OPTIONS (column_name 'ID'), t text) SERVER "no where" OPTIONS (table_name 'x');
-- A partition that is on another server: nobody may ask that server for rows.
CREATE TABLE parts.far (id int, t text) PARTITION BY RANGE (id);
CREATE TABLE parts.near_leaf PARTITION OF parts.far FOR VALUES FROM (0) TO (10);
CREATE FOREIGN TABLE parts.far_leaf PARTITION OF parts.far FOR VALUES FROM (10) TO (20) SERVER "no where";
INSERT INTO parts.near_leaf VALUES (1, 'near'), (2, 'by');

-- Publications and subscriptions.
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, delete');
CREATE PUBLICATION "some tables" FOR TABLE public.parent (id, name) WHERE (id > 1);
CREATE PUBLICATION of_schema FOR TABLE public.parent WHERE (id > 1), TABLES IN SCHEMA types;
ALTER PUBLICATION "some tables" OWNER TO torture_subscriber;
CREATE SUBSCRIPTION "from no where" CONNECTION 'host=127.0.0.1 port=1 dbname=x' PUBLICATION a, "B b"
    WITH (connect = false, slot_name = NONE, binary);
ALTER SUBSCRIPTION "from no where" OWNER TO torture_subscriber;
COMMENT ON SUBSCRIPTION "from no where" IS 'disabled';
COMMENT ON PUBLICATION everything IS 'all of it';

-- What is done to a schema is written down by an event trigger. A restore does
-- things to the schema after it has made the trigger.
CREATE TABLE public.ddl_log (at timestamptz DEFAULT now(), tag text);
CREATE FUNCTION code.log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.ddl_log (tag) VALUES (tg_tag);
END$$;
CREATE EVENT TRIGGER "log ddl" ON ddl_command_end EXECUTE FUNCTION code.log_ddl();
CREATE EVENT TRIGGER "disabled one" ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP VIEW') EXECUTE FUNCTION code.log_ddl();
ALTER EVENT TRIGGER "disabled one" DISABLE;
COMMENT ON EVENT TRIGGER "log ddl" IS 'writes down';
CREATE TABLE public.logged ();
