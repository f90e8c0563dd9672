package physical_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/scratch"
)

// chainEntries is a listing of a chain of three, the newest first.
func chainEntries() (entries []catalog.Entry) {
	for i := 2; i >= 0; i-- {
		p := &pgmedic.Physical{Kind: pgmedic.PhysicalFull, Timeline: 3, StopTimeline: 3, StartLSN: fmt.Sprintf("0/%d000028", i+1)}
		if i > 0 {
			p.Kind, p.Parent, p.Depth = pgmedic.PhysicalIncremental, fmt.Sprintf("20261130T01000%dZ-abcdef", i-1), i
		}
		entries = append(entries, catalog.Entry{Backup: &pgmedic.Backup{
			ID: fmt.Sprintf("20261130T01000%dZ-abcdef", i), Method: pgmedic.MethodPhysical, Physical: p,
			Server: pgmedic.Server{Name: "clinic", SystemIdentifier: "77", VersionNum: 170012},
		}})
	}
	return entries
}

var sqlStarted = time.Date(2026, 11, 1, 0, 0, 0, 1000, time.UTC)

// bySQL makes backups such as were read by SQL, of PostgreSQL 12.
func bySQL(entries []catalog.Entry) []catalog.Entry {
	for i, e := range entries {
		listed := sqlStarted.Add(time.Duration(len(entries)-i) * time.Hour)
		e.Backup.Physical.SQL = &pgmedic.SQLRead{ServerStartedAt: sqlStarted, ClockAt: &listed}
		e.Backup.Server.VersionNum = 120022
	}
	return entries
}

// TestParentOf: the newest sound backup with a whole chain, or a reason why there is none.
func TestParentOf(t *testing.T) {
	for name, c := range map[string]struct {
		change func(entries []catalog.Entry, c *physical.Child) []catalog.Entry
		parent int // of the chain, from 0 on; -1 for none
		why    string
	}{
		"a chain": {nil, 2, ""},
		"an older version": {func(e []catalog.Entry, c *physical.Child) []catalog.Entry {
			c.VersionNum = 160004
			return e
		}, -1, "from version 17 on"},
		"a standby":    {func(e []catalog.Entry, c *physical.Child) []catalog.Entry { c.Standby = true; return e }, -1, "a standby"},
		"a failover":   {func(e []catalog.Entry, c *physical.Child) []catalog.Entry { c.Timeline = 4; return e }, -1, "is of timeline 3, and the server is on timeline 4"},
		"a full chain": {func(e []catalog.Entry, c *physical.Child) []catalog.Entry { c.MaxChain = 3; return e }, -1, "has 3 backups, which is its limit"},
		"an update":    {func(e []catalog.Entry, c *physical.Child) []catalog.Entry { c.VersionNum = 180001; return e }, -1, "another version"},
		"another cluster": {func(e []catalog.Entry, c *physical.Child) []catalog.Entry {
			c.SystemIdentifier = "78"
			return e
		}, -1, "no backup of this cluster"},
		"nothing": {func([]catalog.Entry, *physical.Child) []catalog.Entry { return nil }, -1, "no backup of this cluster"},
		"damaged pages in the newest": {func(e []catalog.Entry, _ *physical.Child) []catalog.Entry {
			e[0].Backup.Physical.BadPages = 1
			return e
		}, 1, ""},
		"damaged pages in the full one": {func(e []catalog.Entry, _ *physical.Child) []catalog.Entry {
			e[2].Backup.Physical.BadPages = 1
			return e
		}, -1, "sound"},
		"the newest is marked": {func(e []catalog.Entry, _ *physical.Child) []catalog.Entry { e[0].Mark = &catalog.Mark{}; return e }, 1, ""},
		"the one between is gone": {func(e []catalog.Entry, _ *physical.Child) []catalog.Entry {
			return append(e[:1], e[2:]...)
		}, 0, ""},
		"no key opens the newest": {func(e []catalog.Entry, _ *physical.Child) []catalog.Entry {
			e[0].Backup.Seal.Encryption = "age"
			return e
		}, 1, ""},
		"taken from a standby": {func(e []catalog.Entry, _ *physical.Child) []catalog.Entry {
			e[0].Backup.Physical.FromStandby = true
			return e
		}, -1, "was taken from a standby"},
		"files read by SQL, and no such backup": {func(e []catalog.Entry, c *physical.Child) []catalog.Entry {
			c.SQL = &physical.SQLChild{ServerStartedAt: sqlStarted}
			return e
		}, -1, "no backup of this cluster"},
		"files read by SQL, of any version": {func(e []catalog.Entry, c *physical.Child) []catalog.Entry {
			c.SQL, c.VersionNum = &physical.SQLChild{ServerStartedAt: sqlStarted}, 120022
			return bySQL(e)
		}, 2, ""},
		"the stream, and backups that were read by SQL": {func(e []catalog.Entry, _ *physical.Child) []catalog.Entry { return bySQL(e) }, -1, "no backup of this cluster"},
		"the stream, and a newer one that was read by SQL": {func(e []catalog.Entry, _ *physical.Child) []catalog.Entry {
			bySQL(e[:1])
			return e
		}, 1, ""},
		"the server was restarted": {func(e []catalog.Entry, c *physical.Child) []catalog.Entry {
			c.SQL, c.VersionNum = &physical.SQLChild{ServerStartedAt: sqlStarted.Add(time.Microsecond)}, 120022
			return bySQL(e)
		}, -1, "restarted since the backup before, 20261130T010002Z-abcdef"},
		"times of another clock": {func(e []catalog.Entry, c *physical.Child) []catalog.Entry {
			c.SQL, c.VersionNum = &physical.SQLChild{ServerStartedAt: sqlStarted}, 120022
			bySQL(e)[2].Backup.Physical.SQL.ClockAt = nil
			return e[2:]
		}, -1, "the times of files were not those of the server's clock"},
	} {
		entries, child := chainEntries(), physical.Child{SystemIdentifier: "77", VersionNum: 170012, Timeline: 3, MaxChain: 7}
		if c.change != nil {
			entries = c.change(entries, &child)
		}
		needed, why := physical.ParentOf(entries, child)
		got := ""
		if len(needed) > 0 {
			got = needed[0].ID
		}
		want := ""
		if c.parent >= 0 {
			want = fmt.Sprintf("20261130T01000%dZ-abcdef", c.parent)
		}
		if got != want || !strings.Contains(why, c.why) || (why == "") != (len(needed) > 0 && needed[len(needed)-1].Physical.Kind == pgmedic.PhysicalFull) {
			t.Errorf("%s: parent %q, %q", name, got, why)
		}
	}
}

// TestIncrementalWhereItCannotBe: a server that takes none gives a full backup, and the log says
// why.
func TestIncrementalWhereItCannotBe(t *testing.T) {
	b := newBench(t, scratch.Options{})
	b.o.Incremental = &physical.Incremental{MaxChain: 7}
	m := b.take()
	if m.Physical.Kind != pgmedic.PhysicalFull || m.Physical.Parent != "" || !strings.Contains(b.log.String(), "a full backup is taken, not an incremental one") {
		t.Errorf("%+v\n%s", m.Physical, b.log.String())
	}
	b.o.Incremental.MaxChain = 1
	if _, err := physical.Take(t.Context(), b.o); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("a chain of one: %v", err)
	}
}
