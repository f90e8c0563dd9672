package backup_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var update = flag.Bool("update", false, "write the golden files anew")

// evil is a name that would run a command wherever it is not quoted.
const evil = "a'b\"c $(touch pwned) `touch pwned` \\ ${HOME} ; touch pwned\nHASHES\nSQL\nEOF\n'\\'' :\"db\" :'db' \r\t& !! %s é 表"

// manifest is one of a backup with such names everywhere.
func manifest(method pgmedic.Method, compression, encryption string) *pgmedic.Backup {
	suffix := map[string]string{"gzip": ".gz", "zstd": ".zst", "none": ""}[compression]
	suffix += map[string]string{"age": ".age", "aes-256-cbc": ".enc"}[encryption]
	object := func(name string, role pgmedic.ObjectRole) pgmedic.Object {
		return pgmedic.Object{Name: name, Role: role, StoredBytes: 1, SHA256: strings.Repeat("0a", 32)}
	}
	b := &pgmedic.Backup{
		Format: 1, ID: "20261122T020000Z-7f3a9c", Method: method, SnapshotAt: time.Date(2026, 11, 22, 2, 0, 1, 0, time.UTC),
		Programs: pgmedic.Programs{PgDump: "15.18"},
		Server:   pgmedic.Server{Name: "clinic", Version: "15.18", VersionNum: 150018},
		Database: pgmedic.Database{
			Name: evil, Owner: evil, Encoding: "UTF8", Collate: "C", CType: evil, LocaleProvider: "icu", ICULocale: evil,
			Tablespace: evil, Comment: evil, ConnectionLimit: 5, ACL: []pgmedic.Grant{{Grantee: evil, Privilege: "CONNECT"}},
			Settings: []pgmedic.Setting{{Name: "search_path", Value: `"$user", public`}, {Role: evil, Name: evil, Value: evil}},
			Roles:    []pgmedic.Role{{Name: evil}},
		},
		Seal:    pgmedic.Seal{Compression: compression, Encryption: encryption},
		Objects: []pgmedic.Object{object("globals.sql"+suffix, pgmedic.RoleGlobals)},
	}
	if method == pgmedic.MethodPlain {
		b.Objects = append(b.Objects, object("dump.sql"+suffix, pgmedic.RoleDump))
		return b
	}
	b.Objects = append(b.Objects, object("schema.dump"+suffix, pgmedic.RoleSchema), object("rest.dump"+suffix, pgmedic.RoleRest),
		object("pack-0001", pgmedic.RolePack), object("pack-0002", pgmedic.RolePack))
	b.Tables = []pgmedic.Table{
		{Schema: "public", Name: "patients", Format: pgmedic.CopyBinary, Columns: []pgmedic.Column{{Name: "id"}, {Name: "name"}}},
		{Schema: evil, Name: evil, RootSchema: evil, RootName: "root", Format: pgmedic.CopyText, Columns: []pgmedic.Column{{Name: evil}}},
		{Schema: "public", Name: "of pg_dump's"},
		{Schema: "public", Name: "no columns", Format: pgmedic.CopyText},
	}
	b.Chunks = []pgmedic.Chunk{
		{Pack: "pack-0001", Offset: 300, StoredBytes: 20, Parts: []pgmedic.Part{{Table: 1, PlainBytes: 12, Rows: 2}, {Table: 3, PlainBytes: 8, Rows: 1}}},
		{Pack: "pack-0002", Offset: 0, StoredBytes: 5_000_000_000, Parts: []pgmedic.Part{{Table: 0, PlainBytes: 9_000_000_000, Rows: 1_000_000}}},
		{Pack: "pack-0001", Offset: 0, StoredBytes: 300, Parts: []pgmedic.Part{{Table: 0, PlainBytes: 1000, Rows: 10}}},
	}
	return b
}

// partial is a manifest of a backup that could not hold two foreign keys, and of
// which pg_dump keeps little.
func partial() *pgmedic.Backup {
	b := manifest(pgmedic.MethodParallel, "zstd", "none")
	b.Objects = slices.DeleteFunc(b.Objects, func(o pgmedic.Object) bool { return o.Role == pgmedic.RoleRest })
	b.Scope = &pgmedic.Scope{Tables: []string{evil}, LeftOutForeignKeys: []pgmedic.ForeignKey{{Name: evil, OID: 16400}, {OID: 16401}}}
	return b
}

