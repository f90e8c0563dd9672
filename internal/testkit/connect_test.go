package testkit_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestConnect: a session is gone from the server once the test that opened it is over, or
// once it was ended, and has what was changed.
func TestConnect(t *testing.T) {
	dsn := scratchtest.New(t, scratch.Options{}).DSN("postgres")
	watcher := testkit.Connect(t, dsn)
	sessions := func() (n int) {
		t.Helper()
		const query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'of the test'"
		if err := watcher.QueryRow(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	named := func(c *pgx.ConnConfig) { c.RuntimeParams["application_name"] = "of the test" }
	t.Run("of a test", func(t *testing.T) {
		testkit.Connect(t, dsn, named)
		early := testkit.Connect(t, dsn, named)
		dialled := testkit.Dial(t, dsn, named)
		busy := testkit.Connect(t, dsn, named)
		if _, err := busy.Exec(t.Context(), "BEGIN"); err != nil {
			t.Fatal(err)
		}
		if n := sessions(); n != 4 {
			t.Errorf("%d sessions, want 4", n)
		}
		for _, conn := range []*pgx.Conn{early, dialled, dialled} {
			testkit.End(conn)
		}
		if n := sessions(); n != 2 {
			t.Errorf("%d sessions after End, want 2", n)
		}
	})
	if n := sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestConnectFails ends a test that gets no session.
func TestConnectFails(t *testing.T) {
	for _, dsn := range []string{"port=none", "host=" + t.TempDir()} {
		f := &failing{TB: t}
		went := make(chan bool, 1)
		go func() {
			defer close(went)
			testkit.Connect(f, dsn)
			went <- true
		}()
		if <-went || f.text == "" {
			t.Errorf("%s: it went on, or said nothing: %q", dsn, f.text)
		}
	}
}
