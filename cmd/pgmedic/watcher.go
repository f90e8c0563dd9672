package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// watcher looks at a target again and again, and sends what changed.
type watcher struct {
	every time.Duration
	file  *alertsFile
	look  func(context.Context) (alert.Observation, error)
	// send reports changes, and returns those that it did. An error says why not all; they
	// are due again after the next look.
	send func(context.Context, []alert.Change) ([]alert.Change, error)
	// steps says how many steps of its escalation an alert has reached. Nil is none.
	steps func(alert.Alert) int
	// idle is called after a look that has nothing to report. Nil does nothing.
	idle func(context.Context)
	now  func() time.Time
	wait func(context.Context, time.Duration)
	log  *slog.Logger
	// answered is what was last read of what people say to the alerts.
	answered alert.Answers
}

// run ends without an error when ctx does.
func (w *watcher) run(ctx context.Context) error {
	for first := true; ; first = false {
		begun := w.now()
		o, err := w.look(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // an interrupt is how a watch ends, and half a look says nothing
		}
		if err != nil {
			// What trying again can't change is said at once.
			if kind := pgmedic.KindOf(err); first && (kind == pgmedic.KindUsage || kind == pgmedic.KindNotFound) {
				return err
			}
			w.log.Warn("the target could not be checked", "target", o.Target, "error", words.OneLine(err.Error()))
		}
		w.hear()
		w.report(ctx, alert.Next(w.file.state.With(w.answered), []alert.Observation{o}, w.now()))
		if w.wait(ctx, w.every-w.now().Sub(begun)); ctx.Err() != nil {
			return nil //nolint:nilerr // likewise
		}
	}
}

// hear reads the silences and acknowledgements that there are now. With a file that can't be
// read those from before count: a damaged file must not undo them.
func (w *watcher) hear() {
	x, err := readAnswers(answersPath(w.file.path))
	if err != nil {
		w.log.Warn("silences and acknowledgements could not be read; those from before still count", "error", words.OneLine(err.Error()), "hint", pgmedic.HintOf(err))
		return
	}
	w.answered = x.Current(w.now())
}

// report sends what is due. The state is kept before, so that what was seen is not lost, and
// after, so that nothing is sent again; a kill in between sends it twice rather than never.
func (w *watcher) report(ctx context.Context, next alert.State) {
	w.keep(ctx, next)
	due := alert.Due(next, w.now())
	if w.steps != nil {
		due = alert.WithSteps(due, w.steps)
		due = append(due, w.escalated(next, due)...)
	}
	if len(due) == 0 {
		if w.idle != nil {
			w.idle(ctx)
		}
		return
	}
	reported, err := w.send(ctx, due)
	if err != nil {
		w.log.Warn("changes could not be reported, and are tried again", "changes", len(due)-len(reported), "error", words.OneLine(err.Error()), "hint", pgmedic.HintOf(err))
	}
	if len(reported) > 0 {
		w.keep(ctx, alert.Reported(next, reported, w.now()))
	}
}

// escalated are the alerts that others are to know of now, but for those that are due anyway.
func (w *watcher) escalated(s alert.State, due []alert.Change) []alert.Change {
	return slices.DeleteFunc(alert.Escalated(s, w.now(), w.steps), func(c alert.Change) bool {
		return slices.ContainsFunc(due, func(d alert.Change) bool { return d.Alert.Fingerprint == c.Alert.Fingerprint })
	})
}

// keep goes on without the file where that can't be written: a full disk is not a reason for an
// alarm to end.
func (w *watcher) keep(ctx context.Context, s alert.State) {
	if err := w.file.keep(ctx, s); err != nil {
		w.log.Warn("what was reported could not be kept: after a restart it is reported again", "error", words.OneLine(err.Error()))
	}
}

// alertsFile is the file that a watch keeps its state in.
type alertsFile struct {
	path  string
	state alert.State
	lock  *os.File
}

// longestAlerts bounds what is read: ten thousand alerts take some MiB.
const longestAlerts = 64 << 20

// openAlerts reads the file, if it is there, and keeps other watches from it. One that is
// damaged is put aside: an alarm that does not start is worse than one that repeats itself.
func openAlerts(path string, now func() time.Time, log *slog.Logger) (*alertsFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUnreachable, "name another file with --watch-state", "make the folder of alerts: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUnreachable, "name another file with --watch-state", "open the lock of alerts: %w", err)
	}
	f := &alertsFile{path: path, lock: lock}
	if !lockAlerts(lock) {
		f.close()
		return nil, pgmedic.Errorf(pgmedic.KindConflict, "end the other one, or name another file with --watch-state", "another watch uses %s", path)
	}
	state, problem, err := readAlerts(path)
	if err != nil {
		f.close()
		return nil, err
	}
	f.state = state
	if problem != nil {
		aside := freeName(path + ".damaged-" + now().UTC().Format("20060102T150405Z"))
		if err := os.Rename(path, aside); err != nil {
			f.close()
			return nil, pgmedic.Errorf(pgmedic.KindUnreachable, "move it away", "put the damaged file of alerts aside: %w", err)
		}
		log.Warn("the file of alerts is damaged; it was put aside, and what fires is reported again", "file", aside, "problem", problem)
	}
	return f, nil
}

