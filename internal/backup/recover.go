package backup

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/byhand"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// The names of the objects that say how to restore a backup without pgmedic.
const (
	recoverScriptName = "recover.sh"
	recoverGuideName  = "RECOVER.md"
)

//go:embed templates/recover.sh.tmpl
var recoverScript string

//go:embed templates/RECOVER.md.tmpl
var recoverGuide string

// storeRecovery stores the script and the guide, in plain text, as objects of
// the manifest: what runs in an emergency is verified like the data. They
// hold names of tables and columns, and no rows and no secrets.
func (r *Run) storeRecovery(ctx context.Context) error {
	v := newRecovery(r.Manifest, r.Seal.Key != nil && r.Seal.Key.PostQuantum())
	if r.Signer != nil {
		v.Signer = r.Signer.ID()
	}
	for _, part := range []struct{ name, text string }{{recoverScriptName, recoverScript}, {recoverGuideName, recoverGuide}} {
		text, err := byhand.Render(part.name, part.text, v)
		if err != nil {
			return err
		}
		err = r.put(ctx, part.name, func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
		if err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(text))
		r.record(pgmedic.Object{
			Name: part.name, Role: pgmedic.RoleRecovery, SHA256: hex.EncodeToString(sum[:]),
			StoredBytes: int64(len(text)), PlainBytes: int64(len(text)),
		})
	}
	return nil
}

// recovery is what the templates are filled with. Everything in it that comes
// from the database goes into the script through the template's q, and nowhere else:
// a table's name may hold anything.
type recovery struct {
	ID, Name, Method string
	// Encoding is the sessions'; see postgres.AsBytes.
	Encoding                  string
	ServerVersion, SnapshotAt string
	ServerMajor, ClientMajor  int
	ClientVersion             string
	Parallel                  bool
	byhand.Opening
	Objects         []pgmedic.Object
	Globals, Schema string
	// SchemaBytes is how large the definitions are, and SchemaLimit one more.
	SchemaBytes, SchemaLimit int64
	Rest, Dump               string
	MissingSQL               string
	// Signer is the id of the key that signs the manifest, or empty.
	Signer             string
	Create12, Create15 string
	Create16, Create17 string
	Early, Properties  string
	// MoneySQL tries the locale of money, MoneyOption gives it to the sessions that
	// load, and MoneyWarning says that there is none.
	MoneySQL, MoneyOption, MoneyWarning string
	Detach, Analyze                     string
	Tables                              []recoveryTable
	// LeftOut are the OIDs of foreign keys that a partial backup can't hold, as
	// words; Partial says what it was asked to hold.
	LeftOut string
	Partial bool
}

// recoveryTable is a table with the chunks that hold its rows.
type recoveryTable struct {
	Copy, Path, Root string
	Parts            []recoveryPart
}

// recoveryPart is where some of a table's rows are.
type recoveryPart struct {
	pgmedic.Chunk
	Rows int64
	// Skip is how many plain bytes come before, and Bytes how many to take, where
	// the chunk has other Parts.
	Several     bool
	Skip, Bytes int64
}

// newRecovery describes how a backup comes back. It is a pure function of the
// manifest, as far as it is filled before the commit.
func newRecovery(b *pgmedic.Backup, postQuantum bool) recovery {
	const target = `:"db"` // psql quotes the name that the script is given
	v := recovery{
		ID: b.ID, Name: b.Database.Name, Method: string(b.Method), Encoding: "UTF8",
		ServerVersion: b.Server.Version, ServerMajor: b.Server.Major(), SnapshotAt: b.SnapshotAt.UTC().Format(time.RFC3339),
		ClientVersion: b.Programs.PgDump, ClientMajor: majorOf(b.Programs.PgDump),
		Parallel:   b.Method == pgmedic.MethodParallel,
		Objects:    b.Objects,
		MissingSQL: missingSQL(b.Database) + ";",
		Create12:   databases.CreateSQL(target, b.Database, 120000) + ";",
		Create15:   databases.CreateSQL(target, b.Database, 150000) + ";",
		Create16:   databases.CreateSQL(target, b.Database, 160000) + ";",
		Create17:   databases.CreateSQL(target, b.Database, 170000) + ";",
		Early:      strings.Join(append(databases.SettingsSQL(target, databases.EarlySettings(b.Database)), ""), ";\n"),
		Properties: strings.Join(append(databases.PropertiesSQL(target, databases.LateSettings(b.Database)), ""), ";\n"),
		Detach:     detachSQL, Analyze: analyzeSQL,
	}
	if postgres.AsBytes(b.Database.Encoding) {
		v.Encoding = "SQL_ASCII"
	}
	if locale, option := databases.MoneyLocale(b); locale != "" {
		v.MoneySQL = "SELECT pg_catalog.set_config('lc_monetary', " + sqltext.QuoteLiteral(locale) + ", false)"
		v.MoneyOption = " " + option
		v.MoneyWarning = "the server lacks the locale " + locale + ", in which the backup has amounts of type money: compare them"
	}
	name := func(role pgmedic.ObjectRole) string {
		o, _ := b.Object(role)
		return o.Name
	}
	v.Globals, v.Schema = name(pgmedic.RoleGlobals), name(pgmedic.RoleSchema)
	schema, _ := b.Object(pgmedic.RoleSchema)
	v.SchemaBytes, v.SchemaLimit = schema.PlainBytes, schema.PlainBytes+1
	// Empty where it is in the archive of the definitions.
	v.Rest, v.Dump = name(pgmedic.RoleRest), name(pgmedic.RoleDump)
	if v.Partial = b.Partial(); v.Partial && v.Parallel {
		var oids []string
		for _, k := range b.Scope.LeftOutForeignKeys {
			oids = append(oids, strconv.FormatInt(k.OID, 10))
		}
		v.LeftOut = strings.Join(oids, " ")
	}
	v.Opening = byhand.NewOpening(b.Seal.Encryption, b.Seal.Compression, postQuantum, `"$key"`, `"file:$passphrase"`)
	v.Needs = append(v.Needs, "sha256sum or shasum")
	v.addTables(b)
	return v
}

