-- What the torture database has besides on PostgreSQL 16 and later.
SET client_min_messages = warning;
CREATE SCHEMA v16;

-- Collations with rules: the order of an index depends on them.
CREATE COLLATION v16."ru les" (provider = icu, locale = 'und', rules = '& a < g <<< ''x y''');
CREATE COLLATION v16.alike (provider = icu, locale = 'und-u-ks-level1', deterministic = false, rules = '& b = z');
CREATE TABLE v16.sorted (t text COLLATE v16."ru les" PRIMARY KEY, u text COLLATE v16.alike UNIQUE);
INSERT INTO v16.sorted VALUES ('a', 'a'), ('g', 'b'), ('b', 'c'), ('z', 'é');

CREATE TABLE v16.stored (a text STORAGE EXTERNAL, b text STORAGE MAIN, CHECK (a IS JSON OBJECT WITH UNIQUE KEYS));
INSERT INTO v16.stored VALUES ('{"a": 1}', repeat('x', 10000));
CREATE VIEW v16.json AS
SELECT JSON_OBJECT('a' VALUE a, 'b' VALUE b ABSENT ON NULL WITH UNIQUE KEYS RETURNING jsonb) AS o,
    JSON_ARRAY(a, NULL NULL ON NULL) AS y, JSON_ARRAYAGG(a) OVER () AS g, a IS JSON AS is, system_user AS who,
    xmlserialize(DOCUMENT '<a><b/></a>'::xml AS text INDENT) AS x
FROM v16.stored;
CREATE STATISTICS ON a, b FROM v16.stored;
CREATE FUNCTION v16.anycompatible() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1_000 + 0x1F + 0b11; END;

CREATE SUBSCRIPTION "of sixteen" CONNECTION 'host=127.0.0.1 port=1 dbname=x password=y' PUBLICATION a
    WITH (connect = false, slot_name = NONE, origin = none, streaming = parallel, run_as_owner, password_required = false);
