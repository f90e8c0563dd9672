package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
)

// TestSynchronousCandidates: the forms of synchronous_standby_names.
func TestSynchronousCandidates(t *testing.T) {
	for setting, want := range map[string]struct {
		names  []string
		needed int
	}{
		"":                                   {nil, 1},
		"pgmedic_sync":                       {[]string{"pgmedic_sync"}, 1},
		"PGMEDIC_SYNC, s2":                   {[]string{"pgmedic_sync", "s2"}, 1},
		"2 (a, b, c)":                        {[]string{"a", "b", "c"}, 2},
		"FIRST 1 (pgmedic_sync)":             {[]string{"pgmedic_sync"}, 1},
		" any  3 ( pgmedic_sync , s2,s3 ) ":  {[]string{"pgmedic_sync", "s2", "s3"}, 3},
		`ANY 1 ("pgmedic wal", "a, (b)", *)`: {[]string{"pgmedic wal", "a, (b)", "*"}, 1},
		`"odd (name"`:                        {[]string{"odd (name"}, 1},
	} {
		if names, needed := candidates(setting); !slices.Equal(names, want.names) || needed != want.needed {
			t.Errorf("%q: %q, %d", setting, names, needed)
		}
	}
}

// TestSynchronousChecks: what keeps commits from waiting for the spool, and from ending.
func TestSynchronousChecks(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		names, commit string
		sync          bool
		outcome       pgmedic.Outcome
		words         string
	}{
		"well":                {"ANY 1 (pgmedic_sync, s2)", "on", true, pgmedic.OutcomeOK, "or for another of 2 candidates"},
		"applied":             {"FIRST 1 (pgmedic_sync, s2)", "remote_apply", true, pgmedic.OutcomeOK, "commits wait for"},
		"not named":           {"s2", "on", true, pgmedic.OutcomeWarn, "does not name pgmedic_sync"},
		"empty":               {"", "on", true, pgmedic.OutcomeWarn, "does not name pgmedic_sync"},
		"alone":               {"pgmedic_sync", "on", true, pgmedic.OutcomeWarn, "without enough other candidates they hang"},
		"both are needed":     {"ANY 2 (pgmedic_sync, s2)", "on", true, pgmedic.OutcomeWarn, "without enough other candidates they hang"},
		"two of three":        {"2 (pgmedic_sync, s2, s3)", "on", true, pgmedic.OutcomeOK, "3 candidates"},
		"commits do not wait": {"ANY 1 (pgmedic_sync, s2)", "local", true, pgmedic.OutcomeWarn, "synchronous_commit is local"},
		"received only":       {"ANY 1 (pgmedic_sync, s2)", "remote_write", true, pgmedic.OutcomeWarn, "synchronous_commit is remote_write"},
		"any":                 {"*", "on", true, pgmedic.OutcomeWarn, "has *"},
		"without wal.sync":    {"ANY 1 (pgmedic_sync, s2)", "on", false, pgmedic.OutcomeWarn, "wal.sync is not set here"},
	} {
		q := walQuestion{Slot: "ours", Streams: true, Sync: tt.sync, Now: now}
		found := false
		for _, c := range q.judge(&walFacts{Version: 180000, Level: "replica", MaxSenders: 10, MaxSlots: 10, Synchronous: tt.names, Commit: tt.commit}) {
			if c.Name != "wal synchronous" {
				continue
			}
			found = true
			if c.Outcome != tt.outcome || !strings.Contains(c.Detail, tt.words) || (c.Outcome == pgmedic.OutcomeWarn) != (c.Hint != "") {
				t.Errorf("%s: %+v", name, c)
			}
		}
		if !found {
			t.Errorf("%s: nothing is said", name)
		}
	}
	// A stream takes two of the server's senders then.
	q := walQuestion{Slot: "ours", Streams: true, Sync: true, Now: now}
	for _, c := range q.judge(&walFacts{Version: 180000, Level: "replica", MaxSenders: 10, Senders: 9, MaxSlots: 10}) {
		if c.Name == "wal senders" && (c.Outcome != pgmedic.OutcomeFailed || !strings.Contains(c.Detail, "takes two")) {
			t.Errorf("one sender is left: %+v", c)
		}
	}
}