// addTables lists the chunks by table, each table's in the order of the packs.
func (v *recovery) addTables(b *pgmedic.Backup) {
	parts := make(map[int][]recoveryPart)
	for _, c := range b.Chunks {
		skip := int64(0)
		for _, p := range c.Parts {
			parts[p.Table] = append(parts[p.Table], recoveryPart{Chunk: c, Rows: p.Rows, Several: len(c.Parts) > 1, Skip: skip, Bytes: p.PlainBytes})
			skip += p.PlainBytes
		}
	}
	for i, t := range b.Tables {
		if len(parts[i]) == 0 {
			continue
		}
		slices.SortFunc(parts[i], func(a, b recoveryPart) int {
			if c := strings.Compare(a.Pack, b.Pack); c != 0 {
				return c
			}
			return int(min(max(a.Offset-b.Offset, -1), 1))
		})
		row := recoveryTable{
			Copy:  snapshot.CopyInSQL(sqltext.QuoteQualified(t.Schema, t.Name), t.Columns, t.Format, b.Database.Encoding),
			Path:  "SET search_path = " + sqltext.QuoteIdent(t.Schema) + ", public",
			Parts: parts[i],
		}
		if t.RootName != "" {
			row.Root = snapshot.CopyInSQL(sqltext.CountedAs(t), t.Columns, t.Format, b.Database.Encoding)
		}
		v.Tables = append(v.Tables, row)
	}
}

func majorOf(version string) int {
	n := 0
	_, _ = fmt.Sscanf(version, "%d", &n) // zero, any version, where it is not recorded
	return n
}

// missingSQL lists the roles and tablespaces that the server lacks.
func missingSQL(d pgmedic.Database) string {
	roles, spaces := []string{sqltext.QuoteLiteral(d.Owner)}, []string{sqltext.QuoteLiteral(d.Tablespace)}
	for _, r := range d.Roles {
		roles = append(roles, sqltext.QuoteLiteral(r.Name))
	}
	for _, s := range d.Tablespaces {
		spaces = append(spaces, sqltext.QuoteLiteral(s))
	}
	// Sets are compared by the type's own operators, whatever the search path.
	return "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(m.n), ', ') FROM (" +
		"SELECT a.n FROM pg_catalog.unnest(ARRAY[" + strings.Join(roles, ", ") + "]::pg_catalog.text[]) AS a (n) " +
		"EXCEPT SELECT r.rolname::pg_catalog.text FROM pg_catalog.pg_roles AS r) AS m " +
		"HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 UNION ALL " +
		"SELECT pg_catalog.string_agg(pg_catalog.quote_ident(m.n), ', ') FROM (" +
		"SELECT a.n FROM pg_catalog.unnest(ARRAY[" + strings.Join(spaces, ", ") + "]::pg_catalog.text[]) AS a (n) " +
		"EXCEPT SELECT s.spcname::pg_catalog.text FROM pg_catalog.pg_tablespace AS s " +
		"EXCEPT SELECT ''::pg_catalog.text) AS m HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0"
}

// detachSQL takes the slots from the copy's subscriptions.
const detachSQL = `SELECT pg_catalog.format('ALTER SUBSCRIPTION %I DISABLE', s.subname),
	pg_catalog.format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', s.subname)
FROM pg_catalog.pg_subscription AS s JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) s.subdbid
WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
\gexec`

// analyzeSQL analyzes all tables but those with parts on other servers, which
// a copy has no business to ask. It runs as the role that restores, in a database
// whose schemas others may have filled: it names nothing without its schema.
const analyzeSQL = `WITH RECURSIVE above (oid) AS (
	SELECT i.inhparent FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid
	WHERE c.relkind OPERATOR(pg_catalog.=) 'f'
	UNION SELECT i.inhparent FROM above AS a JOIN pg_catalog.pg_inherits AS i ON i.inhrelid OPERATOR(pg_catalog.=) a.oid
)
SELECT pg_catalog.format('ANALYZE %I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'm']::pg_catalog."char"[])
	AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'
	AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')
	AND NOT EXISTS (SELECT FROM above AS a WHERE a.oid OPERATOR(pg_catalog.=) c.oid)
ORDER BY n.nspname, c.relname
\gexec`
