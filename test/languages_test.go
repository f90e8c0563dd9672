package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestLanguages runs everything on servers that speak German, French and Japanese:
// nothing hangs on the words of a message.
func TestLanguages(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	localedef, err := exec.LookPath("localedef")
	if err != nil {
		testkit.Missing(t, "no localedef here to make locales with")
	}
	// Not t.TempDir: the server's user has to get in.
	dir, err := os.MkdirTemp("", "e2e-locales-") //nolint:usetesting // see above
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	languages := []string{"de_DE", "fr_FR", "ja_JP"}
	for _, name := range languages {
		if out, err := exec.Command(localedef, "--no-archive", "-i", name, "-f", "UTF-8", filepath.Join(dir, name+".UTF-8")).CombinedOutput(); err != nil {
			testkit.Missing(t, fmt.Sprintf("the sources of locale %s are not here: %v: %s", name, err, out))
		}
	}
	t.Setenv("LOCPATH", dir)
	s := settingsServer(t)
	for _, name := range testkit.Pick(t.Name(), testkit.Amount(0, 1, 3), languages) {
		t.Run(name, func(t *testing.T) {
			speaks := adverse{name: "lc_messages", value: name + ".UTF-8"}
			w := newWorld(t, s, []adverse{speaks}, ofServer, ofDatabase, ofRole)
			conn := testkit.Dial(t, s.URL(w.database))
			_, err := conn.Exec(t.Context(), "SELECT 1 / 0")
			testkit.End(conn)
			if err == nil || strings.Contains(err.Error(), "division by zero") {
				testkit.Missing(t, fmt.Sprintf("PostgreSQL has no messages in %s here: %v", name, err))
			}
			w.report()
			w.round(false, "parallel")
			if r := w.run("backup", "nowhere"); r.code != 10 {
				t.Errorf("a backup of a database that is not there: exit code %d: %s", r.code, r.stderr)
			}
			refuse := func(code int, words string, args ...string) {
				t.Helper()
				if r := w.run(args...); r.code != code || !strings.Contains(r.stderr, words) {
					t.Errorf("pgmedic %s: exit code %d, want %d with %q: %s", strings.Join(args, " "), r.code, code, words, r.stderr)
				}
			}
			locker := w.session(w.database)
			defer func() { _ = locker.Close(context.WithoutCancel(t.Context())) }()
			if _, err := locker.Exec(t.Context(), "BEGIN; LOCK TABLE visits"); err != nil {
				t.Fatal(err)
			}
			refuse(14, "holds it", "backup", "--lock-timeout", "1s", "--method", "parallel")
			refuse(14, "lock", "backup", "--lock-timeout", "1s", "--method", "plain")
		})
	}
}
