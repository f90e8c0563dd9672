-- What PostgreSQL 16 and later can say about memberships.
CREATE ROLE torture_16 NOLOGIN;
GRANT torture_z TO torture_16 WITH INHERIT TRUE, SET FALSE;
GRANT torture_a TO torture_16 WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
GRANT torture_reader TO torture_16 WITH INHERIT FALSE, SET TRUE;
-- Two grants of one membership, by two grantors.
GRANT torture_z TO "torture Owner" WITH ADMIN TRUE;
SET SESSION AUTHORIZATION "torture Owner";
GRANT torture_z TO torture_16 WITH INHERIT FALSE, SET TRUE GRANTED BY "torture Owner";
RESET SESSION AUTHORIZATION;
GRANT pg_create_subscription, pg_use_reserved_connections TO torture_16 WITH INHERIT FALSE;
