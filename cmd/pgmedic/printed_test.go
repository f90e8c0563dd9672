package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/store"
)

// What a server or a store may hold: a title, a colour, a cursor, a C1 control,
// characters that turn the direction or don't show, and bytes that are no UTF-8.
// Forged begins a line, if it can.
const (
	drives = "PWN\x1b]0;title\a\x1b[31m\x1b[2J\x1b[8m\r\b\u009b31m\u202e\u2066\u200b\u2028\u00ad\U000e0041\xff\xc2"
	forged = "PWN\nFORGED proven"
)

// painted matches what paint writes.
var painted = regexp.MustCompile("\x1b\\[[0-9;]*m")

// fill puts a text into every string of a value, one of everything into what has
// a length, and makes what is a bool true.
func fill(v reflect.Value, text string, within ...reflect.Type) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(text)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1)
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fill(v.Elem(), text, within...)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text, within...)
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), text, within...)
		}
	case reflect.Map:
		key, element := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, text, within...)
		fill(element, text, within...)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, element)
	case reflect.Interface:
		if v.Type() == reflect.TypeFor[error]() {
			v.Set(reflect.ValueOf(errors.New(text)))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1_800_000_000, 0)))
			return
		}
		if slices.Contains(within, v.Type()) {
			return // a reading of a server within one of another
		}
		within = append(slices.Clone(within), v.Type())
		for i := range v.NumField() {
			f := v.Type().Field(i)
			// The catalog knows no backup whose id is another than its folder's, and
			// SQL has lines.
			whole := slices.Contains([]string{"ID", "BackupID", "Incoming", "SafetyBackup", "SQL", "CleanUp", "Schema"}, f.Name)
			if f.IsExported() && (text != forged || !whole) {
				fill(v.Field(i), text, within...)
			}
		}
	}
}

func filled[T any](text string) T {
	var v T
	fill(reflect.ValueOf(&v).Elem(), text)
	return v
}

// printer is an app that prints into buffers.
func printer(t *testing.T, terminal bool) (a *app, out *bytes.Buffer) {
	t.Helper()
	out = &bytes.Buffer{}
	a = &app{
		stdout: out, stderr: out, stdin: strings.NewReader("no\n"), stdinTTY: true, stdoutTTY: terminal, stderrTTY: terminal,
		stdoutWidth: func() int { return 200 }, stderrWidth: func() int { return 200 }, now: func() time.Time { return time.Unix(1_800_000_100, 0) },
	}
	a.cleanStreams()
	cfg, err := config.Load(config.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	a.cfg = cfg
	return a, out
}

// screens are what commands print of values that a server, a store or an error
// gave them, all of whose texts are the given one.
func screens(t *testing.T, text string) map[string]func(*app) {
	t.Helper()
	local, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c := catalog.New(local)
	copies := []copyStore{{Name: text, Store: text}, {Name: text, Error: text}}
	entry := func() catalog.Entry {
		e := filled[catalog.Entry](text)
		e.Keys = 0
		return e
	}
	failed := func() pgmedic.Receipt {
		r := filled[pgmedic.Receipt](text)
		r.Outcome, r.Checks = pgmedic.OutcomeFailed, []pgmedic.Check{filled[pgmedic.Check](text)}
		r.Checks[0].Outcome = pgmedic.OutcomeFailed
		return r
	}
	return map[string]func(*app){
		"list": func(a *app) {
			e := entry()
			l := catalog.Listing{Entries: []catalog.Entry{e, e}, Damaged: []catalog.Damaged{filled[catalog.Damaged](text)}, Orphans: []catalog.Orphan{filled[catalog.Orphan](text)}}
			other := *e.Backup
			other.Server.SystemIdentifier += "2"
			l.Entries[1].Backup = &other
			a.printListing(l, catalog.Filter{}, c, copies)
			a.stdoutWidth = func() int { return 90 }
			a.printListing(l, catalog.Filter{}, c, copies)
			a.printListing(catalog.Listing{}, catalog.Filter{Server: text, Database: text}, c, nil)
			_ = a.listOrphans(l.Orphans)
		},
		"show": func(a *app) {
			e := entry()
			e.Receipts = append(e.Receipts, failed())
			a.printEntry(e, c, copies)
			a.printTables(e.Backup, true)
			a.printReceipts(e)
			a.printReceipts(catalog.Entry{Backup: e.Backup})
		},
		"backup":  func(a *app) { a.printBackup(entry().Backup, c) },
		"receipt": func(a *app) { r := failed(); a.printReceipt(&r, entry().Backup) },
		"preview": func(a *app) { p := filled[restore.Preview](text); a.printPreview(&p) },
		"swap": func(a *app) {
			_ = a.confirmSwap(t.Context(), filled[restore.Plan](text))
			_ = a.confirmRollback(t.Context(), filled[restore.Plan](text))
			s := filled[restore.Swapped](text)
			_ = a.printSwapped(&s, "backup")
			_ = a.printTidied(&s)
		},
		"globals": func(a *app) {
			g := filled[restore.Globals](text)
			a.printGlobals(&g)
			_ = a.confirmGlobals(t.Context(), g)
		},
		"prune": func(a *app) { p := filled[pruneResult](text); a.printPlan(&p, true) },
		"rescue": func(a *app) {
			r := filled[restore.Rescued](text)
			a.printRescued(&r)
			r.DryRun = false
			a.printRescued(&r)
		},
		"copy":   func(a *app) { r := filled[copyRow](text); a.printCopy(r); r.Error = ""; a.printCopy(r) },
		"keys":   func(a *app) { _ = a.printKeyChanges([]keysRow{filled[keysRow](text)}, keyChange{}) },
		"check":  func(a *app) { _ = a.printChecklist(&checklist{checks: []pgmedic.Check{filled[pgmedic.Check](text)}}) },
		"config": func(a *app) { _ = a.printConfig([]config.Value{filled[config.Value](text)}) },
		"error": func(a *app) {
			a.global.showData = true
			a.printError(pgmedic.Errorf(pgmedic.KindFailed, text, "restore: %w", &postgres.ServerError{Code: text, Text: text, Full: text}))
			_ = a.confirm(t.Context(), text, text)
		},
		"log": func(a *app) {
			log, err := a.logger(config.Log{Level: "debug", Format: "text"})
			if err != nil {
				t.Fatal(err)
			}
			log.LogAttrs(context.Background(), slog.LevelError, text, slog.String("key", text), slog.Any("error", errors.New(text)))
		},
		"progress": func(a *app) {
			for _, live := range []bool{true, false} {
				p := &progress{app: a, live: live, paint: a.paint(a.stderrTTY)}
				p.event(filledEvent(text, 1))
				p.event(filledEvent(text, 2))
				e := filledEvent(text, 2)
				e.Finished = true
				p.event(e)
			}
		},
	}
}

func filledEvent(text string, done int64) pgmedic.Event {
	return pgmedic.Event{Step: text, Object: text, DoneBytes: done, TotalBytes: 10}
}

// TestPrintedText: whatever the values hold, what is printed is text.
func TestPrintedText(t *testing.T) {
	for name, show := range screens(t, drives) {
		for _, terminal := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, terminal %t", name, terminal), func(t *testing.T) {
				a, out := printer(t, terminal)
				show(a)
				text := out.String()
				if !strings.Contains(text, "PWN") {
					t.Fatalf("nothing of the values was printed: %q", text)
				}
				if strings.Contains(text, `title\x07`+"\x1b") || strings.Contains(text, a.key) {
					t.Errorf("a value coloured itself: %q", text)
				}
				for _, own := range []string{"\r", "\x1b[K"} { // of the line of progress
					if name == "progress" {
						text = strings.ReplaceAll(text, own, "")
					}
				}
				if terminal {
					text = painted.ReplaceAllString(text, "")
				}
				if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
					t.Errorf("%q is in %q", text[i:min(i+20, len(text))], text)
				}
			})
		}
	}
}

