package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// bytesEncoding is the client encoding in which a server converts nothing.
const bytesEncoding = "SQL_ASCII"

// AsBytes reports whether sessions with a database of this encoding have text as
// it is stored, and not as UTF-8: nothing can convert it.
func AsBytes(encoding string) bool { return encoding == "SQL_ASCII" || encoding == "MULE_INTERNAL" }

// ConnectBytes is Connect for a session in which the server converts no text. What
// all databases of a server share, such as comments on databases and their
// settings, has no encoding of its own: a session with the database itself reads
// and writes its bytes.
func ConnectBytes(ctx context.Context, t Target) (*pgx.Conn, error) {
	conn, err := Connect(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := setEncoding(ctx, conn, bytesEncoding); err != nil {
		Close(ctx, conn)
		return nil, err
	}
	return conn, nil
}

func setEncoding(ctx context.Context, conn *pgx.Conn, encoding string) error {
	return Wrap(ExecSimple(ctx, conn, "SET client_encoding = "+sqltext.QuoteLiteral(encoding)), "set the session's encoding")
}

// inBytes does something for which the server converts no text.
func inBytes(ctx context.Context, conn *pgx.Conn, do func() error) error {
	before := conn.PgConn().ParameterStatus("client_encoding")
	if before == bytesEncoding {
		return do()
	}
	if err := setEncoding(ctx, conn, bytesEncoding); err != nil {
		return err
	}
	err := do()
	if backErr := setEncoding(context.WithoutCancel(ctx), conn, before); err == nil {
		err = backErr
	}
	return err
}

// Untranslatable reports whether the server could not say something in the
// session's encoding.
func Untranslatable(err error) bool {
	code := Code(err)
	return code == "22P05" || code == "22021"
}

// ElseInBytes reads something, and where the session's encoding lacks a character
// of it, reads it again as it is stored.
func ElseInBytes(ctx context.Context, conn *pgx.Conn, read func() error) error {
	err := InSavepoint(ctx, conn, read)
	if Untranslatable(err) {
		err = inBytes(ctx, conn, read)
	}
	return err
}

// InSavepoint does something that leaves a transaction, if there is one, as it was
// where something is untranslatable.
func InSavepoint(ctx context.Context, conn *pgx.Conn, do func() error) error {
	inTransaction := conn.PgConn().TxStatus() != 'I'
	if inTransaction {
		if err := ExecSimple(ctx, conn, "SAVEPOINT pgmedic_text"); err != nil {
			return err
		}
	}
	err := do()
	switch {
	case !inTransaction:
	case Untranslatable(err):
		if backErr := ExecSimple(ctx, conn, "ROLLBACK TO SAVEPOINT pgmedic_text; RELEASE SAVEPOINT pgmedic_text"); backErr != nil {
			return backErr
		}
	case err == nil:
		err = ExecSimple(ctx, conn, "RELEASE SAVEPOINT pgmedic_text")
	}
	return err
}

// Decode returns texts that a program wrote in an encoding as conn's session has
// them. ASCII needs no server.
func Decode(ctx context.Context, conn *pgx.Conn, encoding string, texts []string) ([]string, error) {
	decoded := make([]string, len(texts))
	for i, text := range texts {
		if decoded[i] = text; IsASCII(text) || encoding == "UTF8" || AsBytes(encoding) {
			continue
		}
		err := conn.QueryRow(ctx, "SELECT pg_catalog.convert_from($1, $2)", []byte(text), encoding).Scan(&decoded[i])
		if err != nil {
			return nil, Wrap(err, fmt.Sprintf("read the name %q, which is in %s", text, encoding))
		}
	}
	return decoded, nil
}

// Encode is the way back from Decode.
func Encode(ctx context.Context, conn *pgx.Conn, encoding string, texts []string) ([]string, error) {
	encoded := make([]string, len(texts))
	for i, text := range texts {
		if encoded[i] = text; IsASCII(text) || encoding == "UTF8" || AsBytes(encoding) {
			continue
		}
		var b []byte
		if err := conn.QueryRow(ctx, "SELECT pg_catalog.convert_to($1, $2)", text, encoding).Scan(&b); err != nil {
			return nil, Wrap(err, fmt.Sprintf("write the name %q in %s", text, encoding))
		}
		encoded[i] = string(b)
	}
	return encoded, nil
}

// TextArray is a text[] of one dimension without nulls. What pgx itself reads into
// a []string is UTF-8 or is changed.
type TextArray []string

// Scan implements sql.Scanner.
func (a *TextArray) Scan(src any) error {
	text, ok := src.(string)
	if !ok || !strings.HasPrefix(text, "{") || !strings.HasSuffix(text, "}") {
		return fmt.Errorf("a %T is not an array of text", src)
	}
	*a = TextArray{}
	if text = text[1 : len(text)-1]; text == "" {
		return nil
	}
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quoted && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			*a = append(*a, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	*a = append(*a, b.String())
	return nil
}

// GlobalsEncoding returns the encoding of the database through which pg_dumpall
// reads what is the server's: postgres, or where there is none template1. Names go
// out of it and into one like it as they are stored.
func GlobalsEncoding(ctx context.Context, conn *pgx.Conn) (encoding string, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_encoding_to_char(encoding)::text FROM pg_catalog.pg_database
		WHERE datname IN ('postgres', 'template1') ORDER BY datname LIMIT 1`).Scan(&encoding)
	return encoding, Wrap(err, "look for the database postgres")
}

// IsASCII reports whether a text is the same bytes in every encoding.
func IsASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 })
}

// storedNames are the names by which tables, views and their columns are called.
const storedNames = `
SELECT DISTINCT s.kind || pg_catalog.quote_ident(s.name) || s.of AS said, s.name FROM (
	SELECT 'schema ' AS kind, n.nspname::text AS name, '' AS of, n.oid FROM pg_catalog.pg_namespace AS n
	UNION ALL SELECT 'relation ', c.relname::text, ' of schema ' || pg_catalog.quote_ident(n.nspname), n.oid
	FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	UNION ALL SELECT 'column ', a.attname::text, ' of ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), n.oid
	FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
		JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE a.attnum > 0 AND NOT a.attisdropped
	UNION ALL SELECT 'type ', t.typname::text, ' of schema ' || pg_catalog.quote_ident(n.nspname), n.oid
	FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
	WHERE t.typrelid = 0 AND t.typelem = 0
) AS s JOIN pg_catalog.pg_namespace AS n ON n.oid = s.oid
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1`

// RefuseUntranslatable turns an error that says that something could not be read in
// UTF8 into one that names it, if it is a table's name or a column's. It ends conn's
// transaction.
func RefuseUntranslatable(ctx context.Context, conn *pgx.Conn, err error) error {
	if !Untranslatable(err) {
		return err
	}
	_ = ExecSimple(ctx, conn, "ROLLBACK") // there may be none
	type row struct{ Said, Name string }
	var rows []row
	readErr := inBytes(ctx, conn, func() (err error) {
		rows, err = Collect[row](ctx, conn, storedNames)
		return err
	})
	if readErr != nil {
		return err
	}
	encoding := conn.PgConn().ParameterStatus("server_encoding")
	for _, r := range rows {
		if _, decodeErr := Decode(ctx, conn, encoding, []string{r.Name}); Untranslatable(decodeErr) {
			return UntranslatableName(r.Said, encoding)
		}
	}
	return err
}

// UntranslatableName is the error for something that can't be named in UTF8.
func UntranslatableName(said, encoding string) error {
	return pgmedic.Errorf(pgmedic.KindUsage, "give it a name that UTF8 has (ALTER … RENAME), or back this database up with pg_dump; docs/limits.md says what works in which encoding",
		"the name of %s has bytes in %s that are not a character in UTF8", pgmedic.PrintableBytes(said), encoding)
}
