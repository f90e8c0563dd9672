-- A synthetic clinic: no person in it exists. Its size comes from the setting
-- clinic.patients; everything else follows from that. It has three everyday
-- mistakes in it, so that a report has something to say: claims have no index on
-- their encounter, audit_log is never vacuumed, and imports have no primary key.
CREATE TYPE sex AS ENUM ('female', 'male', 'other', 'unknown');
CREATE DOMAIN icd10 AS text CHECK (VALUE ~ '^[A-Z][0-9]{2}(\.[0-9]{1,2})?$');

CREATE TABLE practitioners (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    specialty text NOT NULL
);

CREATE TABLE patients (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record_number text NOT NULL UNIQUE,
    family_name text NOT NULL,
    given_names text[] NOT NULL,
    born date NOT NULL,
    sex sex NOT NULL DEFAULT 'unknown',
    contact jsonb NOT NULL DEFAULT '{}',
    allergies text[] NOT NULL DEFAULT '{}',
    registered_at timestamptz NOT NULL
);
CREATE INDEX patients_name ON patients (family_name, born);

CREATE TABLE encounters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    patient_id bigint NOT NULL REFERENCES patients,
    practitioner_id bigint NOT NULL REFERENCES practitioners,
    began timestamptz NOT NULL,
    ended timestamptz,
    diagnoses icd10[] NOT NULL DEFAULT '{}',
    notes text,
    CHECK (ended IS NULL OR ended >= began)
);
CREATE INDEX encounters_patient ON encounters (patient_id, began);
CREATE INDEX encounters_practitioner ON encounters (practitioner_id);

CREATE TABLE observations (
    id bigint GENERATED ALWAYS AS IDENTITY,
    encounter_id bigint NOT NULL REFERENCES encounters,
    observed_at timestamptz NOT NULL,
    code text NOT NULL,
    value numeric(12, 4),
    unit text,
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (id, observed_at)
) PARTITION BY RANGE (observed_at);
CREATE INDEX observations_encounter ON observations (encounter_id);

DO $$
DECLARE
    month date;
BEGIN
    FOR month IN SELECT m::date FROM generate_series('2026-01-01'::date, '2026-12-01'::date, '1 month') AS m LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF observations FOR VALUES FROM (%L) TO (%L)',
            'observations_' || to_char(month, 'YYYY_MM'), month, month + interval '1 month');
    END LOOP;
END
$$;

CREATE TABLE claims (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    encounter_id bigint NOT NULL REFERENCES encounters,
    payer text NOT NULL,
    amount numeric(10, 2) NOT NULL CHECK (amount >= 0),
    status varchar(12) NOT NULL CHECK (status IN ('open', 'sent', 'paid', 'denied')),
    lines jsonb NOT NULL DEFAULT '[]'
);

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL
) WITH (autovacuum_enabled = false);

CREATE TABLE imports (
    received_at timestamptz NOT NULL,
    source text NOT NULL,
    message jsonb NOT NULL
);

CREATE VIEW open_claims AS
    SELECT c.id, c.payer, c.amount, p.record_number
    FROM claims AS c JOIN encounters AS e ON e.id = c.encounter_id JOIN patients AS p ON p.id = e.patient_id
    WHERE c.status = 'open';

CREATE MATERIALIZED VIEW monthly_load AS
    SELECT date_trunc('month', began) AS month, practitioner_id, count(*) AS encounters
    FROM encounters GROUP BY 1, 2;

CREATE FUNCTION patient_age(p patients, on_day date) RETURNS integer LANGUAGE sql STABLE
    RETURN extract(year FROM age(on_day, p.born));

SELECT setseed(0.42);

INSERT INTO practitioners (name, specialty)
SELECT 'Practitioner ' || n, (ARRAY['general', 'cardiology', 'paediatrics', 'radiology', 'oncology'])[1 + n % 5]
FROM generate_series(1, 40) AS n;

INSERT INTO patients (record_number, family_name, given_names, born, sex, contact, allergies, registered_at)
SELECT 'MRN-' || lpad(n::text, 8, '0'),
    (ARRAY['Abara', 'Brandt', 'Chen', 'Duarte', 'Eriksen', 'Farah', 'Grigoryan', 'Haddad'])[1 + (random() * 7)::int],
    ARRAY['Sample', 'Person ' || n],
    '1930-01-01'::date + (random() * 34000)::int,
    (enum_range(NULL::sex))[1 + (random() * 3)::int],
    jsonb_build_object('email', 'person' || n || '@example.org', 'phone', '+00 ' || (random() * 1e9)::bigint),
    CASE WHEN random() < 0.2 THEN ARRAY['penicillin', 'latex'] ELSE '{}' END,
    '2026-01-01'::timestamptz + random() * interval '300 days'
FROM generate_series(1, current_setting('clinic.patients')::int) AS n;

INSERT INTO encounters (patient_id, practitioner_id, began, ended, diagnoses, notes)
SELECT 1 + (random() * (current_setting('clinic.patients')::int - 1))::bigint, 1 + (random() * 39)::bigint,
    t, t + random() * interval '2 hours',
    ARRAY[chr(65 + (random() * 25)::int) || lpad((random() * 99)::int::text, 2, '0')]::icd10[],
    'Seen for ' || md5(random()::text) || '. ' || repeat('Stable; continue as before. ', (random() * 6)::int)
FROM (
    SELECT '2026-01-01'::timestamptz + random() * interval '330 days' AS t
    FROM generate_series(1, current_setting('clinic.patients')::int * 4)
) AS times;

INSERT INTO observations (encounter_id, observed_at, code, value, unit, detail)
SELECT e.id, e.began + o * interval '5 minutes',
    (ARRAY['8867-4', '8480-6', '8462-4', '8310-5', '9279-1'])[o], round((60 + random() * 80)::numeric, 4),
    (ARRAY['/min', 'mm[Hg]', 'mm[Hg]', 'Cel', '/min'])[o],
    jsonb_build_object('method', (ARRAY['manual', 'device'])[1 + (random())::int], 'by', e.practitioner_id)
FROM encounters AS e, generate_series(1, 5) AS o;

INSERT INTO claims (encounter_id, payer, amount, status, lines)
SELECT id, 'Payer ' || id % 12, round((random() * 900)::numeric, 2),
    (ARRAY['open', 'sent', 'paid', 'denied'])[1 + (random() * 3)::int],
    jsonb_build_array(jsonb_build_object('code', '992' || (10 + id % 6), 'units', 1 + id % 3))
FROM encounters WHERE id % 4 <> 0;

INSERT INTO audit_log (at, actor, action)
SELECT '2026-06-01'::timestamptz + n * interval '1 second', 'user' || n % 50, 'read'
FROM generate_series(1, current_setting('clinic.patients')::int * 4) AS n;
INSERT INTO imports (received_at, source, message)
SELECT at, 'laboratory', jsonb_build_object('segment', 'OBX', 'sequence', id) FROM audit_log WHERE id % 10 = 0;

REFRESH MATERIALIZED VIEW monthly_load;
COMMENT ON TABLE patients IS 'Synthetic: no person in it exists.';
ANALYZE;
