-- What the torture database has besides on PostgreSQL 18 and later.
SET client_min_messages = warning;
CREATE SCHEMA v18;

-- Columns that are computed when they are read: no row has them.
CREATE TABLE v18.virtual (a int, v int GENERATED ALWAYS AS (a * 2) VIRTUAL NOT NULL, gone int, s int GENERATED ALWAYS AS (a + 1) STORED,
    "by de""fault" text GENERATED ALWAYS AS ('x' || 'y'), CHECK (v < 1000), day date,
    year numeric GENERATED ALWAYS AS (extract(year FROM day)) VIRTUAL);
ALTER TABLE v18.virtual DROP gone;
INSERT INTO v18.virtual (a, day) SELECT n, date '2020-01-01' + n FROM generate_series(1, 30) AS n;
CREATE TABLE v18.only_virtual (g int GENERATED ALWAYS AS (1 + 1));
INSERT INTO v18.only_virtual SELECT FROM generate_series(1, 4);
CREATE TABLE v18.heir (own int) INHERITS (v18.virtual);
INSERT INTO v18.heir (a, own) VALUES (1, 2), (3, 4);
CREATE TABLE parts.virtual (k int, v int GENERATED ALWAYS AS (k * 3)) PARTITION BY LIST (k);
CREATE TABLE parts.virtual_1 PARTITION OF parts.virtual FOR VALUES IN (1);
-- A leaf whose values are its own.
CREATE TABLE parts.virtual_2 (v int GENERATED ALWAYS AS (k * 100), k int);
ALTER TABLE parts.virtual ATTACH PARTITION parts.virtual_2 FOR VALUES IN (2);
INSERT INTO parts.virtual (k) SELECT 1 + n % 2 FROM generate_series(1, 10) AS n;

-- Constraints that say NOT NULL, by name; some hold for new rows only.
CREATE TABLE v18.not_null (a int CONSTRAINT "a's ""own" NOT NULL, b int, c int CONSTRAINT alone NOT NULL NO INHERIT, d int);
INSERT INTO v18.not_null VALUES (1, NULL, 3, 4), (5, 6, 7, 8);
ALTER TABLE v18.not_null ADD CONSTRAINT later NOT NULL b NOT VALID;
COMMENT ON CONSTRAINT later ON v18.not_null IS 'not yet';
COMMENT ON CONSTRAINT "a's ""own" ON v18.not_null IS 'named';
CREATE TABLE v18.not_null_heir (e int NOT NULL, CONSTRAINT mine NOT NULL d) INHERITS (v18.not_null);
INSERT INTO v18.not_null_heir VALUES (1, 2, 3, 4, 5);
-- Valid where its parent's is not.
CREATE TABLE v18.not_null_valid () INHERITS (v18.not_null);
INSERT INTO v18.not_null_valid VALUES (1, 2, 3, 4);
ALTER TABLE v18.not_null_valid VALIDATE CONSTRAINT later;
COMMENT ON CONSTRAINT later ON v18.not_null_valid IS 'holds here';
COMMENT ON CONSTRAINT "a's ""own" ON v18.not_null_heir IS 'inherited';
CREATE TABLE parts.not_null (a int, b int) PARTITION BY LIST (a);
CREATE TABLE parts.not_null_1 PARTITION OF parts.not_null (b CONSTRAINT strict NOT NULL) FOR VALUES IN (1);
CREATE TABLE parts.not_null_2 PARTITION OF parts.not_null FOR VALUES IN (2);
INSERT INTO parts.not_null VALUES (1, 1), (2, NULL);
ALTER TABLE parts.not_null ADD CONSTRAINT of_all NOT NULL b NOT VALID;
COMMENT ON CONSTRAINT of_all ON parts.not_null_2 IS 'of a leaf';

