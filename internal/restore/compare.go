package restore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// CompareOptions say what is compared with what. Required: Catalog and Backup of
// Source, Target, Tools, Now.
type CompareOptions struct {
	Source
	// Target is the restored database.
	Target postgres.Target
	Tools  pgtool.Finder
	// Jobs is how many connections read rows; zero means one for each processor.
	Jobs int
	// CountsOnly, if not empty, is why rows are only counted.
	CountsOnly string
	// Without is what was left out of the copy on purpose.
	Without dumpsql.Without
	// Private is true where the copy has no access list and no connection limit yet.
	Private bool
	// RefusedSettings are settings that the server did not take.
	RefusedSettings []string
	Progress        func(pgmedic.Event)
	Now             func() time.Time
}

func (o *CompareOptions) jobs() int { return postgres.Jobs(o.Jobs) }

// Compare compares a restored database with what its backup recorded: the rows of
// each table, value by value where the backup has sums, the values of sequences,
// large objects, the definition of each object, the extensions. What was left out
// of the copy on purpose may be missing. An error means that it could not be
// compared; a difference is a failed check, and what was not compared is named.
func Compare(ctx context.Context, o CompareOptions) ([]pgmedic.Check, error) {
	conn, err := postgres.Connect(ctx, o.Target)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	checks, err := compareContent(ctx, conn, o)
	if err != nil {
		return nil, err
	}
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return nil, err
	}
	database, err := compareDatabase(ctx, conn, o, server.VersionNum)
	if err != nil {
		return nil, err
	}
	definitions, err := compareDefinitions(ctx, conn, o.Source, server, o.Without)
	return slices.Concat(checks, definitions, []pgmedic.Check{database}), err
}

// compareCopy compares a copy with what is known of what it was made of.
func (o *Options) compareCopy(ctx context.Context, loaded *Loaded) ([]pgmedic.Check, error) {
	if o.Dump != nil {
		return o.compareDump(ctx, loaded)
	}
	return Compare(ctx, CompareOptions{
		Source: o.Source(), Target: o.Target.WithDatabase(o.Into), Tools: o.Tools, Jobs: o.Jobs,
		CountsOnly: o.CountsOnly, Without: o.Without, Private: o.Private || loaded.Withheld, RefusedSettings: loaded.RefusedSettings, Progress: o.Progress, Now: o.Now,
	})
}

// CompareLoaded compares a copy that was just loaded with its backup, as Compare does.
// What the server refused while it was loaded comes first.
func CompareLoaded(ctx context.Context, o Options, loaded *Loaded) ([]pgmedic.Check, error) {
	checks, err := o.compareCopy(ctx, loaded)
	if err != nil {
		return nil, err
	}
	checks = WithRefused(checks, loaded.Refused)
	if loaded.RefusedBefore > 0 {
		checks = append([]pgmedic.Check{*refusedBefore(loaded.RefusedBefore)}, checks...)
	}
	return checks, nil
}

// CompareDefinitions is the part of Compare that holds the definition of each object,
// and security labels, of the database that conn is connected to, with the backup.
// It reads no rows.
func CompareDefinitions(ctx context.Context, conn *pgx.Conn, s Source, without dumpsql.Without) ([]pgmedic.Check, error) {
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return nil, err
	}
	return compareDefinitions(ctx, conn, s, server, without)
}

// checkValues is the name of the check that compares values.
const checkValues = "values"

// compareContent compares rows, sequences and large objects.
func compareContent(ctx context.Context, conn *pgx.Conn, o CompareOptions) ([]pgmedic.Check, error) {
	if o.Without.Rows {
		return []pgmedic.Check{{Name: "row counts", Outcome: pgmedic.OutcomeSkipped, Detail: "the copy has no rows, as requested"}}, nil
	}
	values := pgmedic.Check{Name: checkValues, Outcome: pgmedic.OutcomeSkipped, Detail: o.CountsOnly}
	c := &comparison{CompareOptions: o, roots: map[string]*rootSum{}}
	if o.CountsOnly == "" {
		var err error
		if c.sums, err = o.Sums(ctx); err != nil {
			return nil, err
		}
		values.Detail = "counts only: the backup has no sums that this version of pgmedic can compare"
	}
	if c.sums != nil {
		var err error
		if values, err = c.compare(ctx, conn); err != nil {
			return nil, err
		}
	}
	rows, err := compareRows(ctx, conn, o.Backup, c.counts())
	return []pgmedic.Check{rows, values}, err
}

// compare compares all that the backup has sums of.
func (c *comparison) compare(ctx context.Context, conn *pgx.Conn) (pgmedic.Check, error) {
	check := pgmedic.Check{Name: checkValues, Outcome: pgmedic.OutcomeOK}
	if err := c.compareRows(ctx); err != nil {
		return check, err
	}
	if err := c.outside(ctx); err != nil {
		return check, err
	}
	equal, err := c.compareOutside(ctx)
	if err != nil {
		return check, err
	}
	if wrong := append(c.differing(), c.wrong...); len(wrong) > 0 {
		return *FailedCheck(check.Name, wrong), nil
	}
	rows := int64(0)
	for _, r := range c.roots {
		rows += r.have.rows
	}
	check.Detail = fmt.Sprintf("%s in %s equal, value by value", words.Plural(rows, "row"), words.Plural(len(c.roots), "table"))
	if len(equal) > 0 {
		check.Detail += "; also " + strings.Join(equal, " and ")
	}
	if err := c.notCompared(ctx, conn); err != nil {
		return check, err
	}
	if len(c.unread) > 0 {
		check.Detail += "; not compared: " + strings.Join(c.unread, "; ")
	}
	return check, nil
}

