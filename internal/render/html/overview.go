package html

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// htmlTile is one number at the top of the page, with where it leads.
type htmlTile struct {
	Section, Name, Value, Sub string
	// Severity is that of the worst finding of the section.
	Severity pgmedic.Severity
	// Meter shows a share, Spark how it was; both may be missing.
	Meter *bar
	Spark string
}

// headFacts say what the report is of.
func (s *sheet) headFacts() []htmlFact {
	srv := s.r.Server
	facts := []htmlFact{
		{Name: "Server", Value: "PostgreSQL " + cut(words.Clean(srv.Version), longestCell)},
		{Name: "Role", Value: cut(words.Clean(string(srv.Role)), longestCell)},
	}
	if srv.UptimeSeconds > 0 {
		facts = append(facts, htmlFact{Name: "Up", Value: words.Seconds(srv.UptimeSeconds)})
	}
	if srv.SystemIdentifier != "" {
		facts = append(facts, htmlFact{Name: "System identifier", Value: cut(words.Clean(srv.SystemIdentifier), longestCell), Code: true})
	}
	return facts
}

// tiles are the few numbers that everybody asks for first.
func (s *sheet) tiles() []htmlTile {
	var all []htmlTile
	add := func(t htmlTile, value func(judge.Point) *float64) {
		x := &htmlSection{ID: t.Section}
		s.judge(x)
		t.Severity = x.Worst
		if s.trends != nil && value != nil {
			t.Spark = spark(s.trends.Points, value)
		}
		all = append(all, t)
	}
	if c := s.r.Connections; c != nil && c.Usable() > 0 {
		add(htmlTile{
			Section: reading.SectionConnections, Name: "Connections", Value: words.Percent(100 * float64(c.Used) / float64(c.Usable())),
			Sub:   fmt.Sprintf("%s of %s taken", words.Count(int64(c.Used)), words.Count(int64(c.Usable()))),
			Meter: newBar(float64(c.Usable()), []string{"fill"}, float64(c.Used)),
		}, func(p judge.Point) *float64 { return number(p.Connections) })
	}
	if value, sub := s.hitRatio(); value != "" {
		add(htmlTile{Section: reading.SectionCache, Name: "Cache hits", Value: value, Sub: sub},
			func(p judge.Point) *float64 { return p.CacheHitPercent })
	}
	if z := s.r.Size; z != nil {
		sub := fmt.Sprintf("database %s", words.Clean(cut(s.r.Database, 40)))
		if s.trends != nil && s.trends.Database != nil {
			sub = words.PerDay(s.trends.Database.BytesPerDay) + " a day"
		}
		add(htmlTile{Section: reading.SectionSize, Name: "Size", Value: words.Bytes(z.DatabaseBytes), Sub: sub},
			func(p judge.Point) *float64 { return number(p.DatabaseBytes) })
	}
	if c := s.r.Connections; c != nil {
		sub := "no session waits for a lock"
		if c.WaitingForLock > 0 {
			sub = words.Plural(c.WaitingForLock, "session") + " waiting for a lock"
		}
		add(htmlTile{Section: reading.SectionLocks, Name: "Oldest transaction", Value: words.Seconds(c.OldestTransactionSeconds), Sub: sub}, nil)
	}
	if value, sub := s.behind(); value != "" {
		add(htmlTile{Section: reading.SectionReplication, Name: "Replication", Value: value, Sub: sub},
			func(p judge.Point) *float64 { return p.LagSeconds })
	}
	if b := s.r.Backups; b != nil {
		t := htmlTile{Section: reading.SectionBackups, Name: "Last backup", Value: "none", Sub: "nothing proven"}
		if b.Newest != nil {
			t.Value = words.Ago(s.r.TakenAt, b.Newest.SnapshotAt)
		}
		if b.Proven != nil {
			t.Sub = render.Claimed(b.Proven) + "proven: " + words.Ago(s.r.TakenAt, b.Proven.SnapshotAt)
		}
		add(t, nil)
	}
	return all
}

// hitRatio is the share of blocks found in shared_buffers, of the interval
// that was watched where there is one, and what it is of.
func (s *sheet) hitRatio() (value, of string) {
	c := s.r.Cache
	if c == nil {
		return "", ""
	}
	if b := s.r.Before; b != nil && b.Cache != nil {
		hits, reads := c.LifetimeHits-b.Cache.LifetimeHits, c.LifetimeReads-b.Cache.LifetimeReads
		if hits >= 0 && reads >= 0 && hits+reads > 0 {
			return hitPercent(hits, reads), "in the last " + words.Duration(s.r.TakenAt.Sub(b.TakenAt))
		}
	}
	if c.LifetimeHits+c.LifetimeReads == 0 {
		return "", ""
	}
	return hitPercent(c.LifetimeHits, c.LifetimeReads), "lifetime, not today"
}

