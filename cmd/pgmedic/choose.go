package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/terminal"
)

// canChoose reports whether there is a person at a terminal that can be drawn
// on, who has not said that everything is answered already.
func (e *env) canChoose() bool {
	return e.stdinTTY && e.stderrTTY && !e.global.json && !e.global.quiet && !e.global.yes && !slices.Contains(e.environ, "TERM=dumb")
}

// chosen is what a person chose.
type chosen struct {
	entry catalog.Entry
	into  string
	swap  bool
}

// choose asks for what is not known yet: which backup, unless one is given, and
// what to do with it, unless that is said.
func (e *env) choose(ctx context.Context, listing []catalog.Entry, given *catalog.Entry, askWhat bool) (chosen, error) {
	m := newChooser(listing, e.now(), terminal.Painter{On: e.paint(true).on})
	m.askWhat = askWhat
	if given != nil {
		m.choice.entry, m.stage = *given, stageWhat
	}
	if err := show(ctx, e, m, "the list of backups", ""); err != nil {
		return chosen{}, err
	}
	return m.choice, nil
}

// show shows a page, which a message calls what, until something is chosen on it. The hint
// is for someone who chooses nothing.
func show(ctx context.Context, e *env, page terminal.Page, what, hint string) error {
	ending, err := terminal.Show(ctx, page, terminal.DialogOptions{In: e.stdin, Out: e.rawErr, Environ: e.environ})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("draw %s: %w", what, err)
	case ending == terminal.Interrupted:
		return errInterrupted
	case ending != terminal.Chosen:
		return pgmedic.Errorf(pgmedic.KindNotConfirmed, hint, "nothing was chosen; nothing was changed")
	}
	return nil
}

// The stages of a chooser.
const (
	stageBackup = iota
	stageWhat
	stageName
)

// chooser is a page: the list with its search, then what to do, then the new database's
// name.
type chooser struct {
	paint terminal.Painter
	now   time.Time
	all   []catalog.Entry
	shown []catalog.Entry // those that match the search

	askWhat bool
	stage   int
	search  terminal.Input
	backups terminal.List // of shown
	what    terminal.List // of restoreWays
	name    terminal.Input
	choice  chosen
}

func newChooser(all []catalog.Entry, now time.Time, p terminal.Painter) *chooser {
	m := &chooser{paint: p, now: now, all: all, shown: all}
	// What latest means, and not what a restore has replaced.
	regular := func(e catalog.Entry) bool { return e.Backup.Purpose != pgmedic.PurposeSafety }
	m.backups.Marked = max(slices.IndexFunc(all, regular), 0)
	return m
}

// Press implements terminal.Page.
func (m *chooser) Press(key terminal.Key, size terminal.Size) terminal.Ending {
	switch key.Stroke {
	case "esc":
		return m.back()
	case "enter":
		return m.enter()
	}
	switch m.stage {
	case stageBackup:
		if !m.backups.Press(key.Stroke, len(m.shown), backupRoom(size)) && m.search.Press(key) {
			m.filter()
		}
	case stageWhat:
		m.what.Press(key.Stroke, len(restoreWays()), backupRoom(size))
	case stageName:
		m.name.Press(key)
	}
	return terminal.Open
}

// back goes a step back; with nothing to go back to it ends without a choice.
func (m *chooser) back() terminal.Ending {
	switch {
	case m.stage == stageBackup && m.search.Text != "":
		m.search.Text = ""
		m.filter()
	case m.stage == stageName:
		m.stage = stageWhat
	case m.stage == stageWhat && len(m.all) > 0:
		m.stage = stageBackup
	default:
		return terminal.Left
	}
	return terminal.Open
}

// filter keeps the backups that have every word of the search.
func (m *chooser) filter() {
	words := strings.Fields(strings.ToLower(m.search.Text))
	m.shown = nil
	for _, e := range m.all {
		text := strings.ToLower(strings.Join(slices.Concat(m.cells(e), m.details(e)), " "))
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
			m.shown = append(m.shown, e)
		}
	}
	m.backups.Reset()
}

func (m *chooser) enter() terminal.Ending {
	switch m.stage {
	case stageBackup:
		if len(m.shown) == 0 {
			return terminal.Open
		}
		m.choice.entry = m.shown[m.backups.Marked]
		if m.stage = stageWhat; !m.askWhat {
			return terminal.Chosen
		}
	case stageWhat:
		if m.what.Marked == 1 {
			m.choice.swap = true
			return terminal.Chosen
		}
		b := m.choice.entry.Backup
		m.stage, m.name.Text = stageName, databases.DerivedName(b.Database.Name, "_"+b.SnapshotAt.UTC().Format("20060102_1504"))
	case stageName:
		if name := strings.TrimSpace(m.name.Text); name != "" {
			m.choice.into = name
			return terminal.Chosen
		}
	}
	return terminal.Open
}