// freeName returns a name that no file has: the one it is given, or with a number behind it.
func freeName(path string) string {
	name := path
	for n := 2; ; n++ {
		if _, err := os.Lstat(name); err != nil {
			return name
		}
		name = fmt.Sprintf("%s.%d", path, n)
	}
}

// lockAlerts takes the lock of a watch. It tries for a moment: commands that ask whether a
// watch runs have the lock, shared, while they ask.
func lockAlerts(lock *os.File) bool {
	const tries, pause = 5, 20 * time.Millisecond
	for i := range tries {
		if i > 0 {
			time.Sleep(pause)
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return true
		}
	}
	return false
}

// readAlerts reads a state, the zero one where there is no file. A problem is that of a
// damaged file.
func readAlerts(path string) (state alert.State, problem, err error) {
	data, problem, err := readBounded(path)
	if data == nil || problem != nil || err != nil {
		return state, problem, err
	}
	if json.Unmarshal(data, &state) != nil {
		return alert.State{}, errors.New("it is not the JSON of one"), nil
	}
	if state.Format > alert.StateFormat {
		return alert.State{}, nil, state.Check()
	}
	if err := state.Check(); err != nil {
		return alert.State{}, err, nil
	}
	return state, nil, nil
}

// readBounded reads a file whole, and returns nil where there is none. A problem is that it is
// too long.
func readBounded(path string) (data []byte, problem, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, pgmedic.Errorf(pgmedic.KindUnreachable, "name another file with --watch-state", "read the file of alerts: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err = io.ReadAll(io.LimitReader(file, longestAlerts+1))
	if err != nil {
		return nil, nil, pgmedic.Errorf(pgmedic.KindUnreachable, "name another file with --watch-state", "read the file of alerts: %w", err)
	}
	if len(data) > longestAlerts {
		return nil, errors.New("it is too long"), nil
	}
	return data, nil, nil
}

// keep takes a state, and writes it whole or not at all.
func (f *alertsFile) keep(ctx context.Context, s alert.State) error {
	f.state = s
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the state of alerts: %w", err)
	}
	return writeFile(ctx, f.path, data, 0o600)
}

func (f *alertsFile) close() { _ = f.lock.Close() } // which unlocks it

// printChanges prints each change on a line, or as a line of JSON.
func (e *env) printChanges(_ context.Context, changes []alert.Change) error {
	for _, c := range changes {
		if e.global.json {
			data, err := json.Marshal(c)
			if err == nil {
				_, err = e.stdout.Write(append(words.JSON(data), '\n'))
			}
			if err != nil {
				return fmt.Errorf("print a change: %w", err)
			}
			continue
		}
		if _, err := fmt.Fprintf(e.stdout, "%s\n", e.changeWords(c)); err != nil {
			return fmt.Errorf("print a change: %w", err)
		}
	}
	return nil
}

// changeWords are the lines of one change.
func (e *env) changeWords(c alert.Change) string {
	p, a := e.paint(e.stdoutTTY), c.Alert
	kind := fmt.Sprintf("%-8s", c.Kind)
	switch c.Kind {
	case alert.KindResolved, alert.KindPassed:
		kind = p.good(kind)
	case alert.KindFiring, alert.KindWorse, alert.KindFlapping, alert.KindStale, alert.KindRepeat, alert.KindEscalated:
		if a.Severity == pgmedic.SeverityCritical {
			kind = p.bad(kind)
		} else {
			kind = p.warn(kind)
		}
	}
	object := a.Object
	if a.Database != "" {
		object += " in database " + a.Database
	}
	line := fmt.Sprintf("%s  %s  %-8s  %s", c.At.UTC().Format(time.RFC3339), kind, a.Severity, words.Clean(a.ID+", "+object))
	const indent = 4
	width := narrow
	if columns := e.stdoutWidth(); e.stdoutTTY && columns > 2*indent {
		width = columns
	}
	text := strings.Join(terminal.Wrap(words.Clean(detailOf(c)), width-indent), "\n"+strings.Repeat(" ", indent))
	return line + "\n" + strings.Repeat(" ", indent) + text
}

// detailOf says what the kind of a change does not.
func detailOf(c alert.Change) string {
	a := c.Alert
	clock := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch c.Kind {
	case alert.KindResolved:
		return "It fired from " + clock(a.FiredAt) + " to " + clock(a.ResolvedAt) + "."
	case alert.KindPassed:
		return a.Summary + " It fired from " + clock(a.FiredAt) + " to " + clock(a.ResolvedAt) + "."
	case alert.KindFlapping:
		return "It came and went more than four times within an hour; further changes are not reported until an hour has passed without one. " + a.Summary
	case alert.KindStale:
		return "It was last checked at " + clock(a.LastChecked) + ", and may be over. " + a.Summary
	case alert.KindRepeat:
		return "Since " + clock(a.FiredAt) + ": " + a.Summary
	case alert.KindEscalated:
		return "Since " + clock(a.FiredAt) + ", not acknowledged: " + a.Summary
	case alert.KindFiring, alert.KindWorse:
	}
	return a.Summary
}