// TestPrintedLines: no value begins a line of its own.
func TestPrintedLines(t *testing.T) {
	for name, show := range screens(t, forged) {
		t.Run(name, func(t *testing.T) {
			a, out := printer(t, false)
			show(a)
			for line := range strings.Lines(out.String()) {
				if strings.HasPrefix(line, "FORGED") && name != "error" { // which shows the server's own words, lines and all, where asked to
					t.Errorf("a value begins a line:\n%s", out.String())
				}
			}
		})
	}
}

// TestPrintedReports: so it is with reports, as text and as JSON, and with what
// commands print as JSON.
func TestPrintedReports(t *testing.T) {
	got := filled[reading.Reading](drives)
	report := render.NewReport(time.Unix(1_800_000_000, 0), &got, []pgmedic.Finding{filled[pgmedic.Finding](drives)})
	for _, format := range []string{"text", "json"} {
		a, out := printer(t, false)
		if err := a.writeReport(t.Context(), report, reportFlags{format: format}); err != nil {
			t.Fatal(err)
		}
		if format == "json" && !json.Valid(out.Bytes()) {
			t.Error("the report is no JSON")
		}
		if i := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%s: %q is in the report", format, out.String()[i:min(i+40, out.Len())])
		}
	}
	a, out := printer(t, true)
	if err := a.printJSON(filled[catalog.Entry](drives)); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(out.Bytes()) || strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("the JSON is not fit for a terminal: %q", out.String())
	}
	var back catalog.Entry
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || !strings.HasPrefix(back.Backup.Host, strings.TrimSuffix(drives, "\xff\xc2")) {
		t.Errorf("another text came back: %v", err)
	}
	logged := &bytes.Buffer{}
	slog.New(slog.NewJSONHandler(jsonLines{logged}, nil)).Error(drives, "key", drives)
	if !json.Valid(logged.Bytes()) || strings.ContainsFunc(logged.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("a record is not fit for a terminal: %q", logged.String())
	}
}

// TestPrintedChooser: so it is with the screen on which a backup is chosen.
func TestPrintedChooser(t *testing.T) {
	e := filled[catalog.Entry](drives)
	m := newChooser([]catalog.Entry{e, e}, time.Unix(1_800_000_000, 0), paint{on: true})
	m.search, m.name, m.choice.entry = drives, drives, e
	for _, stage := range []int{stageBackup, stageWhat, stageName} {
		m.stage = stage
		text := painted.ReplaceAllString(m.View().Content, "")
		if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("stage %d: %q is in %q", stage, text[i:min(i+20, len(text))], text)
		}
	}
}