// notCompared names what holds values that the backup has no sums of.
func (c *comparison) notCompared(ctx context.Context, conn *pgx.Conn) error {
	var extensions, others []string
	summed := make(map[int]bool, len(c.sums.Tables))
	for _, t := range c.sums.Tables {
		summed[t.Index] = true
	}
	for i, t := range c.Backup.Tables {
		name := sqltext.QuoteQualified(t.Schema, t.Name)
		switch {
		case summed[i] || t.WithoutRows:
		case t.Extension != "":
			extensions = append(extensions, name)
		default:
			others = append(others, name)
		}
	}
	views, err := snapshot.ReadFilledViews(ctx, conn)
	if err != nil {
		return err
	}
	for _, group := range []struct {
		names []string
		what  string
	}{
		{others, "rows of tables that were counted"},
		{extensions, "rows of extensions' own tables"},
		{views, "rows of materialized views, which the restore computed again"},
	} {
		if len(group.names) > 0 {
			c.unread = append(c.unread, group.what+": "+words.FirstFew(group.names))
		}
	}
	return nil
}

// compareRows compares how many rows each table has. Those that have come out of
// the comparison by value are not counted again.
func compareRows(ctx context.Context, conn *pgx.Conn, b *pgmedic.Backup, counted map[string]int64) (pgmedic.Check, error) {
	check := pgmedic.Check{Name: "row counts", Outcome: pgmedic.OutcomeOK}
	want := map[string]int64{}
	var tables, uncounted []pgmedic.Table
	ofExtensions := 0
	for _, t := range b.Tables {
		if t.Extension != "" { // CREATE EXTENSION made some of its rows
			ofExtensions++
			continue
		}
		want[sqltext.CountedAs(t)] += t.Rows
		tables = append(tables, t)
		if _, done := counted[sqltext.CountedAs(t)]; !done {
			uncounted = append(uncounted, t)
		}
	}
	have, err := databases.CountRows(ctx, conn, uncounted)
	if err != nil {
		return check, err
	}
	maps.Copy(have, counted)
	var wrong []string
	var total int64
	for _, t := range tables {
		name := sqltext.CountedAs(t)
		expected, pending := want[name]
		if !pending {
			continue // a further partition of a table already compared
		}
		delete(want, name)
		switch got, ok := have[name]; {
		case !ok:
			wrong = append(wrong, name+" is missing")
		case got != expected:
			wrong = append(wrong, fmt.Sprintf("%s has %s, the backup %s", name, words.Plural(got, "row"), pgmedic.Count(expected)))
		default:
			total += got
		}
	}
	check.Detail = words.Plural(total, "row") + " in " + words.Plural(len(have), "table")
	if ofExtensions > 0 {
		check.Detail += "; " + words.Plural(ofExtensions, "table") + " of extensions not counted"
	}
	if len(wrong) > 0 {
		return *FailedCheck(check.Name, wrong), nil
	}
	return check, nil
}

// compareDefinitions compares the definitions of objects, and their security labels
// where there are any. What was left out of a copy on purpose may be missing.
func compareDefinitions(ctx context.Context, conn *pgx.Conn, s Source, server pgmedic.Server, without dumpsql.Without) ([]pgmedic.Check, error) {
	source, err := ReadInventory(ctx, s)
	if errors.Is(err, ErrManyDefinitions) {
		return []pgmedic.Check{{Name: "schema", Outcome: pgmedic.OutcomeSkipped, Detail: ErrManyDefinitions.Error()}}, nil
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

func compareSchema(ctx context.Context, conn *pgx.Conn, source snapshot.Inventory, b *pgmedic.Backup, server pgmedic.Server, without dumpsql.Without) (pgmedic.Check, error) {
	check := pgmedic.Check{Name: "schema", Outcome: pgmedic.OutcomeOK}
	if server.Major() != b.Server.Major() {
		// Another major version prints definitions in its own way.
		check.Outcome = pgmedic.OutcomeSkipped
		check.Detail = fmt.Sprintf("the backup is of PostgreSQL %d, this server is %d", b.Server.Major(), server.Major())
		return check, nil
	}
	if source.Format != snapshot.InventoryFormat {
		check.Outcome = pgmedic.OutcomeSkipped
		check.Detail = fmt.Sprintf("another version of pgmedic recorded the definitions in its way (%d, this one's is %d)",
			source.Format, snapshot.InventoryFormat)
		return check, nil
	}
	copied, err := snapshot.ReadInventory(ctx, conn, server.VersionNum)
	if err != nil {
		return check, err
	}
	check.Detail = definitionWords(len(source.Definitions), without)
	if diffs := withoutExpected(snapshot.CompareInventories(source.Definitions, copied), without); len(diffs) > 0 {
		check = *FailedCheck(check.Name, differences(diffs))
	}
	return check, nil
}

func differences(diffs []snapshot.Difference) []string {
	lines := make([]string, len(diffs))
	for i, d := range diffs {
		lines[i] = d.String()
	}
	return lines
}
