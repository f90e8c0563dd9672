package restore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Refusal is one thing of a backup that the server did not take: an object, or the
// rows of a table.
type Refusal struct {
	// Object is its kind and name, in pg_dump's words.
	Object string `json:"object"`
	// Rows is how many rows are missing because of it; zero for an object.
	Rows int64 `json:"rows,omitempty"`
	// SQLState is the server's code, and Reason says what it stands for. Neither
	// holds a value.
	SQLState string `json:"sqlstate,omitempty"`
	Reason   string `json:"reason"`
	// Extension is true where it is an extension that could not be made, which says
	// something about the server and nothing about the backup.
	Extension bool `json:"-"`

	// Entry is what pg_dump says of it in a dump's list; zero for a statement that has
	// none.
	Entry dumpsql.Entry `json:"-"`
}

// String returns one line.
func (r Refusal) String() string {
	rows := ""
	if r.Rows > 0 {
		rows = pgmedic.Count(r.Rows) + " rows missing: "
		if r.Rows == 1 {
			rows = "1 row missing: "
		}
	}
	if r.SQLState == "" {
		return fmt.Sprintf("%s: %s%s", r.Object, rows, r.Reason)
	}
	return fmt.Sprintf("%s: %s%s (SQLSTATE %s)", r.Object, rows, r.Reason, r.SQLState)
}

// protects reports whether what was refused may have kept a user from reading or
// changing what that user must not.
func (r Refusal) protects() bool {
	return slices.Contains([]string{"ROW SECURITY", "POLICY", "ACL", "DEFAULT ACL", "SECURITY LABEL"}, r.Entry.Type)
}

func refusalOf(entry dumpsql.Entry, object string, rows int64, err error) Refusal {
	code := postgres.Code(err)
	r := Refusal{Object: object, Rows: rows, SQLState: code, Reason: "refused", Extension: entry.Type == "EXTENSION", Entry: entry}
	if code != "" {
		r.Reason = postgres.Condition(code)
	}
	return r
}

// refuse records what stays refused, with the error of the last try. Of several refusals
// of one object the first counts, unless it only says that the object exists.
func (s *Session) refuse(entry dumpsql.Entry, object string, rows int64, err error) {
	r := refusalOf(entry, object, rows, err)
	var server *postgres.ServerError
	if s.ShowData != nil && errors.As(err, &server) {
		s.ShowData(r.Object, server.Unredacted())
	}
	s.refusedMu.Lock()
	defer s.refusedMu.Unlock()
	i := slices.IndexFunc(s.refused, func(known Refusal) bool { return known.Object == r.Object })
	switch {
	case i < 0:
		s.refused = append(s.refused, r)
	case alreadyThere(s.refused[i].SQLState):
		s.refused[i] = r
	default:
		s.refused[i].Rows = max(s.refused[i].Rows, r.Rows)
	}
}

// refusals lists what stays refused, objects first.
func (s *Session) refusals() []Refusal {
	slices.SortStableFunc(s.refused, func(a, b Refusal) int {
		return cmp.Compare(boolInt(a.Rows > 0), boolInt(b.Rows > 0))
	})
	return s.refused
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// alreadyThere reports whether a code says that there is such an object.
func alreadyThere(code string) bool {
	return slices.Contains([]string{"42P06", "42P07", "42710", "42712", "42723"}, code)
}

// MaxItems is how many missing or different things a check lists.
const MaxItems = 10_000

// CheckRestores is the name of the check that lists what was refused.
const CheckRestores = "restores"

// RefusedCheck is the check that a restore has where something was refused. It is
// nil where nothing was.
func RefusedCheck(refused []Refusal) *pgmedic.Check {
	if len(refused) == 0 {
		return nil
	}
	lines := make([]string, len(refused))
	for i, r := range refused {
		lines[i] = r.String()
	}
	c := FailedCheck(CheckRestores, lines)
	c.Hint = "everything else was restored; docs/troubleshooting.md says what each reason can mean"
	return c
}

// WithRefused puts what was refused before what the comparison found.
func WithRefused(checks []pgmedic.Check, refused []Refusal) []pgmedic.Check {
	if c := RefusedCheck(refused); c != nil {
		return append([]pgmedic.Check{*c}, checks...)
	}
	return checks
}

// FailedCheck is a check that failed for each of the things listed. It lists MaxItems
// of them, and how many more there are.
func FailedCheck(name string, items []string) *pgmedic.Check {
	c := &pgmedic.Check{Name: name, Outcome: pgmedic.OutcomeFailed, Detail: words.FirstFew(items), Items: items}
	if len(items) > MaxItems {
		c.Items = append(slices.Clone(items[:MaxItems]), fmt.Sprintf("… and %s more", pgmedic.Count(len(items)-MaxItems)))
	}
	return c
}

// Missing lists all that a copy lacks, or has otherwise than the backup: the things
// that failed checks name, with the reason.
func Missing(checks []pgmedic.Check) (lines []string) {
	for _, c := range checks {
		switch {
		case c.Outcome != pgmedic.OutcomeFailed:
		case len(c.Items) > 0:
			lines = append(lines, c.Items...)
		default:
			lines = append(lines, cmp.Or(c.Detail, c.Name))
		}
	}
	return lines
}

// refusedBefore is the check of a copy that a dead restore loaded: only how much was
// refused is known.
func refusedBefore(n int) *pgmedic.Check {
	return FailedCheck(CheckRestores, []string{
		fmt.Sprintf("things that were refused when the copy was loaded: %s; what of it the comparison sees is named below", pgmedic.Count(n)),
	})
}

// IncompleteError is the error that says that a copy exists and lacks part of what was
// backed up, or nil. It does not mean that the restore failed.
func IncompleteError(database string, checks []pgmedic.Check) error {
	missing := Missing(checks)
	if len(missing) == 0 {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindDegraded, "the list is above, and whole in the receipt and with --json; everything else is restored",
		"database %q is not complete: things that are missing or differ from the backup: %s", database, pgmedic.Count(len(missing)))
}
