// Package judge says what is wrong with a server: Analyse and TrendsOf are pure
// functions of Readings and Thresholds.
package judge

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// The impact of findings that have no size: one that concerns everybody comes
// before any session, the longest idle first, and those before any table.
const (
	serverWide  = math.MaxInt64
	sessionWide = math.MaxInt64 / 2
)

// judged is a finding with what it is sorted by.
type judged struct {
	pgmedic.Finding
	// impact is the size in bytes of what the finding is about.
	impact int64
}

// Analyse judges a Reading. Earlier Readings, in any order, turn lifetime
// counters into what happened since; those of another server or database are
// ignored. The findings come worst first, then by Urgency, then largest first, then by
// id and object; the same arguments give the same findings. What the Reading doesn't
// hold is not judged, nor is a section that it was not asked for.
func Analyse(got *reading.Reading, earlier []*reading.Reading, thresholds reading.Thresholds) []pgmedic.Finding {
	a := analysis{reading: got, whole: got, earlier: earlier, limits: thresholds}
	if got.Before != nil {
		a.earlier = append(slices.Clone(earlier), got.Before)
	}
	a.server()
	a.database()
	for _, r := range got.Databases {
		other := analysis{reading: r, whole: got, earlier: earlier, limits: thresholds}
		other.database()
		for _, f := range other.found {
			f.Database = r.Database
			a.found = append(a.found, f)
		}
	}
	a.found = slices.DeleteFunc(a.found, func(f judged) bool { return !got.Wants(f.Section) })
	when := urgencies()
	slices.SortStableFunc(a.found, func(x, y judged) int {
		return cmp.Or(
			cmp.Compare(y.Severity.Rank(), x.Severity.Rank()),
			cmp.Compare(when[x.ID], when[y.ID]),
			cmp.Compare(y.impact, x.impact),
			cmp.Compare(x.ID, y.ID),
			cmp.Compare(x.Database, y.Database),
			cmp.Compare(x.Object, y.Object),
		)
	})
	findings := make([]pgmedic.Finding, len(a.found))
	for i, f := range a.found {
		findings[i] = f.Finding
	}
	return findings
}

// server judges what concerns the whole server.
func (a *analysis) server() {
	a.connections()
	a.idleSessions()
	a.longTransactions()
	a.lockWaits()
	a.servicePools()
	a.replication()
	a.preparedTransactions()
	a.heldBack()
	a.databaseAges()
	a.workers()
	a.statements()
	a.checkpoints()
	a.settings()
	a.versions()
	a.security()
	a.disk()
	a.kept()
	a.trends()
	a.backups()
	a.recovery()
}

// database judges what each database has for itself.
func (a *analysis) database() {
	a.tableAges()
	a.sequences()
	a.deadTuples()
	a.bloat()
	a.neverAnalyzed()
	a.neverVacuumed()
	a.primaryKeys()
	a.foreignKeys()
	a.indexes()
	a.missingIndexes()
	a.cache()
	a.transactions()
	a.rescued()
}

// analysis gathers the findings about one Reading.
type analysis struct {
	reading *reading.Reading
	// whole is the Reading that knows of the server, which is reading itself
	// unless that is of another of its databases.
	whole   *reading.Reading
	earlier []*reading.Reading
	limits  reading.Thresholds
	found   []judged
}

// add completes a finding and keeps it. A fix that changes something can't run
// on a standby, and the reader is told so before its other risks.
func (a *analysis) add(impact int64, f pgmedic.Finding) {
	f.Docs = "findings.md#" + f.ID
	f.Evidence = slices.DeleteFunc(f.Evidence, func(e pgmedic.Evidence) bool { return e.Value == "" })
	changes := f.Section == reading.SectionTables || f.Section == reading.SectionIndexes || f.Section == reading.SectionLimits ||
		f.ID == "database-kept" || f.ID == "rescue-left"
	if changes && f.Fix != "" &&
		a.reading.Server.Role == reading.RoleStandby {
		f.Risk = "Run it on the primary: this server is a standby. " + f.Risk
	}
	a.found = append(a.found, judged{Finding: f, impact: impact})
}

// evidence writes a number. The name carries its unit, as in JSON.
func evidence[N int | int64](name string, n N) pgmedic.Evidence {
	return pgmedic.Evidence{Name: name, Value: strconv.FormatInt(int64(n), 10)}
}

// evidencePercent writes a share with two decimals.
func evidencePercent(name string, percent float64) pgmedic.Evidence {
	return pgmedic.Evidence{Name: name, Value: strconv.FormatFloat(percent, 'f', 2, 64)}
}

// evidenceSeconds writes a time in whole seconds.
func evidenceSeconds(name string, seconds float64) pgmedic.Evidence {
	return pgmedic.Evidence{Name: name, Value: strconv.FormatFloat(seconds, 'f', 0, 64)}
}

// evidenceTime writes a moment, or never.
func evidenceTime(name string, at *time.Time) pgmedic.Evidence {
	value := "never"
	if at != nil {
		value = at.UTC().Format(time.RFC3339)
	}
	return pgmedic.Evidence{Name: name, Value: value}
}

// evidenceMaybe writes a number that may not be known: then it has no value,
// and is not shown.
func evidenceMaybe(name string, n *int64) pgmedic.Evidence {
	if n == nil {
		return pgmedic.Evidence{Name: name}
	}
	return evidence(name, *n)
}

// evidenceMaybeSeconds is the same for a time.
func evidenceMaybeSeconds(name string, s *float64) pgmedic.Evidence {
	if s == nil {
		return pgmedic.Evidence{Name: name}
	}
	return evidenceSeconds(name, *s)
}

// evidenceText writes a word.
func evidenceText(name, value string) pgmedic.Evidence {
	return pgmedic.Evidence{Name: name, Value: value}
}

// numberSetting returns a setting as a number, or a default where it was not
// read.
func numberSetting(s *reading.Server, name string, otherwise float64) float64 {
	text, ok := s.Setting(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return otherwise
	}
	return n
}

// option returns one of a table's storage parameters.
func option(t *reading.Table, name string) (string, bool) {
	for _, o := range t.Options {
		if value, ok := strings.CutPrefix(o, name+"="); ok {
			return value, true
		}
	}
	return "", false
}
