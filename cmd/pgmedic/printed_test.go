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
	"github.com/pgmedic/pgmedic/internal/restore/inplace"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/terminal"
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

// printer is a job that prints into buffers.
func printer(t *testing.T, terminal bool) (j job, out *bytes.Buffer) {
	t.Helper()
	out = &bytes.Buffer{}
	e := &env{
		stdout: out, stderr: out, stdin: strings.NewReader("no\n"), stdinTTY: true, stdoutTTY: terminal, stderrTTY: terminal,
		stdoutWidth: func() int { return 200 }, stderrWidth: func() int { return 200 }, now: func() time.Time { return time.Unix(1_800_000_100, 0) },
	}
	e.cleanStreams()
	cfg, err := config.Load(config.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return job{env: e, cfg: cfg}, out
}

// screens are what commands print of values that a server, a store or an error
// gave them, all of whose texts are the given one.
func screens(t *testing.T, text string) map[string]func(job) {
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
	return map[string]func(job){
		"list": func(j job) {
			list, width := &listCommand{job: j, keys: keyring{j}}, j.stdoutWidth()
			e := entry()
			l := catalog.Listing{Entries: []catalog.Entry{e, e}, Damaged: []catalog.Damaged{filled[catalog.Damaged](text)}, Orphans: []catalog.Orphan{filled[catalog.Orphan](text)}}
			other := *e.Backup
			other.Server.SystemIdentifier += "2"
			l.Entries[1].Backup = &other
			list.printListing(l, catalog.Filter{}, c, copies)
			j.stdoutWidth = func() int { return min(90, width) }
			list.printListing(l, catalog.Filter{}, c, copies)
			list.printListing(catalog.Listing{}, catalog.Filter{Server: text, Database: text}, c, nil)
			_ = list.listOrphans(l.Orphans)
		},
		"show": func(j job) {
			show := &showCommand{job: j, flags: showFlags{allTables: true}}
			e := entry()
			e.Receipts = append(e.Receipts, failed())
			show.printEntry(e, c, copies, lockRow{Asked: true, Error: text, Lock: store.Lock{Mode: store.LockMode(text)}})
			show.printTables(e.Backup)
			show.printReceipts(e)
			show.printReceipts(catalog.Entry{Backup: e.Backup})
		},
		"backup":  func(j job) { (&backupCommand{job: j}).printBackup(entry().Backup, c) },
		"receipt": func(j job) { r := failed(); j.printReceipt(&r, entry().Backup) },
		"preview": func(j job) { p := filled[restore.Preview](text); (&restoreCommand{job: j}).printPreview(&p) },
		"swap": func(j job) {
			swaps := swapPrinter{j.env}
			forward, back := &restoreCommand{job: j, swaps: swaps}, &rollbackCommand{job: j, swaps: swaps}
			_ = forward.confirmSwap(t.Context(), filled[swap.Plan](text))
			_ = (&dumpCommand{restoreCommand: *forward}).confirmDump(t.Context(), filled[swap.Plan](text), filled[dumpFacts](text))
			_ = back.confirmRollback(t.Context(), filled[swap.Plan](text))
			s := filled[swap.Swapped](text)
			_ = swaps.printSwapped(&s, "backup")
			_ = forward.printTidied(&s)
		},
		"globals": func(j job) {
			g := filled[restore.Globals](text)
			j.printGlobals(&g)
			_ = j.confirmGlobals(t.Context(), g)
		},
		"prune": func(j job) { p := filled[pruneResult](text); (&pruneCommand{job: j}).printPlan(&p, true) },
		"rescue": func(j job) {
			single := &restoreCommand{job: j}
			r := filled[rescue.Rescued](text)
			single.printRescued(&r)
			r.DryRun = false
			single.printRescued(&r)
		},
		"in place": func(j job) {
			single := &restoreCommand{job: j}
			_ = single.confirmInPlace(t.Context(), filled[inplace.Plan](text), nil)
			r := filled[inplace.Result](text)
			_ = single.printInPlace(&r)
			r.DryRun = false
			_ = single.printInPlace(&r)
		},
		"copy": func(j job) {
			copier := copier{job: j}
			r := filled[copyRow](text)
			copier.printCopy(r)
			r.Error = ""
			copier.printCopy(r)
		},
		"keys": func(j job) { _ = (&keysChangeCommand{job: j}).printKeyChanges([]keysRow{filled[keysRow](text)}) },
		"check": func(j job) {
			_ = (&checkCommand{job: j}).printChecklist(&checklist{checks: []pgmedic.Check{filled[pgmedic.Check](text)}})
		},
		"config": func(j job) { _ = (&configCommand{job: j}).print([]config.Value{filled[config.Value](text)}) },
		"error": func(j job) {
			j.global.showData = true
			j.printError(pgmedic.Errorf(pgmedic.KindFailed, text, "restore: %w", &postgres.ServerError{Code: text, Text: text, Full: text}))
			_ = j.confirm(t.Context(), text, text)
		},
		"log": func(j job) {
			log, err := j.logger(j.cfg, config.Log{Level: "debug", Format: "text"})
			if err != nil {
				t.Fatal(err)
			}
			log.LogAttrs(context.Background(), slog.LevelError, text, slog.String("key", text), slog.Any("error", errors.New(text)))
		},
		"progress": func(j job) {
			for _, live := range []bool{true, false} {
				p := terminal.NewProgress(terminal.ProgressOptions{Screen: &j.screen, Live: live, Width: j.stderrWidth, Color: j.paint(j.stderrTTY).on, Now: j.now})
				p.Event(filledEvent(text, 1))
				p.Event(filledEvent(text, 2))
				e := filledEvent(text, 2)
				e.Finished = true
				p.Event(e)
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
				j, out := printer(t, terminal)
				show(j)
				text := out.String()
				if !strings.Contains(text, "PWN") {
					t.Fatalf("nothing of the values was printed: %q", text)
				}
				if strings.Contains(text, `title\x07`+"\x1b") || strings.Contains(text, j.key) {
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
			j, out := printer(t, false)
			show(j)
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
		j, out := printer(t, false)
		if err := (&reportCommand{job: j, flags: reportFlags{format: format}}).writeReport(t.Context(), report); err != nil {
			t.Fatal(err)
		}
		if format == "json" && !json.Valid(out.Bytes()) {
			t.Error("the report is no JSON")
		}
		if i := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%s: %q is in the report", format, out.String()[i:min(i+40, out.Len())])
		}
	}
	j, out := printer(t, true)
	if err := j.printJSON(filled[catalog.Entry](drives)); err != nil {
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
	m := newChooser([]catalog.Entry{e, e}, time.Unix(1_800_000_000, 0), terminal.Painter{On: true})
	m.search.Text, m.name.Text, m.choice.entry = drives, drives, e
	for _, stage := range []int{stageBackup, stageWhat, stageName} {
		m.stage = stage
		text := painted.ReplaceAllString(strings.Join(terminal.Draw(m, terminal.Size{Width: 80, Height: 24}), "\n"), "")
		if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("stage %d: %q is in %q", stage, text[i:min(i+20, len(text))], text)
		}
	}
}
