-- Roles and tablespaces that torture.sql needs, for psql as a superuser. Run it
-- once on each server.
CREATE ROLE "torture Owner" NOLOGIN;
CREATE ROLE torture_reader LOGIN;
CREATE ROLE torture_writer LOGIN;
CREATE ROLE "torture ""quoted"" rôle" NOLOGIN;
CREATE ROLE torture_z NOLOGIN;
CREATE ROLE torture_a NOLOGIN;
-- Owns a subscription and nothing else; subscriptions are shared objects.
CREATE ROLE torture_subscriber SUPERUSER NOLOGIN;
GRANT torture_reader TO torture_writer;
GRANT torture_writer TO "torture Owner" WITH ADMIN OPTION;
ALTER ROLE torture_reader SET work_mem = '5MB';
COMMENT ON ROLE torture_reader IS 'reads; never ''writes''';

SET allow_in_place_tablespaces = on;
CREATE TABLESPACE "torture space" LOCATION '';
