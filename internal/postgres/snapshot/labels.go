package snapshot

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// labelKind is the kind of a Definition that is a security label. Its identity
// begins with LabelsOf its provider.
const labelKind = "security label"

// LabelsOf is how the identity of each label of a provider begins.
func LabelsOf(provider string) string { return sqltext.QuoteIdent(provider) + " on " }

// labelsQuery finds the labels of what a dump carries, and those of the database
// itself, whose name is another after a restore. Labels that the script of an
// extension gives to what is its own come back with the extension.
const labelsQuery = `
SELECT d.provider, i.type || ' ' || i.identity, d.label
FROM pg_catalog.pg_seclabel AS d, pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) AS i
WHERE (d.objoid >= 16384 OR d.classoid = 'pg_catalog.pg_namespace'::regclass AND d.objoid = 2200
		OR d.classoid = 'pg_catalog.pg_largeobject'::regclass) -- whose numbers are chosen
	AND i.identity IS NOT NULL AND coalesce(i.schema, '') !~ '^pg_'
	AND NOT EXISTS (` + ofLeftOut + `)
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS ext WHERE ext.classid = d.classoid
		AND ext.objid = d.objoid AND ext.deptype = 'e')
UNION ALL
SELECT s.provider, 'database', s.label
FROM pg_catalog.pg_shseclabel AS s JOIN pg_catalog.pg_database AS b ON b.oid = s.objoid
WHERE s.classoid = 'pg_catalog.pg_database'::regclass AND b.datname = current_database()`

// ReadLabels lists the security labels of conn's database and of what is in it, as
// definitions; never nil, which in an Inventory is that of a version that read none.
func ReadLabels(ctx context.Context, conn *pgx.Conn, without LeftOut) (labels []Definition, err error) {
	err = postgres.ElseInBytes(ctx, conn, func() (err error) {
		labels, err = queryLabels(ctx, conn, without)
		return err
	})
	return labels, postgres.Wrap(err, "list the security labels")
}

func queryLabels(ctx context.Context, conn *pgx.Conn, without LeftOut) ([]Definition, error) {
	rows, err := conn.Query(ctx, labelsQuery, without.arguments(labelsQuery)...)
	if err != nil {
		return nil, err
	}
	labels := []Definition{}
	var provider, of, label string
	_, err = pgx.ForEachRow(rows, []any{&provider, &of, &label}, func() error {
		if without.ofSchema(of) {
			return nil
		}
		if !without.LargeObjects || !strings.HasPrefix(of, "large object ") {
			labels = append(labels, Definition{Kind: labelKind, Identity: pgmedic.PrintableBytes(LabelsOf(provider) + of), Hash: hashDefinition("\x01" + label)})
		}
		return nil
	})
	slices.SortFunc(labels, func(a, b Definition) int { return strings.Compare(a.Identity, b.Identity) })
	return labels, err
}
