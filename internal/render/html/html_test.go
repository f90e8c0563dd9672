package html_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	stdhtml "html"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render/html"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
	"github.com/pgmedic/pgmedic/internal/words"
)

func TestHTMLHasEverything(t *testing.T) {
	for name, r := range htmlReports(t) {
		text := htmlOf(t, r)
		if !strings.HasPrefix(text, "<!DOCTYPE html>\n<html lang=\"en\">") || !strings.HasSuffix(text, "</html>\n") {
			t.Errorf("%s: it is no whole page", name)
		}
		for _, title := range []string{
			"Findings", "Overview", "Connections", "Slow queries", "Indexes", "Tables and bloat", "Locks", "Cache", "Size and growth", "Transactions",
			"Replication", "Checkpoints, WAL and I/O", "Wraparound and limits", "Waits", "Trends", "Recommendations", "Backups",
		} {
			if !strings.Contains(text, ">"+title+"</h2>") {
				t.Errorf("%s: there is no section %s", name, title)
			}
		}
		if name == "huge" || name == "hostile" {
			continue
		}
		for _, f := range r.Findings {
			for _, part := range []string{f.ID, f.Summary, f.Fix, f.Risk} {
				if !strings.Contains(stdhtml.UnescapeString(text), clean(part)) {
					t.Errorf("%s: of %s there is no %q", name, f.ID, part)
				}
			}
			if !strings.Contains(text, `id="kind-`+f.ID+`"`) {
				t.Errorf("%s: %s is not explained", name, f.ID)
			}
		}
		for _, s := range r.Reading.Skipped {
			if !strings.Contains(stdhtml.UnescapeString(text), "<bdi>"+s.Query+"</bdi>: "+s.Reason) {
				t.Errorf("%s: that %s was skipped is not said", name, s.Query)
			}
		}
	}
}

// clean is what the page makes of a text of several lines.
func clean(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = words.Clean(l)
	}
	return strings.Join(lines, "\n")
}

// TestHTMLIsOneFile: nothing on the page names anything to fetch, and the
// policy allows its own style and script and no other.
func TestHTMLIsOneFile(t *testing.T) {
	for name, r := range htmlReports(t) {
		text := htmlOf(t, r)
		tags := strings.Join(regexp.MustCompile(`<[a-z][^>]*>`).FindAllString(text, -1), "\n")
		// What is in values is text: only names of attributes count.
		names := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(tags, `""`)
		if found := regexp.MustCompile(`(?i)\s(style|src|srcset|action|formaction|on[a-z]+)=`).FindString(names); found != "" {
			t.Errorf("%s: there is an attribute %s", name, found)
		}
		for element, directive := range map[string]string{"style": "style-src", "script": "script-src"} {
			inner := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(text, -1)
			if len(inner) != 1 {
				t.Fatalf("%s: %d elements %s", name, len(inner), element)
			}
			sum := sha256.Sum256([]byte(inner[0][1]))
			want := directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"
			if !strings.Contains(stdhtml.UnescapeString(text), want) {
				t.Errorf("%s: the policy has no %s", name, want)
			}
			if found := regexp.MustCompile(`(?i)@import|url\(|fetch\(|XMLHttpRequest|innerHTML|eval\(`).FindString(inner[0][1]); found != "" {
				t.Errorf("the %s has %s", element, found)
			}
		}
	}
}

