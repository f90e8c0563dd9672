package scratchtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// Extension is an extension written in SQL.
type Extension struct {
	Name   string
	Script string
}

// WithExtension makes an installation of PostgreSQL like that of a server, with an
// extension more, and returns the folder of its programs. It is removed at the end of
// the test.
func WithExtension(tb testing.TB, like *scratch.Server, e Extension) (binDir string) {
	tb.Helper()
	conn := testkit.Dial(tb, like.DSN("postgres"))
	defer testkit.End(conn)
	var bin, lib, share string
	err := conn.QueryRow(tb.Context(), `SELECT
		(SELECT setting FROM pg_config WHERE name = 'BINDIR'), (SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'),
		(SELECT setting FROM pg_config WHERE name = 'SHAREDIR')`).Scan(&bin, &lib, &share)
	if err != nil {
		tb.Fatal(err)
	}
	// The server runs as another user, who can't reach the test's own folder. It looks
	// for its files by where its program is.
	root, err := os.MkdirTemp("", "pgmedic-extension-") //nolint:usetesting // see above
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(root) })
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, bin), 0o755))
	must(os.MkdirAll(filepath.Join(root, share, "extension"), 0o755))
	link := func(from, except string) {
		tb.Helper()
		entries, err := os.ReadDir(from)
		must(err)
		for _, entry := range entries {
			if entry.Name() != except {
				must(os.Symlink(filepath.Join(from, entry.Name()), filepath.Join(root, from, entry.Name())))
			}
		}
	}
	must(os.MkdirAll(filepath.Join(root, lib), 0o755))
	link(lib, "")
	link(share, "extension")
	link(filepath.Join(share, "extension"), "")
	for _, program := range []string{"initdb", "postgres"} { // through a link they would find the others' files
		content, err := os.ReadFile(filepath.Join(bin, program))
		must(err)
		must(os.WriteFile(filepath.Join(root, bin, program), content, 0o755))
	}
	into := filepath.Join(root, share, "extension", e.Name)
	must(os.WriteFile(into+".control", []byte("default_version = '1.0'\nrelocatable = false\n"), 0o644))
	must(os.WriteFile(into+"--1.0.sql", []byte(e.Script), 0o644))
	must(filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error { // whatever the umask is
		switch {
		case err != nil || entry.Type()&os.ModeSymlink != 0:
			return err
		case entry.IsDir() || filepath.Dir(path) == filepath.Join(root, bin):
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	}))
	return filepath.Join(root, bin)
}
