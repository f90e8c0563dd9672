-- Tables that depend on each other in every way that a partial backup has to
-- mind. Nobody in it exists.
CREATE SCHEMA app;
CREATE SCHEMA audit;
CREATE SCHEMA parts;
CREATE EXTENSION citext SCHEMA app;
CREATE TYPE app.status AS ENUM ('open', 'closed');
CREATE TABLE app.patients (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name app.citext NOT NULL, born date);
CREATE STATISTICS app.patients_names ON name, born FROM app.patients;
COMMENT ON STATISTICS app.patients_names IS 'statistics';
CREATE TABLE app.visits (
	id serial PRIMARY KEY, patient_id int, state app.status,
	CONSTRAINT visits_patient FOREIGN KEY (patient_id) REFERENCES app.patients
);
COMMENT ON TABLE app.visits IS 'visits';
COMMENT ON COLUMN app.visits.state IS 'state';
COMMENT ON CONSTRAINT visits_patient ON app.visits IS 'a comment that hangs on a foreign key';
CREATE INDEX visits_state ON app.visits (state);
COMMENT ON INDEX app.visits_state IS 'index';
CREATE TABLE app."Odd ""Name.*" (id int, "A column" text);
CREATE TABLE audit.log (id bigserial PRIMARY KEY, visit_id int CONSTRAINT log_visit REFERENCES app.visits);
COMMENT ON CONSTRAINT log_visit ON audit.log IS 'another';
CREATE TABLE app.observations (
	id int, patient_id int CONSTRAINT observations_patient REFERENCES app.patients, at date, PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE app.observations_1 PARTITION OF app.observations FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts.observations_2 PARTITION OF app.observations FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE app.base (id int);
CREATE TABLE app.child (note text) INHERITS (app.base);
CREATE SEQUENCE app.numbers;
CREATE TABLE app.tickets (n int DEFAULT nextval('app.numbers'));
CREATE TABLE public.settings (k text, v text);
CREATE VIEW app.open_visits AS SELECT v.id, p.name FROM app.visits AS v JOIN app.patients AS p ON p.id = v.patient_id WHERE v.state = 'open';
COMMENT ON VIEW app.open_visits IS 'view';
CREATE MATERIALIZED VIEW app.ticket_numbers AS SELECT count(*) AS n FROM app.tickets;
CREATE FUNCTION app.newest() RETURNS SETOF audit.log LANGUAGE sql AS 'SELECT * FROM audit.log';
CREATE FUNCTION app.patients_now() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM app.patients; END;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON app.visits FOR EACH ROW EXECUTE FUNCTION app.touch();
COMMENT ON TRIGGER touch ON app.visits IS 'trigger';
CREATE POLICY own ON app.visits USING (patient_id IN (SELECT id FROM app.patients));
COMMENT ON POLICY own ON app.visits IS 'policy';
CREATE RULE copy AS ON DELETE TO public.settings DO INSTEAD NOTHING;
COMMENT ON RULE copy ON public.settings IS 'rule';
CREATE PUBLICATION everything FOR TABLE app.visits, app.patients, public.settings;
GRANT SELECT ON app.visits, public.settings TO pg_monitor;

INSERT INTO app.patients (name, born) SELECT 'Patient ' || n, '1970-01-01' FROM generate_series(1, 100) AS n;
INSERT INTO app.visits (patient_id, state) SELECT 1 + n % 100, (ARRAY['open', 'closed'])[1 + n % 2]::app.status FROM generate_series(1, 300) AS n;
INSERT INTO audit.log (visit_id) SELECT generate_series(1, 10);
INSERT INTO app.observations SELECT n, n, '2026-01-01'::date + n % 2 * 31 FROM generate_series(1, 100) AS n;
INSERT INTO app."Odd ""Name.*" SELECT n, 'x' FROM generate_series(1, 3) AS n;
INSERT INTO app.base VALUES (1);
INSERT INTO app.child VALUES (2, 'a'), (3, 'b');
INSERT INTO app.tickets SELECT FROM generate_series(1, 4);
INSERT INTO public.settings VALUES ('a', '1'), ('b', '2');
REFRESH MATERIALIZED VIEW app.ticket_numbers;
SELECT lo_from_bytea(7, 'large');
COMMENT ON LARGE OBJECT 7 IS 'a comment on a large object';
