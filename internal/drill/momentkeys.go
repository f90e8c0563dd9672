package drill

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// foreignKey is one that the server calls valid, with the query that counts the rows
// which refer to nothing: empty for one that compares periods.
type foreignKey struct{ Name, Count string }

// foreignKeysSQL lists foreign keys, those of partitioned tables as a whole, with queries
// like those by which PostgreSQL validates them (RI_Initial_Check in ri_triggers.c). One
// that compares periods (PostgreSQL 18) is of another kind.
const foreignKeysSQL = `
SELECT pg_catalog.format('%I of %I.%I', k.conname, n.nspname, c.relname),
	CASE WHEN pg_catalog.to_jsonb(k) ->> 'conperiod' = 'true' THEN '' ELSE
	pg_catalog.format('SELECT pg_catalog.count(*) FROM %s%I.%I AS f WHERE %s AND NOT EXISTS (SELECT FROM %s%I.%I AS p WHERE %s)',
		CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END, n.nspname, c.relname, pairs.present,
		CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END, m.nspname, r.relname, pairs.equal) END
FROM pg_catalog.pg_constraint AS k
	JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	JOIN pg_catalog.pg_class AS r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace AS m ON m.oid = r.relnamespace
	CROSS JOIN LATERAL (
		SELECT pg_catalog.string_agg(pg_catalog.format('f.%I IS NOT NULL', a.attname), ' AND ') AS present,
			pg_catalog.string_agg(pg_catalog.format('p.%I OPERATOR(%I.%s) f.%I', b.attname, s.nspname, o.oprname, a.attname), ' AND ') AS equal
		FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey), pg_catalog.unnest(k.conpfeqop)) AS u (own, referred, operator)
			JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.own
			JOIN pg_catalog.pg_attribute AS b ON b.attrelid = k.confrelid AND b.attnum = u.referred
			JOIN pg_catalog.pg_operator AS o ON o.oid = u.operator JOIN pg_catalog.pg_namespace AS s ON s.oid = o.oprnamespace) AS pairs
WHERE k.contype = 'f' AND k.convalidated AND k.conparentid = 0 ORDER BY 1`

// foreignKeys tests every foreign key of the database that the server calls valid: a copy
// of files was never validated, unlike one that was loaded.
func (m *moment) foreignKeys(ctx context.Context) error {
	conn, err := m.checker().Session(ctx)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	rows, err := conn.Query(ctx, foreignKeysSQL)
	if err != nil {
		return postgres.Wrap(err, "list the foreign keys")
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[foreignKey])
	if err != nil {
		return postgres.Wrap(err, "list the foreign keys")
	}
	tested := 0
	var broken, unknown []string
	for _, key := range keys {
		if key.Count == "" {
			unknown = append(unknown, key.Name+", which compares periods")
			continue
		}
		var n int64
		err := conn.QueryRow(ctx, key.Count).Scan(&n)
		switch code := postgres.Code(err); {
		case err == nil && n > 0:
			broken = append(broken, fmt.Sprintf("%s: nothing is there for the keys of %s", key.Name, words.Plural(n, "row")))
		case err == nil:
			tested++
		case strings.HasPrefix(code, "XX"):
			broken = append(broken, postgres.Wrap(err, "test "+key.Name).Error())
		case m.refusedFor(code):
			unknown = append(unknown, postgres.Wrap(err, "test "+key.Name).Error())
		default:
			return postgres.Wrap(err, "test foreign key "+key.Name)
		}
	}
	m.receipt.Counted.Constraints += tested
	check := pgmedic.Check{Name: "foreign keys", Outcome: pgmedic.OutcomeOK, Detail: pgmedic.Count(tested) + " hold for every row: each was tested"}
	switch {
	case tested == 0 && len(broken)+len(unknown) == 0:
		check.Detail = "there are none to test"
	case len(broken) > 0:
		check.Outcome, check.Detail, check.Items = pgmedic.OutcomeFailed, "do not hold: "+words.FirstFew(broken), broken
		check.Hint = "look whether the source has such rows, too: with triggers off (session_replication_role) a server does not test them"
	case len(unknown) > 0:
		check.Outcome, check.Detail, check.Items = pgmedic.OutcomeWarn, check.Detail+"; not tested: "+words.FirstFew(unknown), unknown
	}
	m.receipt.Checks = append(m.receipt.Checks, check)
	return nil
}
