package main

import (
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// walQuestion is what is asked of a server's facts.
type walQuestion struct {
	// Slot is the stream's. Streams is true where something streams or is to.
	Slot    string
	Streams bool
	// Sync is true where commits are to wait for the stream's spool.
	Sync bool
	Now  time.Time
}

// walCheck is a check, with the kind of its error where it failed.
type walCheck struct {
	pgmedic.Check
	kind pgmedic.Kind
}

// busySegments is how many segments a second, on average, are more than single objects of
// a store are meant for: our choice, 160 MB/s with the default size.
const busySegments = 10

// judge says what would keep WAL from being stored, or a base backup from being taken. It
// is a pure function of the facts.
func (q walQuestion) judge(f *walFacts) (checks []walCheck) {
	add := func(name string, o pgmedic.Outcome, kind pgmedic.Kind, hint, format string, args ...any) {
		checks = append(checks, walCheck{pgmedic.Check{Name: name, Outcome: o, Detail: fmt.Sprintf(format, args...), Hint: hint}, kind})
	}
	ok := func(name, format string, args ...any) { add(name, pgmedic.OutcomeOK, 0, "", format, args...) }
	warn := func(name, hint, format string, args ...any) {
		add(name, pgmedic.OutcomeWarn, 0, hint, format, args...)
	}
	fail := func(kind pgmedic.Kind, name, hint, format string, args ...any) {
		add(name, pgmedic.OutcomeFailed, kind, hint, format, args...)
	}
	if f.Level == "minimal" {
		fail(pgmedic.KindUsage, "wal level", "ALTER SYSTEM SET wal_level = 'replica'; and restart the server", "wal_level is minimal: its WAL recovers nothing")
	} else {
		ok("wal level", "%s", f.Level)
	}
	if f.Standby {
		warn("wal server", "connect to the primary: name all hosts and target_session_attrs=read-write", "the server is a standby: how far its primary is cannot be seen")
	}
	q.senders(f, ok, warn, fail)
	q.slots(f, ok, warn, fail)
	q.kept(f, ok, warn, fail)
	if f.IdleTimeout > 0 && q.Streams {
		warn("wal idle slot", "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_catalog.pg_reload_conf();",
			"idle_replication_slot_timeout is %s: a stream that is away for longer loses its slot, and WAL with it", words.Duration(f.IdleTimeout))
	}
	if !f.FullPageWrites {
		warn("wal full pages", "ALTER SYSTEM SET full_page_writes = on; SELECT pg_catalog.pg_reload_conf();",
			"full_page_writes is off: pages that a crash leaves half written cannot be repaired, and no base backup can be taken from a standby")
	} else {
		ok("wal full pages", "full_page_writes is on")
	}
	if f.Checksums {
		ok("wal checksums", "data checksums are on: a base backup finds damaged pages")
	} else {
		add("wal checksums", pgmedic.OutcomeOK, 0, "advice: stop the server and run pg_checksums --enable (PostgreSQL 12 and newer)",
			"data checksums are off: a base backup cannot find damaged pages by their content")
	}
	q.rate(f, ok, add)
	q.synchronous(f, ok, warn)
	return checks
}

type (
	sayOK   = func(name, format string, args ...any)
	sayWarn = func(name, hint, format string, args ...any)
	sayFail = func(kind pgmedic.Kind, name, hint, format string, args ...any)
)

// senders: a stream takes one, and a base backup another.
func (q walQuestion) senders(f *walFacts, ok sayOK, warn sayWarn, fail sayFail) {
	const name = "wal senders"
	hint := fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d; and restart the server", max(f.MaxSenders, f.Senders)+3)
	slot := f.slot(q.Slot)
	streaming := slot != nil && slot.Active
	free := f.MaxSenders - f.Senders
	if q.Sync && !streaming && free == 1 {
		fail(pgmedic.KindUsage, name, hint, "%d of %d are in use (max_wal_senders), and a stream with wal.sync takes two", f.Senders, f.MaxSenders)
		return
	}
	switch {
	case free < 1 && !streaming:
		fail(pgmedic.KindUsage, name, hint, "%d of %d are in use (max_wal_senders): neither a stream nor a base backup gets one", f.Senders, f.MaxSenders)
	case free < 1:
		warn(name, hint, "%d of %d are in use (max_wal_senders), one by the stream: a base backup gets none", f.Senders, f.MaxSenders)
	case free < 2 && !streaming:
		warn(name, hint, "%d of %d are in use (max_wal_senders): a stream and a base backup do not both get one", f.Senders, f.MaxSenders)
	default:
		ok(name, "%d of %d are in use (max_wal_senders)", f.Senders, f.MaxSenders)
	}
}

// slots: the stream's, and those that other hosts have left.
func (q walQuestion) slots(f *walFacts, ok sayOK, warn sayWarn, fail sayFail) {
	const name = "wal slot"
	drop := func(slot string) string {
		return "SELECT pg_catalog.pg_drop_replication_slot(" + sqltext.PrintableLiteral(slot) + ");"
	}
	s := f.slot(q.Slot)
	switch {
	case s == nil && len(f.Slots) >= f.MaxSlots:
		fail(pgmedic.KindUsage, name, fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d; and restart the server, or drop a slot that is no longer used", f.MaxSlots+2),
			"%d of %d replication slots are in use (max_replication_slots): slot %s can't be made", len(f.Slots), f.MaxSlots, q.Slot)
	case s == nil:
		ok(name, "%s is not there yet and is made by the stream; %d of %d are in use (max_replication_slots)", q.Slot, len(f.Slots), f.MaxSlots)
	case s.Type != "physical":
		fail(pgmedic.KindConflict, name, "give the stream a slot of its own: wal.slot", "slot %s is a logical one, of another program", q.Slot)
	case s.Status == "lost":
		fail(pgmedic.KindFailed, name, "start the stream, which makes it again, and take a base backup", "slot %s is lost: the server has removed WAL that was not stored", q.Slot)
	case !s.Active:
		warn(name, "start the stream: `pgmedic schedule install`, or `pgmedic wal stream`; or, if nothing is to stream any more, `pgmedic wal stream --drop-slot`",
			"nothing streams from slot %s, and the server keeps %s of WAL for it", q.Slot, words.Bytes(s.Retained))
	case s.Status == "unreserved":
		warn(name, "see whether the store is slow, or raise max_slot_wal_keep_size", "slot %s is about to be lost: the server keeps %s of WAL for it, more than max_slot_wal_keep_size allows", q.Slot, words.Bytes(s.Retained))
	default:
		ok(name, "%s is in use; the server keeps %s of WAL for it", q.Slot, words.Bytes(s.Retained))
	}
	for _, other := range f.Slots {
		if other.Name == q.Slot || other.Active || !isOurs(other, q.Slot) {
			continue
		}
		warn(name, "if the host that made it no longer streams: "+drop(other.Name),
			"nothing streams from slot %s either, which another host has made; the server keeps %s of WAL for it", other.Name, words.Bytes(other.Retained))
	}
}

// kept: how much WAL a stream that is away makes the server keep.
func (q walQuestion) kept(f *walFacts, ok sayOK, warn sayWarn, fail sayFail) {
	const name = "wal kept"
	if !q.Streams {
		return
	}
	retained, free := int64(0), "; the free space on its disk was not checked: "+freeUnknown
	for _, s := range f.Slots {
		retained = max(retained, s.Retained)
	}
	if f.FreeBytes >= 0 {
		free = fmt.Sprintf("; %s are free on its disk", words.Bytes(f.FreeBytes))
	}
	bound := int64(f.KeepMB) << 20
	switch {
	case f.Version < 130000:
		fail(pgmedic.KindFailed, name, "upgrade to PostgreSQL 13 or newer, or alert on the free space of the server's disk and drop the slot in time",
			"PostgreSQL 12 can't bound how much WAL it keeps for a slot: a stream that is away fills its disk; %s are kept now%s", words.Bytes(retained), free)
	case f.KeepMB < 0:
		warn(name, "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_catalog.pg_reload_conf(); -- as much as the disk has room for",
			"max_slot_wal_keep_size is not set: while nothing streams, WAL fills the server's disk; %s are kept now%s", words.Bytes(retained), free)
	case f.FreeBytes >= 0 && bound-retained > f.FreeBytes:
		warn(name, "lower max_slot_wal_keep_size, or make room", "max_slot_wal_keep_size lets the server keep %s of WAL for slots, and %s are kept now%s: its disk is full before that",
			words.Bytes(bound), words.Bytes(retained), free)
	default:
		ok(name, "at most %s for slots (max_slot_wal_keep_size), and %s now%s", words.Bytes(bound), words.Bytes(retained), free)
	}
}

// freeUnknown says why the disk of a server was not looked up.
const freeUnknown = "the server is another machine, or its folder can't be read"

// rate: each segment is an object of the store.
func (q walQuestion) rate(f *walFacts, ok sayOK, add func(name string, o pgmedic.Outcome, kind pgmedic.Kind, hint, format string, args ...any)) {
	const name = "wal rate"
	switch segments := f.BytesPerSecond / float64(max(f.SegmentBytes, 1)); {
	case f.BytesPerSecond < 0:
		add(name, pgmedic.OutcomeSkipped, 0, "", "not checked: PostgreSQL 14 and newer count how much WAL they write")
	case segments > busySegments:
		add(name, pgmedic.OutcomeOK, 0, "advice: larger segments take fewer requests to the store: pg_resetwal --wal-segsize=64, with the server stopped",
			"the server writes %.0f segments of %s a second, on average since %s", segments, words.Bytes(f.SegmentBytes), words.Ago(q.Now, f.Since))
	default:
		ok(name, "%s a second, on average since %s", words.Bytes(int64(f.BytesPerSecond)), words.Ago(q.Now, f.Since))
	}
}