func TestHTMLLinksLeadSomewhere(t *testing.T) {
	for name, r := range htmlReports(t) {
		text := htmlOf(t, r)
		ids := map[string]bool{}
		for _, m := range regexp.MustCompile(`\sid="([^"]*)"`).FindAllStringSubmatch(text, -1) {
			if ids[m[1]] {
				t.Errorf("%s: the id %s is there twice", name, m[1])
			}
			ids[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`(?:href="#|aria-labelledby="|data-copy=")([^"]+)"`).FindAllStringSubmatch(text, -1) {
			for id := range strings.FieldsSeq(m[1]) {
				if !ids[id] {
					t.Errorf("%s: %s leads nowhere", name, id)
				}
			}
		}
	}
}

// TestHTMLChartsHaveWords: every drawing is either described or beside what it
// shows.
func TestHTMLChartsHaveWords(t *testing.T) {
	r := rendertest.ReportOn(rendertest.Busy())
	if text := htmlOf(t, r); strings.Contains(text, "<figure") || !strings.Contains(text, "no earlier readings") {
		t.Error("without trends there are charts, or no word on why there are none")
	}
	r.Trends = growing()
	text := htmlOf(t, r)
	for _, svg := range regexp.MustCompile(`(?s)<svg[^>]*>.*?</svg>`).FindAllString(text, -1) {
		hidden := strings.Contains(svg, `aria-hidden="true"`) || strings.HasPrefix(svg, `<svg viewBox="0 0 16 8"`)
		if !hidden && (!strings.Contains(svg, "<title") || !strings.Contains(svg, "<desc")) {
			t.Errorf("not described: %.200s", svg)
		}
	}
	for _, chart := range []string{
		"Connections", "Blocks found in shared_buffers", "Size of the database", "Transactions per second", "Temporary files per second", "Lag, in seconds", "WAL per second",
	} {
		if !strings.Contains(text, ">"+chart+"</title>") || !strings.Contains(text, `aria-label="Numbers of `+chart+`"`) {
			t.Errorf("there is no chart %s with its numbers", chart)
		}
	}
	for _, word := range []string{"37.0 MiB a day", "1,107 days", "or never", "7.3 times", ">new<", "-2.0 MiB", ">2,100<"} {
		if !strings.Contains(text, word) {
			t.Errorf("there is no %q", word)
		}
	}
}

// TestHTMLChartsBreakAtGaps: where nothing is known there is no line.
func TestHTMLChartsBreakAtGaps(t *testing.T) {
	wal := regexp.MustCompile(`(?s)>WAL per second</title>.*?<path class="line line-a" d="([^"]*)"`)
	draw := func(points ...*float64) []string {
		r := rendertest.ReportOn(rendertest.Busy())
		r.Trends = &judge.Trends{Since: rendertest.Noon().Add(-time.Hour), Readings: len(points)}
		for i, p := range points {
			r.Trends.Points = append(r.Trends.Points, judge.Point{At: rendertest.Noon().Add(time.Duration(i) * time.Minute), WALBytesPerSecond: p})
		}
		return wal.FindStringSubmatch(htmlOf(t, r))
	}
	if m := draw(rendertest.Of(1.0), rendertest.Of(2.0), nil, rendertest.Of(4.0), rendertest.Of(3.0)); m == nil || m[1] != "M0 150h0L250 100M750 0h0L1000 50" {
		t.Errorf("the line is %q", m)
	}
	for name, points := range map[string][]*float64{"nothing": nil, "one": {rendertest.Of(1.0)}, "unknown": {nil, nil, nil}, "one of three": {nil, rendertest.Of(1.0), nil}} {
		if m := draw(points...); m != nil {
			t.Errorf("%s: there is a line %q", name, m)
		}
	}
	if m := draw(rendertest.Of(5.0), rendertest.Of(5.0)); m == nil || strings.Contains(m[1], "N") {
		t.Errorf("a level line is %q", m)
	}
}

// What a report was asked for beyond the usual, and how numbers are known, is
// on the page.
func TestHTMLShowsPlansReplicasAndMethods(t *testing.T) {
	r := rendertest.Busy()
	r.Connections.AverageTransactionSeconds, r.Connections.AverageQuerySeconds = 33, 44
	r.Statements = &reading.Statements{Total: 1, ExecSeconds: 5, Items: []reading.Statement{{
		QueryID: "1", Query: "select <b> from claims", Plan: []string{"Sort (cost 2, rows 1)", "  Seq Scan on claims (cost 1, rows 1)"},
	}}}
	x := reading.Index{OID: 77, Schema: "public", Name: "claims_old", TableSchema: "public", Table: "claims", Valid: true, BloatBytes: rendertest.Of(int64(3 << 20))}
	x.BloatMethod, x.BloatConfidence = "estimate", "medium"
	y := x
	y.OID, y.Name, y.BloatMethod, y.BloatConfidence = 78, "claims_measured", "pgstattuple", "high"
	r.Indexes = &reading.Indexes{Total: 2, Largest: []reading.Index{x, y}, Unused: []reading.Index{x, y}, UnusedTotal: 2}
	r.Replicas = []reading.Replica{
		{Name: "db2:5432", StartedAt: rendertest.Noon().Add(-time.Hour), StatsReset: rendertest.At(30 * time.Minute), Indexes: []reading.ReplicaIndex{{OID: 77, Scans: 12}, {OID: 78}}},
		{Name: "db3:5432", StartedAt: rendertest.Noon().Add(-time.Hour)},
	}
	page := stdhtml.UnescapeString(htmlOf(t, rendertest.ReportOn(r)))
	for _, part := range []string{
		"<bdi>Sort (cost 2, rows 1)\n  Seq Scan on claims (cost 1, rows 1)</bdi>", "Plan of <code><bdi>select <b> from claims",
		"Replicas that were asked", "<bdi>db2:5432</bdi>", "public.claims_old (12 scans)", "<bdi>db3:5432</bdi>", ">none<",
		"33 s on average", "44 s on average", "medium confidence", "<bdi>pgstattuple</bdi>",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	// The younger of a start and a reset is since when it is known.
	if !strings.Contains(page, rendertest.Noon().Add(-30*time.Minute).UTC().Format("15:04")) {
		t.Error("since when a replica counts is not said")
	}
}

func TestHTMLEscapes(t *testing.T) {
	text := htmlOf(t, hostile())
	for _, p := range planted[:8] {
		if strings.ContainsAny(p, "<") && strings.Contains(text[strings.Index(text, "</style>")+8:], p) {
			t.Errorf("the page has %q", p)
		}
	}
	for _, r := range text {
		if r != ' ' && r != '\n' && !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			t.Fatalf("the page has %U", r)
		}
	}
	if !strings.Contains(text, "שלום עולם") {
		t.Error("a name in Hebrew is lost")
	}
	// A finding has to name its object whole; a table has not.
	if _, sections, found := strings.Cut(text, `id="section-overview"`); !found || strings.Contains(sections, strings.Repeat("long_", 1000)) {
		t.Error("a name of 10,000 characters is not cut in the tables")
	}
}

func TestHTMLIsDeterministic(t *testing.T) {
	for name, r := range htmlReports(t) {
		first, second := htmlOf(t, r), htmlOf(t, r)
		if first != second {
			t.Errorf("%s: two pages of one report differ", name)
		}
	}
}

func TestHTMLOfManyTablesIsBounded(t *testing.T) {
	r := rendertest.ReportOn(huge())
	r.Trends = growing()
	text := htmlOf(t, r)
	if len(text) >= 1_000_000 {
		t.Errorf("%d bytes", len(text))
	}
	for _, words := range []string{"and 9,980 more", "and 19,990 more", "more, which <code>pgmedic report --json</code> has"} {
		if !strings.Contains(text, words) {
			t.Errorf("that there is more is not said: %q", words)
		}
	}
}

// TestHTMLFindingsOfOneKind: the first are open, the rest is folded, and each
// says where it is.
func TestHTMLFindingsOfOneKind(t *testing.T) {
	r := rendertest.ReportOn(rendertest.Clinic())
	one := pgmedic.Finding{ID: "slot-inactive", Section: "replication", Severity: pgmedic.SeverityInfo, Summary: "Idle.", Risk: "The same.", Database: "other"}
	for i := range 5 {
		one.Object = fmt.Sprintf("slot_%d", i)
		r.Findings = append(r.Findings, one)
	}
	text := htmlOf(t, r)
	if !strings.Contains(text, "2 more of <code>slot-inactive</code>") || strings.Count(text, "in database <bdi>other</bdi>") != 5 {
		t.Error("the group of five is not three and two, each in its database")
	}
	if n := strings.Count(text, "The same."); n != 3 {
		t.Errorf("the risk is said %d times", n)
	}
}

func TestHTMLSaysWhenItCannotBeWritten(t *testing.T) {
	if err := html.Write(broken{}, rendertest.ReportOn(rendertest.Busy()), html.Options{}); err == nil || !strings.Contains(err.Error(), "write the HTML report") {
		t.Errorf("%v", err)
	}
	var b bytes.Buffer
	if err := html.Write(&b, rendertest.ReportOn(rendertest.Busy()), html.Options{}); err != nil || strings.Contains(b.String(), "What this means") {
		t.Errorf("without explanations: %v", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, fmt.Errorf("no room") }

// BenchmarkHTML renders the report of a server with 10,000 tables.
func BenchmarkHTML(b *testing.B) {
	r := rendertest.ReportOn(huge())
	r.Trends = growing()
	for b.Loop() {
		var page bytes.Buffer
		if err := html.Write(&page, r, html.Options{Explain: explain}); err != nil {
			b.Fatal(err)
		}
	}
}
