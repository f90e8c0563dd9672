package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/audit"
	"github.com/pgmedic/pgmedic/internal/config"
)

// TestDueAnchors: a store has an anchor a day; one that failed is left alone for an hour.
func TestDueAnchors(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, test := range map[string]struct {
		audit.Anchoring
		due bool
	}{
		"never":                {audit.Anchoring{}, true},
		"today":                {audit.Anchoring{At: ago(time.Hour)}, false},
		"yesterday":            {audit.Anchoring{At: ago(25 * time.Hour)}, true},
		"failed just now":      {audit.Anchoring{Tried: ago(time.Minute)}, false},
		"failed after a good":  {audit.Anchoring{At: ago(48 * time.Hour), Tried: ago(59 * time.Minute)}, false},
		"failed an hour ago":   {audit.Anchoring{At: ago(48 * time.Hour), Tried: ago(time.Hour)}, true},
		"failed in the future": {audit.Anchoring{Tried: ago(-time.Hour)}, true},
	} {
		due := dueAnchors([]storeOf{{Name: "s"}}, map[string]audit.Anchoring{"s": test.Anchoring}, now)
		if (len(due) == 1) != test.due {
			t.Errorf("%s: %v", name, due)
		}
	}
}

// TestNoAnchorAfterInterrupt: a run that is interrupted while it stores anchors opens no
// other store, and notes no failure of one.
func TestNoAnchorAfterInterrupt(t *testing.T) {
	e := &env{now: time.Now}
	cfg := &config.Config{Audit: config.Audit{File: filepath.Join(t.TempDir(), "audit.jsonl"), Keep: "0"}}
	e.trail = newTrail(job{env: e, cfg: cfg, log: slog.New(slog.DiscardHandler)}, "verify")
	if err := e.trail.end(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.trail.run = "another"
	e.trail.storeAnchors(ctx)
	if r, err := e.trail.log.Verify(t.Context(), audit.VerifyOptions{}); err != nil || r.Records != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}
