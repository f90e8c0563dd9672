CREATE SCHEMA s AUTHORIZATION inv_owner;
GRANT USAGE ON SCHEMA s TO inv_reader;
CREATE SCHEMA "odd ""schema"".x";
CREATE EXTENSION citext SCHEMA public;
CREATE TYPE s.mood AS ENUM ('good', 'it''s', 'a,b');
CREATE DOMAIN s.positive AS integer DEFAULT 1 CONSTRAINT above CHECK (VALUE > 0);
CREATE DOMAIN s.numbers AS integer[];
CREATE TYPE s.pair AS (a integer, b text);
CREATE TYPE s.span AS RANGE (subtype = float8);
CREATE COLLATION s.coll FROM "C";
CREATE CONVERSION s.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE SEQUENCE s.counter START 10 CYCLE MAXVALUE 1000;
CREATE TABLE s.people (
	id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name text COLLATE s.coll NOT NULL DEFAULT 'it''s',
	status varchar(10) CONSTRAINT status_known CHECK (status IN ('new', 'old', 'gone')),
	mood s.mood DEFAULT 'good',
	born date,
	n s.positive,
	gone integer,
	upper_name text GENERATED ALWAYS AS (upper(name)) STORED
);
ALTER TABLE s.people DROP COLUMN gone;
ALTER TABLE s.people OWNER TO inv_owner;
GRANT SELECT ON s.people TO inv_reader WITH GRANT OPTION;
GRANT UPDATE (name) ON s.people TO inv_reader;
CREATE INDEX people_lower ON s.people (lower(name));
CREATE INDEX people_partial ON s.people (name) WHERE status IN ('new', 'old');
CREATE UNIQUE INDEX people_unique ON s.people (name, born DESC NULLS LAST);
CREATE TABLE s.visits (
	id integer PRIMARY KEY, person integer, at timestamptz DEFAULT now(),
	EXCLUDE USING btree (at WITH =)
);
ALTER TABLE s.visits ADD CONSTRAINT later FOREIGN KEY (person) REFERENCES s.people DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE s.visits ADD CONSTRAINT not_valid FOREIGN KEY (id) REFERENCES s.people ON DELETE CASCADE NOT VALID;
CREATE TABLE "odd ""schema"".x"."ta.ble ""q"" 
line" ("sel ect" int CHECK ("sel ect" <> 3), "größe" text);
CREATE INDEX "odd index" ON "odd ""schema"".x"."ta.ble ""q"" 
line" ("sel ect");
CREATE TABLE public.zero ();
CREATE TABLE s.parts (k text, v int, PRIMARY KEY (k, v)) PARTITION BY LIST (k);
CREATE TABLE s.parts_a PARTITION OF s.parts FOR VALUES IN ('a');
CREATE TABLE s.refers (k text, v int, FOREIGN KEY (k, v) REFERENCES s.parts) PARTITION BY HASH (k);
CREATE TABLE s.refers_0 PARTITION OF s.refers FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE s.parts_b PARTITION OF s.parts DEFAULT;
CREATE TABLE s.refers_1 PARTITION OF s.refers FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX parts_v ON s.parts (v);
CREATE TABLE s.parent (a int, b int);
CREATE TABLE s.child (c int) INHERITS (s.parent);
CREATE UNLOGGED TABLE s.fast (a int) WITH (fillfactor = 70);
CREATE VIEW s.v AS SELECT id, name FROM s.people;
CREATE MATERIALIZED VIEW s.m AS SELECT count(*) AS n FROM s.v WITH NO DATA;
CREATE INDEX m_n ON s.m (n);
CREATE FUNCTION s.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE FUNCTION s.plain(a int DEFAULT 1, VARIADIC b text[] DEFAULT '{}') RETURNS TABLE (x int) LANGUAGE sql STABLE
	SET search_path TO s, public AS $$ SELECT a -- don't
$$;
CREATE PROCEDURE s.proc(a int) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE s.total(integer) (sfunc = int4pl, stype = integer, initcond = '0');
CREATE FUNCTION s.same(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2';
CREATE OPERATOR s.=== (leftarg = int, rightarg = int, function = s.same);
CREATE OPERATOR FAMILY s.fam USING btree;
CREATE OPERATOR CLASS s.cls FOR TYPE int USING hash AS OPERATOR 1 =, FUNCTION 1 hashint4(int);
CREATE FUNCTION s.to_int(s.mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE CAST (s.mood AS int) WITH FUNCTION s.to_int(s.mood);
CREATE TRIGGER touch BEFORE UPDATE OF name ON s.people FOR EACH ROW WHEN (old.status IN ('new', 'old')) EXECUTE FUNCTION s.touch();
CREATE TRIGGER on_parts AFTER INSERT ON s.parts FOR EACH ROW EXECUTE FUNCTION s.touch();
CREATE RULE quiet AS ON DELETE TO s.visits WHERE old.id IN (1, 2) DO INSTEAD NOTHING;
ALTER TABLE s.people ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON s.people FOR SELECT TO inv_reader, a_reader USING (status IN ('new', 'old'));
CREATE STATISTICS s.stats (dependencies) ON name, status FROM s.people;
CREATE FUNCTION s.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watch ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION s.watch();
CREATE PUBLICATION pub FOR TABLE s.people, s.visits WITH (publish = 'insert');
ALTER DEFAULT PRIVILEGES FOR ROLE inv_owner IN SCHEMA s GRANT SELECT ON TABLES TO inv_reader;
CREATE TEXT SEARCH DICTIONARY s.dict (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION s.ts (COPY = simple);
CREATE FOREIGN DATA WRAPPER fdw;
CREATE SERVER srv FOREIGN DATA WRAPPER fdw OPTIONS (host 'h');
CREATE USER MAPPING FOR inv_reader SERVER srv OPTIONS (password 'x');
CREATE FOREIGN TABLE s.remote (a int) SERVER srv OPTIONS (a 'b');
SELECT lo_create(424242);
COMMENT ON TABLE s.people IS 'other';
COMMENT ON COLUMN s.people.name IS 'it''s (a) name';
COMMENT ON CONSTRAINT status_known ON s.people IS 'three';
COMMENT ON SCHEMA public IS 'ours now';
-- from 14
CREATE FUNCTION s.standard(a int) RETURNS int LANGUAGE sql
	BEGIN ATOMIC SELECT a + 1; SELECT CASE WHEN 'x'::varchar IN ('a', 'b') THEN a ELSE $1 END; END;
CREATE FUNCTION s.returns(int) RETURNS int LANGUAGE sql RETURN $1 + 1;
-- all
-- from 15
CREATE PUBLICATION filtered FOR TABLE s.parent (a) WHERE (a > 1) WITH (publish_via_partition_root);
CREATE PUBLICATION schemas FOR TABLES IN SCHEMA "odd ""schema"".x";
-- all
