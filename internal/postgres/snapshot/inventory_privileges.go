package snapshot

// foreignPrivileges lists the privileges on objects that a dump does not make, those
// of extensions and of the system catalogue, where they are not those that the object
// came with: a dump carries the difference. Those of the bootstrap role are left out,
// whose name is the server's, and which may do everything anyway.
const foreignPrivileges = `
WITH others AS (
	SELECT 'pg_catalog.pg_class'::regclass AS class, c.oid, 0 AS part, c.relacl AS acl, CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" AS kind,
		c.relowner AS owner, c.relnamespace AS namespace FROM pg_catalog.pg_class AS c WHERE c.relpersistence <> 't'
	UNION ALL SELECT 'pg_catalog.pg_class'::regclass, c.oid, a.attnum, a.attacl, 'c', c.relowner, c.relnamespace
		FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid WHERE a.attacl IS NOT NULL
	UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, 0, proacl, 'f', proowner, pronamespace FROM pg_catalog.pg_proc
	UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid, 0, typacl, 'T', typowner, typnamespace FROM pg_catalog.pg_type
	UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, 0, nspacl, 'n', nspowner, oid FROM pg_catalog.pg_namespace
	UNION ALL SELECT 'pg_catalog.pg_language'::regclass, oid, 0, lanacl, 'l', lanowner, 'pg_catalog'::regnamespace FROM pg_catalog.pg_language WHERE oid < 16384
	UNION ALL SELECT 'pg_catalog.pg_foreign_data_wrapper'::regclass, oid, 0, fdwacl, 'F', fdwowner, 0 FROM pg_catalog.pg_foreign_data_wrapper
	UNION ALL SELECT 'pg_catalog.pg_foreign_server'::regclass, oid, 0, srvacl, 'S', srvowner, 0 FROM pg_catalog.pg_foreign_server
), changed AS (
	SELECT o.*, i.initprivs AS came FROM others AS o LEFT JOIN pg_catalog.pg_init_privs AS i
		ON i.classoid = o.class AND i.objoid = o.oid AND i.objsubid = o.part
	WHERE o.acl IS DISTINCT FROM i.initprivs AND (o.namespace = 'pg_catalog'::regnamespace AND o.oid < 16384
		OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = o.class AND d.objid = o.oid AND d.objsubid = 0 AND d.deptype = 'e'))
), told AS (
	SELECT c.class, c.oid, c.part, e.now, string_agg(concat_ws(' ', coalesce(quote_ident(pg_get_userbyid(nullif(x.grantee, 0))), 'PUBLIC'), x.privilege_type, x.is_grantable), ','
		ORDER BY x.grantee = 0, pg_get_userbyid(x.grantee) COLLATE "C", x.privilege_type) AS grants
	FROM changed AS c
		CROSS JOIN LATERAL (VALUES (true, c.acl), (false, c.came)) AS e (now, acl)
		LEFT JOIN LATERAL pg_catalog.aclexplode(coalesce(e.acl, CASE WHEN c.kind <> 'c' THEN pg_catalog.acldefault(c.kind, c.owner) END)) AS x ON x.grantee <> 10
	GROUP BY c.class, c.oid, c.part, e.now
)
SELECT concat_ws(' ', object.type, object.identity, nullif(now.part, 0)), now.grants
FROM told AS now JOIN told AS came USING (class, oid, part)
	CROSS JOIN LATERAL pg_catalog.pg_identify_object(now.class, now.oid, 0) AS object
WHERE now.now AND NOT came.now AND now.grants IS DISTINCT FROM came.grants`
