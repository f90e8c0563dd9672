package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// Compare holds a restored database against what its backup recorded: the rows
// of each table, the definition of each object, the extensions. An error means
// that it could not be compared; a difference is a failed check.
func Compare(ctx context.Context, s Source, t postgres.Target) ([]pgmedic.Check, error) {
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	rows, err := compareRows(ctx, conn, s.Backup)
	if err != nil {
		return nil, err
	}
	definitions, err := compareDefinitions(ctx, conn, s, pgtool.Without{})
	if err != nil {
		return nil, err
	}
	return append([]pgmedic.Check{rows}, definitions...), nil
}

func compareRows(ctx context.Context, conn *pgx.Conn, b *pgmedic.Backup) (pgmedic.Check, error) {
	check := pgmedic.Check{Name: "row counts", Outcome: pgmedic.OutcomeOK}
	want := map[string]int64{}
	var tables []pgmedic.Table
	ofExtensions := 0
	for _, t := range b.Tables {
		if t.Extension != "" { // CREATE EXTENSION made some of its rows
			ofExtensions++
			continue
		}
		want[t.CountedAs()] += t.Rows
		tables = append(tables, t)
	}
	have, err := postgres.CountRows(ctx, conn, tables)
	if err != nil {
		return check, err
	}
	var wrong []string
	var total int64
	for _, t := range tables {
		name := t.CountedAs()
		expected, pending := want[name]
		if !pending {
			continue // a further partition of a table already compared
		}
		delete(want, name)
		switch got, ok := have[name]; {
		case !ok:
			wrong = append(wrong, name+" is missing")
		case got != expected:
			wrong = append(wrong, fmt.Sprintf("%s has %s rows, the backup %s", name, pgmedic.Count(got), pgmedic.Count(expected)))
		default:
			total += got
		}
	}
	check.Detail = fmt.Sprintf("%s rows in %s tables", pgmedic.Count(total), pgmedic.Count(len(have)))
	if ofExtensions > 0 {
		check.Detail += fmt.Sprintf("; %d tables of extensions not counted", ofExtensions)
	}
	if len(wrong) > 0 {
		check.Outcome, check.Detail = pgmedic.OutcomeFailed, some(wrong)
	}
	return check, nil
}

// compareDefinitions compares the definitions of objects, and their security labels
// where there are any. What was left out of a copy on purpose may be missing.
func compareDefinitions(ctx context.Context, conn *pgx.Conn, s Source, without pgtool.Without) ([]pgmedic.Check, error) {
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return nil, err
	}
	source, err := readInventory(ctx, s)
	if errors.Is(err, errManyDefinitions) {
		return []pgmedic.Check{{
			Name: "schema", Outcome: pgmedic.OutcomeSkipped,
			Detail: "the inventory lists more than " + pgmedic.Count(maxDefinitions) + " objects, too many to be compared",
		}}, nil
	}
	if err != nil {
		return nil, err
	}
	schema, err := compareSchema(ctx, conn, source, s.Backup, server, without)
	if err != nil {
		return nil, err
	}
	checks := []pgmedic.Check{schema}
	labels, err := compareLabels(ctx, conn, source, s.Backup, without)
	if err == nil && labels != nil {
		checks = append(checks, *labels)
	}
	return checks, err
}

func compareSchema(ctx context.Context, conn *pgx.Conn, source postgres.Inventory, b *pgmedic.Backup, server pgmedic.Server, without pgtool.Without) (pgmedic.Check, error) {
	check := pgmedic.Check{Name: "schema", Outcome: pgmedic.OutcomeOK}
	if server.Major() != b.Server.Major() {
		// Another major version prints definitions in its own way.
		check.Outcome = pgmedic.OutcomeSkipped
		check.Detail = fmt.Sprintf("the backup is of PostgreSQL %d, this server is %d", b.Server.Major(), server.Major())
		return check, nil
	}
	if source.Format != postgres.InventoryFormat {
		check.Outcome = pgmedic.OutcomeSkipped
		check.Detail = fmt.Sprintf("another version of pgmedic recorded the definitions in its way (%d, this one's is %d)",
			source.Format, postgres.InventoryFormat)
		return check, nil
	}
	copied, err := postgres.ReadInventory(ctx, conn, server.VersionNum)
	if err != nil {
		return check, err
	}
	check.Detail = definitionWords(len(source.Definitions), without)
	if diffs := withoutExpected(postgres.CompareInventories(source.Definitions, copied), without); len(diffs) > 0 {
		check = *failedCheck(check.Name, differences(diffs))
	}
	return check, nil
}

func differences(diffs []postgres.Difference) []string {
	words := make([]string, len(diffs))
	for i, d := range diffs {
		words[i] = d.String()
	}
	return words
}

// some names the first few of many.
func some(words []string) string {
	const most = 5
	if len(words) <= most {
		return strings.Join(words, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(words[:most], "; "), len(words)-most)
}