// hitPercent writes a share of hits, never rounded up to 100 %.
func hitPercent(hits, reads int64) string {
	p := 100 * float64(hits) / float64(hits+reads)
	if reads > 0 {
		p = min(math.Floor(p*10)/10, 99.9)
	}
	return words.Percent(p)
}

// behind says how replication fares in a word.
func (s *sheet) behind() (value, of string) {
	r := s.r.Replication
	switch {
	case r == nil || r.Replay == nil && len(r.Standbys) == 0:
		return "", ""
	case r.Replay != nil:
		x := r.Replay
		if x.ReceivedBytes == nil || x.ReplayedBytes == nil {
			return "not known", "standby"
		}
		return words.Bytes(*x.ReceivedBytes - *x.ReplayedBytes), "received and not replayed"
	}
	var most int64 = -1
	for _, x := range r.Standbys {
		if x.ReplayLagBytes == nil {
			return "not known", words.Plural(len(r.Standbys), "standby connection")
		}
		most = max(most, *x.ReplayLagBytes)
	}
	return words.Bytes(most), "most that a standby is behind"
}

// spark is the path of a small line, or nothing where there are too few
// numbers.
func spark(points []judge.Point, value func(judge.Point) *float64) string {
	const width, height = 100.0, 24.0
	f := frame{points: points}
	if !f.fit([]series{{value: value}}) {
		return ""
	}
	var b strings.Builder
	command := "M"
	for _, p := range points {
		v := value(p)
		if v == nil {
			command = "M"
			continue
		}
		fmt.Fprintf(&b, "%s%s %s", command, decimals(f.x(p.At)*width/plotWidth), decimals(2+f.y(*v)*(height-4)/plotHeight))
		command = "L"
	}
	return b.String()
}

// overview is the server, its settings and extensions.
func (s *sheet) overview(x *htmlSection) {
	r := s.r
	facts := []htmlFact{
		{Name: "Version", Value: "PostgreSQL " + r.Server.Version}, {Name: "Role", Value: string(r.Server.Role)},
		{Name: "Database", Value: cut(r.Database, longestCell), Code: true}, {Name: "Read at", Value: utc(r.TakenAt)},
	}
	if !r.Server.StartedAt.IsZero() {
		facts = append(facts, htmlFact{Name: "Running since", Value: utc(r.Server.StartedAt)})
	}
	if h := r.Host; h != nil {
		facts = append(facts, htmlFact{Name: "Machine (" + h.Source + ")", Value: hostWords(h)})
	}
	x.facts(facts...)
	t := htmlTable{Caption: "Extensions", Columns: columns("Extension", "Version", "Schema")}
	for _, e := range r.Server.Extensions {
		t.Rows = append(t.Rows, []cell{name(e.Name), text(e.Version), name(e.Schema)})
	}
	x.table(t, 50, 0)
}

// hostWords write what is known of a machine.
func hostWords(h *reading.Host) string {
	var parts []string
	if h.CPUs > 0 {
		parts = append(parts, words.Plural(h.CPUs, "processor"))
	}
	if h.MemoryBytes > 0 {
		parts = append(parts, words.Bytes(h.MemoryBytes)+" of memory")
	}
	if h.DiskBytes > 0 {
		parts = append(parts, words.Bytes(h.DiskFreeBytes)+" free of "+words.Bytes(h.DiskBytes))
	}
	return strings.Join(parts, ", ")
}

// settings are the server's settings that matter, and how its doors are
// guarded. Advice on them is among the findings.
func (s *sheet) settings(x *htmlSection) {
	if n := s.r.Security; n != nil {
		supers := 0
		for _, u := range n.Superusers {
			supers += u.Connections
		}
		x.facts(
			htmlFact{Name: "Sessions of superusers", Value: words.Count(int64(supers))},
			htmlFact{Name: "Network sessions without TLS", Value: words.Maybe(n.Unencrypted, whole)},
			htmlFact{Name: "Roles with MD5 passwords", Value: words.Maybe(n.MD5Roles, whole)},
		)
	}
	t := htmlTable{Caption: "Settings that matter", Columns: columns("Setting", "Value#", "From")}
	for _, v := range s.r.Server.Settings {
		from := text(v.Source)
		if v.PendingRestart {
			from.Sub = "changes at the next restart"
		}
		t.Rows = append(t.Rows, []cell{name(v.Name), text(render.SettingValue(v)), from})
	}
	x.table(t, 100, 0)
}

func whole(n int) string { return words.Count(int64(n)) }

