package drill

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Assertion is a query that a copy must answer as expected.
type Assertion struct {
	Name string
	// SQL is one query of one column. It runs in a transaction that can't write.
	SQL string
	// Expect are the rows that it must return, in their order, each as the
	// server prints it. None, and no bounds, mean one row that is true.
	Expect []string
	// Min and Max bound the one number that it returns, both included.
	Min, Max *float64
}

// refuseSyntax lets the server parse the assertions before hours are spent: one that is
// not valid SQL is a mistake in the configuration, not in the backup.
func (r *rehearsal) refuseSyntax(ctx context.Context) error {
	if len(r.Assertions) == 0 {
		return nil
	}
	conn, err := postgres.Connect(ctx, r.place.target.WithDatabase(r.place.maintenance))
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	for _, a := range r.Assertions {
		// A name in it does not exist, which is another error.
		_, err := conn.PgConn().Prepare(ctx, "", a.SQL, nil)
		switch code := postgres.Code(err); {
		case code == "42601":
			return pgmedic.Errorf(pgmedic.KindUsage, "correct it in drill.assertions; it must be one query",
				"assertion %q is not SQL that the server understands", a.Name)
		case err != nil && code == "":
			return postgres.Wrap(err, "parse the assertions")
		}
	}
	return nil
}

// assert runs the configured assertions on the copy.
func (r *rehearsal) assert(ctx context.Context) error {
	if len(r.Assertions) == 0 {
		r.add("assertions", pgmedic.OutcomeSkipped, "none are configured (drill.assertions)")
		return nil
	}
	conn, err := r.assertionSession(ctx)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	for _, a := range r.Assertions {
		r.report(pgmedic.Event{Step: "assertions", Object: a.Name})
		wrong, err := r.ask(ctx, conn, a)
		if err != nil {
			return err
		}
		check := pgmedic.Check{Name: "assertion " + a.Name, Outcome: pgmedic.OutcomeOK, Detail: "as expected"}
		if wrong != "" {
			check.Outcome, check.Detail = pgmedic.OutcomeFailed, wrong
			check.Hint = "check the backup's data, or correct the assertion in drill.assertions"
		}
		r.receipt.Checks = append(r.receipt.Checks, check)
		r.receipt.Counted.Assertions++
	}
	return nil
}

// ask returns what is wrong with the answer, or nothing. An error means that
// there was none, for a reason that is not the backup's.
func (r *rehearsal) ask(ctx context.Context, conn *pgx.Conn, a Assertion) (wrong string, err error) {
	timeout := r.AssertionTimeout.Round(time.Millisecond).Milliseconds()
	if _, err := conn.Exec(ctx, "BEGIN READ ONLY"); err != nil {
		return "", postgres.Wrap(err, "begin an assertion")
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", timeout)); err != nil {
		return "", postgres.Wrap(err, "begin an assertion")
	}
	got, err := read(ctx, conn, a)
	if _, endErr := conn.Exec(context.WithoutCancel(ctx), "ROLLBACK"); err == nil {
		err = endErr
	}
	switch code := postgres.Code(err); {
	case err == nil:
		return a.judge(got), nil
	case ctx.Err() != nil:
		return "", postgres.Wrap(err, "run an assertion")
	case code == "57014":
		return fmt.Sprintf("took longer than %s (drill.assertion_timeout)", words.Duration(r.AssertionTimeout)), nil
	case code == "25006":
		return "writes, and an assertion may only read", nil
	// An object in a state that does not allow it, such as a view that is not
	// populated, is the copy's state.
	case !r.refusedFor(code) && !strings.HasPrefix(code, "55"):
		return "", postgres.Wrap(err, fmt.Sprintf("run assertion %q", a.Name))
	}
	var server *postgres.ServerError
	if errors.As(postgres.Wrap(err, ""), &server) {
		return "could not be run: " + server.Error(), nil
	}
	return "could not be run", nil
}

// answer is what a query returned.
type answer struct {
	columns int
	// oid is the type of the first column.
	oid uint32
	// rows counts all; values are the first of them, nil for null.
	rows   int64
	values []*string
}

// read reads an answer to its end and keeps no more of it than is compared.
func read(ctx context.Context, conn *pgx.Conn, a Assertion) (answer, error) {
	var got answer
	result := conn.PgConn().ExecParams(ctx, a.SQL, nil, nil, nil, []int16{pgtype.TextFormatCode})
	for result.NextRow() {
		if got.rows++; got.rows <= int64(max(len(a.Expect), 1)) {
			var value *string
			if v := result.Values(); len(v) > 0 && v[0] != nil {
				text := string(v[0])
				value = &text
			}
			got.values = append(got.values, value)
		}
		got.see(result.FieldDescriptions())
	}
	got.see(result.FieldDescriptions())
	_, err := result.Close()
	return got, err
}

func (g *answer) see(fields []pgconn.FieldDescription) {
	if g.columns = len(fields); g.columns > 0 {
		g.oid = fields[0].DataTypeOID
	}
}

// judge returns how an answer differs from what is expected. What is returned
// may be personal data: only booleans and numbers of it are reported.
func (a Assertion) judge(got answer) string {
	expect := a.Expect
	bounded := a.Min != nil || a.Max != nil
	if len(expect) == 0 && !bounded {
		expect = []string{"true"}
	}
	if wanted := max(int64(len(expect)), 1); got.rows != wanted {
		return fmt.Sprintf("returns %s, expected %s", words.Plural(got.rows, "row"), pgmedic.Count(wanted))
	}
	if got.columns != 1 {
		return fmt.Sprintf("returns %s, expected 1", words.Plural(got.columns, "column"))
	}
	if bounded {
		return a.outside(got)
	}
	for i, value := range got.values {
		if same(value, expect[i], got.oid) {
			continue
		}
		if len(expect) > 1 {
			return fmt.Sprintf("row %d differs from what is expected", i+1)
		}
		if !tellable(got.oid) {
			return "differs from what is expected"
		}
		return "is " + shown(value, got.oid) + ", not what is expected"
	}
	return ""
}

func (a Assertion) outside(got answer) string {
	value := got.values[0]
	if value == nil {
		return "is null, expected a number"
	}
	n, ok := new(big.Rat).SetString(*value)
	if !ok || !number(got.oid) {
		return "is not a number, which min and max need"
	}
	if a.Min != nil && n.Cmp(new(big.Rat).SetFloat64(*a.Min)) < 0 {
		return fmt.Sprintf("is %s, expected at least %v", *value, *a.Min)
	}
	if a.Max != nil && n.Cmp(new(big.Rat).SetFloat64(*a.Max)) > 0 {
		return fmt.Sprintf("is %s, expected at most %v", *value, *a.Max)
	}
	return ""
}

// same compares a value with what is expected: booleans by their words, numbers
// as numbers, everything else as text.
func same(value *string, expect string, oid uint32) bool {
	if value == nil {
		return false
	}
	if number(oid) {
		x, okX := new(big.Rat).SetString(*value)
		y, okY := new(big.Rat).SetString(expect)
		if okX && okY {
			return x.Cmp(y) == 0
		}
	}
	return shown(value, oid) == expect
}

func shown(value *string, oid uint32) string {
	switch {
	case value == nil:
		return "null"
	case oid == pgtype.BoolOID:
		return map[string]string{"t": "true", "f": "false"}[*value]
	}
	return *value
}

func tellable(oid uint32) bool { return oid == pgtype.BoolOID || number(oid) }

func number(oid uint32) bool {
	switch oid {
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID:
		return true
	}
	return false
}