-- Keys over time.
CREATE TABLE v18.stays (bed int, during tstzrange, note text, CONSTRAINT "no overlap" PRIMARY KEY (bed, during WITHOUT OVERLAPS));
CREATE TABLE v18.visits (id int, bed int, at tstzrange, UNIQUE (id, at WITHOUT OVERLAPS),
    CONSTRAINT "in a stay" FOREIGN KEY (bed, PERIOD at) REFERENCES v18.stays (bed, PERIOD during));
INSERT INTO v18.stays VALUES (1, '[2020-01-01,2020-01-05)', 'first'), (1, '[2020-01-05,2020-02-01)', 'second'), (2, '[2021-01-01,)', 'open');
INSERT INTO v18.visits VALUES (1, 1, '[2020-01-03,2020-01-10)'), (1, 2, '[2022-01-01,2022-01-02)'), (2, NULL, '[2020-01-01,2020-01-02)');
CREATE TABLE v18.multi (id int4range, during datemultirange, PRIMARY KEY (id, during WITHOUT OVERLAPS));
INSERT INTO v18.multi VALUES ('[1,5)', '{[2020-01-01,2020-01-05),[2020-02-01,2020-03-01)}');
CREATE TABLE parts.stays (bed int, during daterange, PRIMARY KEY (bed, during WITHOUT OVERLAPS)) PARTITION BY LIST (bed);
CREATE TABLE parts.stays_1 PARTITION OF parts.stays FOR VALUES IN (1);
CREATE TABLE parts.stays_2 PARTITION OF parts.stays FOR VALUES IN (2);
INSERT INTO parts.stays VALUES (1, '[2020-01-01,2020-01-05)'), (2, '[2020-01-01,2020-01-05)');

-- Constraints that nothing enforces, against rows that break them.
CREATE TABLE v18.loose (a int CONSTRAINT positive CHECK (a > 0) NOT ENFORCED, egg int CONSTRAINT elsewhere REFERENCES public.egg NOT ENFORCED);
INSERT INTO v18.loose VALUES (-1, 12345), (NULL, NULL);
COMMENT ON CONSTRAINT elsewhere ON v18.loose IS 'for the planner';
CREATE TABLE parts.loose (a int, egg int, hen int) PARTITION BY LIST (a);
CREATE TABLE parts.loose_1 PARTITION OF parts.loose FOR VALUES IN (1);
INSERT INTO parts.loose VALUES (1, 12345, 12345);
ALTER TABLE parts.loose ADD CONSTRAINT unchecked FOREIGN KEY (egg) REFERENCES public.egg NOT VALID;
ALTER TABLE parts.loose ADD CONSTRAINT loose FOREIGN KEY (hen) REFERENCES public.chicken NOT ENFORCED;

CREATE COLLATION v18.fast (provider = builtin, locale = 'PG_UNICODE_FAST');
CREATE TABLE v18.folded (t text COLLATE v18.fast, id uuid DEFAULT uuidv7());
INSERT INTO v18.folded VALUES ('Straße', '00000000-0000-7000-8000-000000000000'), ('STRASSE', '00000000-0000-7000-8000-000000000001');
CREATE INDEX ON v18.folded (casefold(t));
ALTER TABLE v18.folded SET (autovacuum_vacuum_max_threshold = 5, vacuum_truncate = false);
CREATE FUNCTION v18.returning() RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC
    UPDATE v18.folded SET t = 'x' WHERE t = 'never' RETURNING WITH (OLD AS "o ld") "o ld".t || new.t;
END;
CREATE VIEW v18.functions AS SELECT array_sort('{2,1}'::int[]) AS s, array_reverse('{2,1}'::int[]) AS r, crc32('x') AS c, '\x01'::bytea::int AS i;

ALTER DEFAULT PRIVILEGES GRANT SELECT ON LARGE OBJECTS TO torture_reader;
CREATE PUBLICATION generated FOR TABLE v18.virtual (a, s) WITH (publish_generated_columns = stored, publish = 'insert');
CREATE SUBSCRIPTION "of eighteen" CONNECTION 'host=127.0.0.1 port=1 dbname=x' PUBLICATION a
    WITH (connect = false, slot_name = NONE, streaming = off, two_phase);
