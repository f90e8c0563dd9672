package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
)

// canChoose reports whether there is a person at a terminal that can be drawn
// on, who has not said that everything is answered already.
func (a *app) canChoose() bool {
	return a.stdinTTY && a.stderrTTY && !a.global.json && !a.global.quiet && !a.global.yes && !slices.Contains(a.environ, "TERM=dumb")
}

// chosen is what a person chose.
type chosen struct {
	entry catalog.Entry
	into  string
	swap  bool
}

// choose asks for what is not known yet: which backup, unless one is given, and
// what to do with it, unless that is said.
func (a *app) choose(ctx context.Context, listing []catalog.Entry, given *catalog.Entry, askWhat bool) (chosen, error) {
	m := newChooser(listing, a.now(), paint{on: a.paint(true).on})
	m.askWhat = askWhat
	if given != nil {
		m.choice.entry, m.stage = *given, stageWhat
	}
	// Signals are the program's own to handle: they end ctx.
	p := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(a.stdin), tea.WithOutput(a.rawErr), tea.WithEnvironment(a.environ), tea.WithoutSignalHandler())
	_, err := p.Run()
	switch {
	case ctx.Err() != nil:
		return chosen{}, context.Cause(ctx)
	case err != nil && !errors.Is(err, tea.ErrInterrupted):
		return chosen{}, fmt.Errorf("draw the list of backups: %w", err)
	case err != nil || m.end == endInterrupted:
		return chosen{}, errInterrupted
	case m.end != endChosen:
		return chosen{}, pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "nothing was chosen; nothing was changed")
	}
	return m.choice, nil
}

// The stages of a chooser.
const (
	stageBackup = iota
	stageWhat
	stageName
)

// The ends of a chooser.
const (
	endNone = iota
	endLeft
	endChosen
	endInterrupted
)

// chooser is the model of the screen: the list with its search, then what to do,
// then the new database's name.
type chooser struct {
	paint paint
	now   time.Time
	all   []catalog.Entry
	shown []catalog.Entry // those that match the search

	askWhat       bool
	stage, end    int
	search        string
	marked, first int // of shown: the marked one and the first on the screen
	what          int
	name          string
	width, height int
	choice        chosen
}

func newChooser(all []catalog.Entry, now time.Time, p paint) *chooser {
	m := &chooser{paint: p, now: now, all: all, shown: all, width: 80, height: 24}
	// What latest means, and not what a restore has replaced.
	regular := func(e catalog.Entry) bool { return e.Backup.Purpose != pgmedic.PurposeSafety }
	m.marked = max(slices.IndexFunc(all, regular), 0)
	return m
}

// Init implements tea.Model.
func (m *chooser) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *chooser) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.PasteMsg:
		m.typed(msg.Content)
	case tea.KeyPressMsg:
		m.key(msg)
	}
	if m.end != endNone {
		return m, tea.Quit
	}
	return m, nil
}

func (m *chooser) key(k tea.KeyPressMsg) {
	switch k.Keystroke() {
	case "ctrl+c":
		m.end = endInterrupted
	case "esc":
		m.back()
	case "enter":
		m.enter()
	case "up", "ctrl+p":
		m.move(-1)
	case "down", "ctrl+n", "tab":
		m.move(1)
	case "pgup":
		m.move(-m.room())
	case "pgdown":
		m.move(m.room())
	case "backspace":
		if text := m.text(); text != nil && *text != "" {
			runes := []rune(*text)
			*text = string(runes[:len(runes)-1])
			m.filter()
		}
	case "ctrl+u":
		if text := m.text(); text != nil {
			*text = ""
			m.filter()
		}
	default:
		m.typed(k.Text)
	}
}

// back goes a step back; with nothing to go back to it ends without a choice.
func (m *chooser) back() {
	switch {
	case m.stage == stageBackup && m.search != "":
		m.search = ""
		m.filter()
	case m.stage == stageName:
		m.stage = stageWhat
	case m.stage == stageWhat && len(m.all) > 0:
		m.stage = stageBackup
	default:
		m.end = endLeft
	}
}

// text is what is being typed at this stage.
func (m *chooser) text() *string {
	switch m.stage {
	case stageBackup:
		return &m.search
	case stageName:
		return &m.name
	}
	return nil
}

func (m *chooser) typed(s string) {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if text := m.text(); text != nil && len(*text)+len(s) <= 200 {
		*text += s
		m.filter()
	}
}

// filter keeps the backups that have every word of the search.
func (m *chooser) filter() {
	if m.stage != stageBackup {
		return
	}
	words := strings.Fields(strings.ToLower(m.search))
	m.shown = nil
	for _, e := range m.all {
		text := strings.ToLower(strings.Join(slices.Concat(m.cells(e), m.details(e)), " "))
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
			m.shown = append(m.shown, e)
		}
	}
	m.marked, m.first = 0, 0
}

func (m *chooser) move(by int) {
	switch m.stage {
	case stageBackup:
		m.marked = max(0, min(m.marked+by, len(m.shown)-1))
	case stageWhat:
		m.what = max(0, min(m.what+by, 1))
	}
}

func (m *chooser) enter() {
	switch m.stage {
	case stageBackup:
		if len(m.shown) == 0 {
			return
		}
		m.choice.entry = m.shown[m.marked]
		if m.stage = stageWhat; !m.askWhat {
			m.end = endChosen
		}
	case stageWhat:
		if m.what == 1 {
			m.choice.swap, m.end = true, endChosen
			return
		}
		b := m.choice.entry.Backup
		m.stage, m.name = stageName, databases.DerivedName(b.Database.Name, "_"+b.SnapshotAt.UTC().Format("20060102_1504"))
	case stageName:
		if name := strings.TrimSpace(m.name); name != "" {
			m.choice.into, m.end = name, endChosen
		}
	}
}
