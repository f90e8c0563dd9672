package swap

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// nameBound is what a copy lacks because extensions can be made only in a database
// of the live name: their own scripts refuse the copy, and the live database has them.
// Once the copy has that name they are made.
type nameBound struct {
	extensions []string
	members    []databases.Member
}

// raised is the SQLSTATE of an error that a script raises itself.
const raised = "P0001"

// findNameBound looks for such extensions. A live database that can't be read is not
// evidence: then none are found, and a person is asked about what the copy lacks.
func findNameBound(ctx context.Context, o *Options, loaded *restore.Loaded) (b nameBound, err error) {
	var names []string
	for _, r := range loaded.Refused {
		if r.Extension && r.SQLState == raised {
			names = append(names, r.Entry.Name)
		}
	}
	if len(names) == 0 {
		return b, nil
	}
	conn, err := postgres.Connect(ctx, o.Target.WithDatabase(o.Live))
	if err == nil {
		defer postgres.Close(ctx, conn)
		b.members, err = databases.ReadMembers(ctx, conn, names)
	}
	if err != nil {
		o.Logger.Debug("cannot tell whether the live database has the extensions that the copy lacks", "error", err)
		return nameBound{}, ctx.Err()
	}
	for _, m := range b.members {
		if !slices.Contains(b.extensions, m.Extension) {
			b.extensions = append(b.extensions, m.Extension)
		}
	}
	return b, nil
}

// unexpected is what a copy lacks, except for what comes after the swap.
func (b nameBound) unexpected(checks []pgmedic.Check, refused []restore.Refusal) (missing []string) {
	expected := map[string]bool{}
	for _, r := range refused {
		if b.expects(r) {
			expected[r.String()] = true
		}
	}
	return slices.DeleteFunc(restore.Missing(checks), func(line string) bool { return expected[line] || b.expectsLine(line) })
}

// expects reports whether something was refused for want of these extensions: one of
// them, or what a dump says of what belongs to them.
func (b nameBound) expects(r restore.Refusal) bool {
	e := r.Entry
	switch e.Type {
	case "EXTENSION":
		return slices.Contains(b.extensions, e.Name)
	case "COMMENT", "ACL", "TABLE DATA", "SEQUENCE SET":
	default:
		return false
	}
	if kind, name, _ := strings.Cut(e.Name, " "); e.Type == "COMMENT" && kind == "EXTENSION" && slices.Contains(b.extensions, name) {
		return true
	}
	return slices.ContainsFunc(b.members, func(m databases.Member) bool {
		switch {
		case m.Name == "":
			return false
		case m.Type == "schema": // all in there waits for it; but rows of others' tables are asked about
			return e.Type == "ACL" && (e.Schema == m.Name || e.Schema == "" && e.Name == "SCHEMA "+m.Name)
		}
		return e.Schema == m.Schema && (e.Name == m.Name || strings.HasSuffix(e.Name, " "+m.Name))
	})
}

// expectsLine is expects for what the comparison found.
func (b nameBound) expectsLine(line string) bool {
	for _, name := range b.extensions {
		for _, identity := range []string{name, sqltext.QuoteIdent(name)} { // which is quoted where it must be
			if line == "extension "+identity+" missing" || line == "comment extension "+identity+" missing" {
				return true
			}
		}
	}
	return slices.ContainsFunc(b.members, func(m databases.Member) bool {
		if m.Type == "sequence" && line == "sequence "+m.Identity+" is missing" {
			return true
		}
		rest, found := strings.CutPrefix(line, "privileges "+m.Type+" "+m.Identity)
		rest, missing := strings.CutSuffix(rest, " missing")
		return found && missing && strings.Trim(rest, " 0123456789") == "" // a column's number
	})
}

// makeBound tries once more, in the database that is live now, what the server refused
// of the copy, and compares the definitions with the backup again. A failure is not an
// error: the swap is done, and what could not be made is reported as missing.
func (r *swapRun) makeBound(ctx context.Context, o *Options, loaded *restore.Loaded, bound nameBound, done *Swapped) {
	err := func() error {
		copied := o.Options
		copied.Into = o.Live
		again, err := restore.Again(ctx, copied, loaded)
		if again != nil {
			done.Refused, done.MadeAfter = again.Refused, again.Made
		}
		if err != nil {
			return err
		}
		done.Checks, err = checkAgain(ctx, o, done)
		return err
	}()
	if err != nil {
		done.Checks = append(done.Checks, pgmedic.Check{
			Name: "after the swap", Outcome: pgmedic.OutcomeFailed,
			Detail: "what waits for the live name could not be made, or not be compared: " + err.Error(),
		})
	}
	if missing := bound.lacking(done.Refused); len(missing) > 0 {
		done.ByHand = byHand(missing, o.Backup.Database.Extensions)
	}
	done.Incomplete = len(restore.Missing(done.Checks)) > 0
	if !done.Incomplete && done.Kept != "" {
		if err := r.forgetUnmade(ctx, done.Kept); err != nil {
			o.Logger.Warn("`pgmedic restore --resume` will say that the extensions of the live name may be missing; they are there", "error", err)
		}
	}
}