// backups is how far back the database could be brought.
func (s *sheet) backups(x *htmlSection) {
	b := s.r.Backups
	if b == nil {
		return
	}
	x.facts(htmlFact{Name: "Backups", Value: words.Count(int64(b.Count))})
	s.recovery(x)
	t := htmlTable{Caption: "Backups that count", Columns: columns("Backup", "Holds", "Age#", "Proof", "Recovers in#")}
	add := func(what string, k *reading.BackupState) {
		if k == nil {
			return
		}
		recovers := "-"
		if k.RecoverySeconds > 0 {
			recovers = words.Seconds(k.RecoverySeconds)
		}
		fell := ""
		if b.Shrunk != nil && b.Shrunk.ID == k.ID {
			fell = ", shrunk"
		}
		id := name(k.ID)
		id.Sub = what
		t.Rows = append(t.Rows, []cell{id, text(utc(k.SnapshotAt)), text(words.Ago(s.r.TakenAt, k.SnapshotAt)), text(render.Claimed(k) + string(k.Proof) + fell), text(recovers)})
	}
	if b.Newest != nil && b.Proven != nil && b.Newest.ID == b.Proven.ID {
		add("the newest, and proven", b.Newest)
	} else {
		add("the newest", b.Newest)
		add("the newest that is proven", b.Proven)
	}
	x.table(t, 2, 0)
}

// recovery is to which moments the server could be recovered.
func (s *sheet) recovery(x *htmlSection) {
	r := s.r.Recovery
	if r == nil {
		return
	}
	when := func(at *time.Time) string {
		if at == nil {
			return "-"
		}
		return utc(*at)
	}
	proven := "nothing yet"
	switch {
	case r.Proven != nil && r.Proven.Until != nil:
		proven = utc(*r.Proven.Until)
	case r.Proven != nil:
		proven = r.Proven.LSN
	case r.ClaimedDrills > 0:
		proven = "nothing that can be checked: " + words.Plural(r.ClaimedDrills, "drill") + " claimed"
	}
	x.facts(htmlFact{Name: "Stored WAL", Value: r.State}, htmlFact{Name: "Recoverable from", Value: when(r.From)}, htmlFact{Name: "Recoverable until", Value: when(r.Until)},
		htmlFact{Name: "Proven until", Value: proven}, htmlFact{Name: "Not stored yet", Value: words.Bytes(r.LagBytes)})
}

// otherDatabases are looks at the server's other databases.
func (s *sheet) otherDatabases(x *htmlSection) {
	t := htmlTable{Caption: "Other databases", Columns: columns("Database", "Size#", "Tables#", "Indexes#", "Oldest table#", "Cache hits#", "Transactions#")}
	for _, r := range s.r.Databases {
		row := []cell{name(r.Database), text("?"), text("?"), text("?"), text("?"), text("?"), text("?")}
		if r.Size != nil {
			row[1] = text(words.Bytes(r.Size.DatabaseBytes))
		}
		if r.Tables != nil {
			row[2] = text(whole(r.Tables.Total))
		}
		if r.Indexes != nil {
			row[3] = text(whole(r.Indexes.Total))
		}
		if r.Limits != nil && len(r.Limits.Tables) > 0 {
			row[4] = text(words.Percent(xidPercent(max(r.Limits.Tables[0].XIDAge, r.Limits.Tables[0].MultiXactAge))))
		}
		if c := r.Cache; c != nil && c.LifetimeHits+c.LifetimeReads > 0 {
			row[5] = text(hitPercent(c.LifetimeHits, c.LifetimeReads))
		}
		if r.Transactions != nil {
			row[6] = text(words.Count(r.Transactions.Commits + r.Transactions.Rollbacks))
		}
		t.Rows = append(t.Rows, row)
		for _, k := range r.Skipped {
			x.Skipped = append(x.Skipped, htmlFact{
				Name: cut(words.Clean(r.Database), longestCell) + ": " + cut(words.Clean(k.Query), longestCell), Value: cut(words.Clean(k.Reason), longestCell),
			})
		}
	}
	t.Note = "The oldest table's age is of the transaction numbers there are. Findings in these databases are among the findings above."
	x.table(t, 100, 0)
	for _, r := range s.r.Databases {
		if r.Tables != nil && len(r.Tables.Items) > 0 {
			x.table(s.sizeTable("Largest tables of "+cut(r.Database, longestCell), r.Tables.Items), 5, r.Tables.Total)
		}
	}
}

// newest is the later of moments that may not be known.
func newest(moments ...*time.Time) time.Time {
	var all []time.Time
	for _, m := range moments {
		if m != nil {
			all = append(all, *m)
		}
	}
	if len(all) == 0 {
		return time.Time{}
	}
	return slices.MaxFunc(all, time.Time.Compare)
}