func TestRecoverTexts(t *testing.T) {
	for name, c := range map[string]struct {
		b           *pgmedic.Backup
		postQuantum bool
	}{
		"plain_gzip":        {b: manifest(pgmedic.MethodPlain, "gzip", "none")},
		"plain_none":        {b: manifest(pgmedic.MethodPlain, "none", "none")},
		"plain_gzip_age":    {b: manifest(pgmedic.MethodPlain, "gzip", "age")},
		"plain_gzip_enc":    {b: manifest(pgmedic.MethodPlain, "gzip", "aes-256-cbc")},
		"parallel_zstd":     {b: manifest(pgmedic.MethodParallel, "zstd", "none")},
		"parallel_partial":  {b: partial()},
		"parallel_zstd_age": {b: manifest(pgmedic.MethodParallel, "zstd", "age"), postQuantum: true},
	} {
		t.Run(name, func(t *testing.T) {
			script, guide, err := backup.RecoverTexts(c.b, c.postQuantum)
			if err != nil {
				t.Fatal(err)
			}
			testkit.Golden(t, filepath.Join("testdata", name+".sh"), script, *update)
			testkit.Golden(t, filepath.Join("testdata", name+".md"), guide, *update)
			path := filepath.Join(t.TempDir(), "recover.sh")
			if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "shellcheck", path)
			run(t, "bash", "-n", path)
			if name == "parallel_zstd_age" && !strings.Contains(guide, "1.3 or later") {
				t.Error("the guide does not name the age that knows post-quantum keys")
			}
		})
	}
}

// TestRecoverQuoting runs the parts of the script that hold names, with every
// program replaced by one that writes down what it was given.
func TestRecoverQuoting(t *testing.T) {
	b := manifest(pgmedic.MethodParallel, "none", "none")
	script, _, err := backup.RecoverTexts(b, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"recover.sh": script, "pack-0001": strings.Repeat("x", 330), "pack-0002": "y", "globals.sql": "", "schema.dump": "", "rest.dump": "",
		"bin/psql": `#!/bin/bash
if [[ $1 == --version ]]; then echo 'psql (PostgreSQL) 15.18'; exit; fi
input=$(cat)
printf 'psql' >>"$LOG"; printf ' <%s>' "$@" >>"$LOG"; printf '\n%s\n' "$input" >>"$LOG"
case "$*$input" in *rolsuper*) echo t ;; *server_version_num*) echo 150018 ;;
*'"patients"'*) if [[ $input == y* ]]; then echo COPY 1000000; else echo COPY 10; fi ;; *'no columns'*) echo COPY 1 ;; *' FROM STDIN '*) echo COPY 2 ;; esac
`,
		"bin/pg_restore": `#!/bin/bash
if [[ $1 == --version ]]; then echo 'pg_restore (PostgreSQL) 15.18'; exit; fi
cat >/dev/null
`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(dir, "log")
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(dir, "recover.sh"), "--no-check", "--globals", "--maintenance", evil, evil)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "LOG="+log)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	url := exec.CommandContext(t.Context(), "bash", filepath.Join(dir, "recover.sh"), "--server", "postgres://u@h/d", "new")
	if out, err := url.CombinedOutput(); err == nil || !strings.Contains(string(out), "and no URL") {
		t.Errorf("a URL: %v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
		t.Error("a name was run as a command")
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	quoted := `dbname='` + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(evil) + `'`
	for _, want := range []string{
		" <db=" + evil + ">", quoted,
		"<-c> <COPY " + sqltext.QuoteQualified(evil, evil) + " (" + sqltext.QuoteIdent(evil) + ") FROM STDIN WITH (FORMAT text, ENCODING 'UTF8')>\n" + strings.Repeat("x", 12) + "\n",
		`CREATE DATABASE :"db" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE ` + sqltext.QuoteLiteral(evil),
		`COMMENT ON DATABASE :"db" IS ` + sqltext.QuoteLiteral(evil) + ";",
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("psql was not given %q; it was given\n%s", want, data)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		testkit.Missing(t, fmt.Sprintf("%v: scripts/setup.sh installs it", err))
	}
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}
