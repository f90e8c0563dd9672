package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
)

// TestWALChecks: each thing that would keep WAL from being stored, or a base backup from
// being taken, is said, and nothing else.
func TestWALChecks(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	well := walFacts{
		Version: 180000, Level: "replica", MaxSenders: 10, Senders: 1, MaxSlots: 10, KeepMB: 51200, FullPageWrites: true, Checksums: true, SegmentBytes: 16 << 20,
		BytesPerSecond: 1 << 20, Since: now.Add(-24 * time.Hour), FreeBytes: 1 << 40,
		Slots: []walSlot{{"ours", "physical", "reserved", true, 1 << 20}, {"cdc", "logical", "reserved", false, 1 << 30}, {"standby2", "physical", "reserved", false, 1 << 30}},
	}
	with := func(change func(*walFacts)) walFacts {
		f := well
		f.Slots = append([]walSlot{}, well.Slots...)
		change(&f)
		return f
	}
	noSlot := func(f *walFacts) { f.Slots = f.Slots[1:] }
	type row struct {
		f       walFacts
		check   string
		outcome pgmedic.Outcome
		kind    pgmedic.Kind
		words   string
	}
	for name, tt := range map[string]row{
		"minimal":                {with(func(f *walFacts) { f.Level = "minimal" }), "wal level", pgmedic.OutcomeFailed, pgmedic.KindUsage, "recovers nothing"},
		"a standby":              {with(func(f *walFacts) { f.Standby = true }), "wal server", pgmedic.OutcomeWarn, 0, "is a standby"},
		"no sender":              {with(func(f *walFacts) { f.Senders = 10; noSlot(f) }), "wal senders", pgmedic.OutcomeFailed, pgmedic.KindUsage, "10 of 10"},
		"none beside the stream": {with(func(f *walFacts) { f.Senders = 10 }), "wal senders", pgmedic.OutcomeWarn, 0, "a base backup gets none"},
		"one sender":             {with(func(f *walFacts) { f.Senders = 9; noSlot(f) }), "wal senders", pgmedic.OutcomeWarn, 0, "do not both get one"},
		"one beside the stream":  {with(func(f *walFacts) { f.Senders = 9 }), "wal senders", pgmedic.OutcomeOK, 0, "9 of 10"},
		"senders off":            {with(func(f *walFacts) { f.Senders, f.MaxSenders = 0, 0; noSlot(f) }), "wal senders", pgmedic.OutcomeFailed, pgmedic.KindUsage, "0 of 0"},
		"no slot left":           {with(func(f *walFacts) { f.MaxSlots = 2; noSlot(f) }), "wal slot", pgmedic.OutcomeFailed, pgmedic.KindUsage, "2 of 2"},
		"not there yet":          {with(noSlot), "wal slot", pgmedic.OutcomeOK, 0, "made by the stream"},
		"logical":                {with(func(f *walFacts) { f.Slots[0].Type = "logical" }), "wal slot", pgmedic.OutcomeFailed, pgmedic.KindConflict, "of another program"},
		"lost":                   {with(func(f *walFacts) { f.Slots[0].Status = "lost" }), "wal slot", pgmedic.OutcomeFailed, pgmedic.KindFailed, "is lost"},
		"lost soon":              {with(func(f *walFacts) { f.Slots[0].Status = "unreserved" }), "wal slot", pgmedic.OutcomeWarn, 0, "about to be lost"},
		"nothing streams":        {with(func(f *walFacts) { f.Slots[0].Active = false }), "wal slot", pgmedic.OutcomeWarn, 0, "nothing streams from slot ours, and the server keeps 1.0 MiB"},
		"of another host": {with(func(f *walFacts) {
			f.Slots = append(f.Slots, walSlot{"pgmedic_old", "physical", "extended", false, 5 << 30})
		}),
			"wal slot", pgmedic.OutcomeWarn, 0, "slot pgmedic_old either"},
		"no bound": {with(func(f *walFacts) { f.KeepMB = -1 }), "wal kept", pgmedic.OutcomeWarn, 0, "is not set"},
		"version 12": {with(func(f *walFacts) { f.Version, f.KeepMB, f.BytesPerSecond = 120022, -1, 1 }),
			"wal kept", pgmedic.OutcomeFailed, pgmedic.KindFailed, "can't bound"},
		"a bound above the disk": {with(func(f *walFacts) { f.FreeBytes = 10 << 30 }), "wal kept", pgmedic.OutcomeWarn, 0, "10.0 GiB are free on its disk: its disk is full before that"},
		"a disk that is not known": {with(func(f *walFacts) { f.FreeBytes = -1 }), "wal kept", pgmedic.OutcomeOK, 0,
			"was not checked"},
		"idle timeout":  {with(func(f *walFacts) { f.IdleTimeout = 2 * time.Hour }), "wal idle slot", pgmedic.OutcomeWarn, 0, "2 h"},
		"no full pages": {with(func(f *walFacts) { f.FullPageWrites = false }), "wal full pages", pgmedic.OutcomeWarn, 0, "is off"},
		"no checksums":  {with(func(f *walFacts) { f.Checksums = false }), "wal checksums", pgmedic.OutcomeOK, 0, "are off"},
		"busy":          {with(func(f *walFacts) { f.BytesPerSecond = 11 * 16 << 20 }), "wal rate", pgmedic.OutcomeOK, 0, "11 segments of 16.0 MiB a second"},
		"not counted":   {with(func(f *walFacts) { f.BytesPerSecond = -1 }), "wal rate", pgmedic.OutcomeSkipped, 0, "not checked"},
		"the stream is synchronous": {with(func(f *walFacts) { f.Synchronous = `FIRST 1 ("Pgmedic WAL", s2)` }),
			"wal synchronous", pgmedic.OutcomeWarn, 0, "has the stream"},
		"any is synchronous": {with(func(f *walFacts) { f.Synchronous = `ANY 1 (*)` }), "wal synchronous", pgmedic.OutcomeWarn, 0, "has *"},
	} {
		q := walQuestion{Slot: "ours", Streams: true, Now: now}
		usual := map[string]string{}
		for _, c := range q.judge(&well) {
			if c.Outcome != pgmedic.OutcomeOK || c.Hint != "" {
				t.Fatalf("a server on which all is well: %+v", c)
			}
			usual[c.Name] = c.Detail
		}
		found := false
		for _, c := range q.judge(&tt.f) {
			if c.Name == tt.check && c.Outcome == tt.outcome && c.kind == tt.kind && strings.Contains(c.Detail, tt.words) {
				found = true
				// What is not well comes with what to do.
				if (c.Outcome == pgmedic.OutcomeWarn || c.Outcome == pgmedic.OutcomeFailed) && c.Hint == "" {
					t.Errorf("%s: no hint: %+v", name, c)
				}
				continue
			}
			if detail, same := usual[c.Name]; c.Name != tt.check && c.Name != "wal slot" && (!same || c.Outcome != pgmedic.OutcomeOK) {
				t.Errorf("%s: %s says %s %q, and %q without it", name, c.Name, c.Outcome, c.Detail, detail)
			}
		}
		if !found {
			t.Errorf("%s: no check %s says %s: %+v", name, tt.check, tt.outcome, q.judge(&tt.f))
		}
	}
	// Base backups alone keep nothing on the server.
	for _, c := range (walQuestion{Slot: "ours", Now: now}).judge(&walFacts{Version: 180000, Level: "replica", MaxSenders: 10, MaxSlots: 10, KeepMB: -1, FullPageWrites: true, IdleTimeout: time.Hour, Synchronous: "*"}) {
		if c.Outcome == pgmedic.OutcomeWarn || c.Outcome == pgmedic.OutcomeFailed {
			t.Errorf("without a stream: %+v", c)
		}
	}
}
