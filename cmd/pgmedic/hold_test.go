package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/store"
)

// TestHoldIsRepeated: a hold that did not reach every store is completed by the same
// command later, also where it is for a length of time; another one is a conflict.
func TestHoldIsRepeated(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	var catalogs []*catalog.Catalog
	var b *pgmedic.Backup
	for _, name := range []string{"a", "b"} {
		s, err := store.NewLocal(store.LocalOptions{Dir: filepath.Join(dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b = putBackup(t, s, now.AddDate(0, 0, -1))
		catalogs = append(catalogs, catalog.New(s))
	}
	file := filepath.Join(dir, "pgmedic.yaml")
	text := "backup: {store: " + filepath.Join(dir, "a") + "}\ncopies: [{name: b, store: " + filepath.Join(dir, "b") + "}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Options{File: file, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	at, out := now, &bytes.Buffer{}
	hold := func(reason, until string) error {
		e := &env{now: func() time.Time { return at }, stdout: out, stderr: io.Discard, rawOut: out, environ: []string{"SUDO_USER=ana"}}
		cmd := &holdCommand{holder: newHolder(job{env: e, cfg: cfg, log: slog.New(slog.DiscardHandler)}), args: []string{b.ID}, flags: holdFlags{reason: reason, until: until}}
		return cmd.run(t.Context())
	}
	ends := func(want time.Time) {
		t.Helper()
		for i, c := range catalogs {
			e, err := c.Get(t.Context(), b.ID, catalog.Filter{})
			if err != nil || len(e.Holds) != 1 || !e.Holds[0].Until.Equal(want) {
				t.Errorf("store %d has %+v, %v", i, e.Holds, err)
			}
		}
	}
	if err := hold("case 118", "90d"); err != nil {
		t.Fatal(err)
	}
	first := now.AddDate(0, 0, 90)
	ends(first)
	if err := catalogs[0].RemoveHold(t.Context(), b, "ana"); err != nil { // it reached the other store alone
		t.Fatal(err)
	}
	at = now.Add(time.Hour)
	out.Reset()
	if err := hold("case 118", "90d"); err != nil {
		t.Errorf("again: %v", err)
	}
	ends(first)
	if !strings.Contains(out.String(), "until 2027-02-26 12:00Z") {
		t.Errorf("it says %q", out)
	}
	for name, flags := range map[string][2]string{"another reason": {"case 119", "90d"}, "a date": {"case 118", "2027-03-31"}, "no end": {"case 118", ""}} {
		if err := hold(flags[0], flags[1]); pgmedic.KindOf(err) != pgmedic.KindConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	at = first.Add(time.Hour) // it is over, and the same command asks for another
	if err := hold("case 118", "90d"); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("after its end: %v", err)
	}
	ends(first)
}