// lacking returns the extensions that are still refused.
func (b nameBound) lacking(refused []restore.Refusal) (names []string) {
	for _, r := range refused {
		if r.Extension && slices.Contains(b.extensions, r.Entry.Name) {
			names = append(names, r.Entry.Name)
		}
	}
	return names
}

// byHand returns the statements that make extensions.
func byHand(names []string, recorded []pgmedic.Extension) (sql []string) {
	for _, e := range recorded {
		if slices.Contains(names, e.Name) {
			sql = append(sql, fmt.Sprintf("CREATE EXTENSION %s WITH SCHEMA %s;", sqltext.QuoteIdent(e.Name), sqltext.QuoteIdent(e.Schema)))
		}
	}
	return sql
}

// checkAgain compares the definitions again, and takes out of the other checks what
// came since.
func checkAgain(ctx context.Context, o *Options, done *Swapped) ([]pgmedic.Check, error) {
	conn, err := postgres.Connect(ctx, o.Target.WithDatabase(o.Live))
	if err != nil {
		return done.Checks, err
	}
	defer postgres.Close(ctx, conn)
	definitions, err := restore.CompareDefinitions(ctx, conn, o.Source(), o.Without)
	if err != nil {
		return done.Checks, err
	}
	came, err := came(ctx, conn, o.Backup, done)
	if err != nil {
		return done.Checks, err
	}
	var checks []pgmedic.Check
	for _, c := range done.Checks {
		again := slices.IndexFunc(definitions, func(d pgmedic.Check) bool { return d.Name == c.Name })
		switch {
		case c.Name == restore.CheckRestores: // RefusedCheck says it again
			continue
		case again >= 0:
			c = definitions[again]
		case c.Outcome == pgmedic.OutcomeFailed && len(c.Items) > 0:
			items := slices.DeleteFunc(slices.Clone(c.Items), came)
			if len(items) == 0 {
				c = pgmedic.Check{Name: c.Name, Outcome: pgmedic.OutcomeOK, Detail: "equal; what was missing came after the swap"}
			} else {
				c = *restore.FailedCheck(c.Name, items)
			}
		}
		checks = append(checks, c)
	}
	return restore.WithRefused(checks, done.Refused), nil
}

// came returns whether a line of a check names a sequence or the rows of a table that
// are there now. Clients may have written since: more rows are not missing rows.
func came(ctx context.Context, conn *pgx.Conn, b *pgmedic.Backup, done *Swapped) (func(line string) bool, error) {
	want := map[string]int64{}
	var tables []pgmedic.Table
	for _, m := range done.MadeAfter {
		i := slices.IndexFunc(b.Tables, func(t pgmedic.Table) bool {
			return m.Entry.Type == "TABLE DATA" && t.Schema == m.Entry.Schema && t.Name == m.Entry.Name
		})
		if i < 0 {
			continue
		}
		root := sqltext.CountedAs(b.Tables[i])
		if _, counted := want[root]; counted {
			continue
		}
		for _, t := range b.Tables {
			if sqltext.CountedAs(t) == root {
				want[root] += t.Rows
				tables = append(tables, t)
			}
		}
	}
	have, err := databases.CountRows(ctx, conn, tables)
	if err != nil {
		return nil, err
	}
	var sequences []string
	for _, line := range restore.Missing(done.Checks) {
		if name, ok := missingSequence(line); ok {
			sequences = append(sequences, name)
		}
	}
	values, err := snapshot.ReadSequences(ctx, conn, sequences)
	if err != nil {
		return nil, err
	}
	unset := slices.ContainsFunc(done.Refused, func(r restore.Refusal) bool { return r.Entry.Type == "SEQUENCE SET" })
	return func(line string) bool {
		if name, ok := missingSequence(line); ok {
			_, there := values[name]
			return there && !unset
		}
		for root, rows := range want {
			if strings.HasPrefix(line, root+" ") {
				return have[root] >= rows
			}
		}
		return false
	}, nil
}

// missingSequence takes the name out of the line that says of a sequence that it is
// not there.
func missingSequence(line string) (name string, ok bool) {
	name, begins := strings.CutPrefix(line, "sequence ")
	name, ends := strings.CutSuffix(name, " is missing")
	return name, begins && ends
}

// forgetUnmade takes out of a kept database's story what was to be made after the swap.
func (r *swapRun) forgetUnmade(ctx context.Context, kept string) error {
	stories, err := databases.ReadStories(ctx, r.admin)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(stories, func(k databases.Kept) bool { return k.Name == kept })
	if i < 0 {
		return nil
	}
	story := stories[i].Story
	story.Unmade = nil
	return databases.SetLastingStory(ctx, r.admin, kept, story)
}

// unmadeCheck is the check of a swap that was killed before it had made what waits for
// the live name, or had only begun to. It is nil where there is nothing of it.
func unmadeCheck(extensions []string) *pgmedic.Check {
	if len(extensions) == 0 {
		return nil
	}
	lines := make([]string, len(extensions))
	for i, name := range extensions {
		lines[i] = fmt.Sprintf("extension %s: to be made once the database had its name, and not known to be whole", sqltext.QuoteIdent(name))
	}
	c := restore.FailedCheck(restore.CheckRestores, lines)
	c.Hint = "docs/limits.md says how it, and its rows, come back"
	return c
}
