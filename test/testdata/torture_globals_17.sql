GRANT pg_maintain TO torture_16;
