package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
)

// TestClocksStop: nothing is deleted in a store whose clock is not this host's, and the
// clock is asked for only where something is to be written.
func TestClocksStop(t *testing.T) {
	mark := []retention.Series{{Store: "a", Decisions: []retention.Decision{{Verdict: retention.Mark}}}}
	keep := []retention.Series{{Store: "a", Decisions: []retention.Decision{{Verdict: retention.Keep}, {Verdict: retention.Wait}}}}
	lock := []retention.Series{{Store: "a", Decisions: []retention.Decision{{Verdict: retention.Keep, LockUntil: time.Now()}}}}
	hold := []retention.Series{{Store: "a", Decisions: []retention.Decision{{Verdict: retention.Keep, LockHold: true}}}}
	for name, test := range map[string]struct {
		ahead time.Duration
		plan  []retention.Series
		stops bool
	}{
		"right":             {0, mark, false},
		"ahead":             {time.Hour, mark, true},
		"behind":            {-time.Hour, mark, true},
		"nothing to delete": {time.Hour, keep, false},
		"a lock to set":     {time.Hour, lock, true},
		"a hold to set":     {time.Hour, hold, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			r := retainer{job: job{env: &env{now: func() time.Time { return time.Now().Add(test.ahead) }}}}
			stores := retained{{StoreOf: config.StoreOf{Name: "a"}, catalog: catalog.New(s)}}
			if stopped := r.checkClocks(t.Context(), stores, &prunedBackups{Series: test.plan}); stopped != test.stops || (stores[0].stop != "") != test.stops {
				t.Errorf("stopped %t: %q", stopped, stores[0].stop)
			}
			if p := stores.policies(0, ""); (p[0].Stop != "") != test.stops {
				t.Errorf("the plan stops for %q", p[0].Stop)
			}
		})
	}
}

// TestUnreadStoreStopsAll: what can't be read counts everywhere.
func TestUnreadStoreStopsAll(t *testing.T) {
	stores := retained{{StoreOf: config.StoreOf{Name: "a"}}, {StoreOf: config.StoreOf{Name: "b"}, err: store.ErrNotFound}}
	if p := stores.policies(0, ""); len(p) != 1 || p[0].Name != "a" || p[0].Stop == "" || p[0].Hint == "" {
		t.Errorf("%+v", p)
	}
}

// TestRefusedStaysProven: the last backup that a drill proved is kept, whoever this host
// was told to trust since; and nothing is deleted where it can't read whom.
func TestRefusedStaysProven(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	key, err := signature.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := store.NewLocal(store.LocalOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all []*pgmedic.Backup // the oldest last
	for i := range 8 {
		all = append(all, putBackup(t, s, now.AddDate(0, 0, -i)))
	}
	for _, i := range []int{5, 6} {
		err := catalog.New(s).AddReceipt(t.Context(), all[i], &pgmedic.Receipt{Format: 1, Kind: pgmedic.ReceiptDrill, BackupID: all[i].ID,
			At: now.AddDate(0, 0, -1), Outcome: pgmedic.OutcomeOK, Proof: pgmedic.ProofProven}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	for name, c := range map[string]struct {
		backup string
		marks  int
		stops  bool
		reason string // of keeping what was drilled last
	}{
		"nobody is trusted": {"allow_unsigned: false", 5, false, "newest proven"},
		"someone else is":   {"trusted_signers: [" + key.Public().String() + "]", 5, false, "newest proven of those that this host refuses"},
		"unsigned allowed":  {"allow_unsigned: true\n  trusted_signers: [" + key.Public().String() + "]", 5, false, "newest proven"},
		"encrypted alone":   {"encryption_key: correct horse battery staple", 5, false, "newest proven of those that this host refuses"},
		"an unread signer":  {"trusted_signers: [" + missing + "]", 0, true, "newest proven of those that this host refuses"},
		"an unread key":     {"identity_files: [" + missing + "]", 0, true, "newest proven of those that this host refuses"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pgmedic.yaml")
			text := "backup:\n  store: " + dir + "\n  " + c.backup + "\nretention:\n  days: 2d\n  last: 1\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(config.Options{File: file, Dir: filepath.Dir(file)})
			if err != nil {
				t.Fatal(err)
			}
			r := newRetainer(job{env: &env{now: func() time.Time { return now }}, cfg: cfg, log: slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil))})
			stores := r.readStores(t.Context(), catalog.Filter{Now: now})
			defer stores.close()
			plan := r.plan(stores, retentionScope{maxShare: 1})
			if len(plan) != 1 {
				t.Fatal(plan, stores.unread())
			}
			if n, _ := plan[0].Count(retention.Mark); n != c.marks || (plan[0].Stopped != "") != c.stops {
				t.Errorf("%d are marked; stopped: %q", n, plan[0].Stopped)
			}
			if d := plan[0].Decisions[5]; d.ID != all[5].ID || d.Verdict != retention.Keep || strings.Join(d.Reasons, "; ") != c.reason {
				t.Errorf("drilled last: %+v", d)
			}
		})
	}
}
