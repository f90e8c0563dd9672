package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/owner"
)

// Options say where a log is and what it writes.
type Options struct {
	// Path is the current file, KeyPath the key's. Both are made where there are none.
	Path, KeyPath string
	// Keep is how long a file is kept after its month. Zero keeps all.
	Keep pgmedic.Length
	// Host is what this host is called, Version that of pgmedic.
	Host, Version string
	// Sinks get each record after it is written.
	Sinks []Sink
	Now   func() time.Time
}

// Log appends to an audit log. Several processes may append to one log at the same time.
type Log struct{ o Options }

// New returns a log, and does nothing to it yet.
func New(o Options) *Log {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Log{o: o}
}

// Path is the current file.
func (l *Log) Path() string { return l.o.Path }

// KeyPath is the file of the key.
func (l *Log) KeyPath() string { return l.o.KeyPath }

// Entry is what a caller has to say. Texts are made one line of at most 500 bytes.
type Entry struct {
	Actor                   Actor
	Run                     string
	Action, Object, Outcome string
	Reason                  string
	Params                  map[string]string
	Exit                    *int
}

// NewRun returns a random id of a process.
func NewRun() string { return randomID(8) }

func randomID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it would end the program instead
	return hex.EncodeToString(b)
}

// state is where a log ends.
type state struct {
	// log is its id, last its last record; both are zero where it has not begun.
	log  string
	last Record
	// first is the first record of the current file, size the file's; both are zero where
	// there is no current file.
	first Record
	size  int64
	// rest is what follows the line of the last record: what one writer after another did
	// not finish. Whole is true where it is a record that lacks nothing but its newline.
	rest  []byte
	whole bool
	// before is the name of the file before a current one that does not exist yet.
	before string
}

// Append writes a record and makes it durable before it returns. Where that fails nothing
// is written, or a line that is closed as torn by the next writer. A log whose last record
// does not authenticate is an error of KindIntegrity, and is not written to. An error of
// KindDegraded means that the record is written and that a sink did not take it.
func (l *Log) Append(ctx context.Context, e Entry) (Record, error) {
	var w *writer
	var kept error
	err := l.locked(ctx, func(key Key) error {
		s, err := l.state(key)
		if err != nil {
			return err
		}
		w = &writer{log: l, key: key, state: s}
		if err := w.prepare(e); err != nil {
			return err
		}
		if err := w.write(); err != nil {
			return err
		}
		kept = w.expire()
		return nil
	})
	if err != nil {
		return Record{}, err
	}
	return w.state.last, errors.Join(kept, l.forward(ctx, w.lines))
}

// locked calls f with the log's key while no other process writes.
func (l *Log) locked(ctx context.Context, f func(Key) error) error {
	if err := owner.MakeFolder(filepath.Dir(l.o.Path)); err != nil {
		return fmt.Errorf("make the folder of the audit log: %w", err)
	}
	unlock, err := lock(ctx, l.o.Path+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	names, err := fileNames(l.o.Path)
	if err != nil {
		return err
	}
	key, err := openKey(l.o.KeyPath, len(names) > 0)
	if err != nil {
		return err
	}
	return f(key)
}

// state reads how the log ends.
func (l *Log) state(key Key) (state, error) {
	var s state
	names, err := fileNames(l.o.Path)
	if err != nil || len(names) == 0 {
		return s, err
	}
	name := names[len(names)-1]
	f, err := os.Open(name)
	if err != nil {
		return s, fmt.Errorf("open the audit log: %w", err)
	}
	first, tail, size, err := ends(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return s, fmt.Errorf("read the audit log: %w", err)
	}
	opened, err := parse(first, key)
	if err == nil && opened.Action != ActionOpen {
		err = errNotRecord
	}
	if err != nil {
		return s, damagedEnd(name, "its first line", err)
	}
	var rest []byte
	if s.last, rest, err = lastRecord(tail, key); err != nil {
		return s, damagedEnd(name, "its last line", err)
	}
	s.log = opened.Params["log"]
	if name != l.o.Path { // a writer ended before it began the new file
		s.before = filepath.Base(name)
		return s, nil
	}
	s.first, s.size, s.rest = opened, size, rest
	if next, err := parse(rest, key); err == nil && follows(next, s.last) {
		s.last, s.whole = next, true
	}
	return s, nil
}

func damagedEnd(name, what string, err error) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "`pgmedic audit verify` shows what was changed; docs/audit.md says what to do then",
		"the audit log %s is damaged: %s %w", name, what, err)
}

// follows reports whether a record is the one after another.
func follows(next, last Record) bool { return next.Seq == last.Seq+1 && next.Prev == last.Hash }

// writer makes the lines of one Append.
type writer struct {
	log   *Log
	key   Key
	state state
	// text is what is written: a newline that a whole record lacks, and lines.
	text []byte
	// lines are those of records that are not forwarded yet.
	lines [][]byte
	// old are the files to delete.
	old []archive
}

// add seals a record and adds its line.
func (w *writer) add(e Entry) error {
	params := map[string]string{}
	for k, v := range e.Params {
		if v != "" && len(params) < maxParams {
			params[clean(k)] = clean(v)
		}
	}
	if len(params) == 0 {
		params = nil
	}
	e.Actor.Kind, e.Actor.Name, e.Actor.SudoUser = clean(e.Actor.Kind), clean(e.Actor.Name), clean(e.Actor.SudoUser)
	r := Record{
		Action: clean(e.Action), Actor: e.Actor, At: w.log.o.Now().UTC().Truncate(time.Microsecond), Exit: e.Exit,
		Host: clean(w.log.o.Host), Object: clean(e.Object), Outcome: clean(e.Outcome), Params: params, PID: os.Getpid(),
		Prev: w.state.last.Hash, Reason: clean(e.Reason), Run: clean(e.Run), Seq: w.state.last.Seq + 1,
	}
	if r.Prev == "" {
		r.Prev = zeroHash()
	}
	line, err := r.seal(w.key)
	if err != nil {
		return err
	}
	w.text = append(w.text, line...)
	w.lines = append(w.lines, bytes.TrimSuffix(line, []byte("\n")))
	w.state.last = r
	return nil
}

// note adds a record that the log writes about itself.
func (w *writer) note(e Entry, action, object string, params map[string]string) error {
	return w.add(Entry{Actor: e.Actor, Run: e.Run, Action: action, Object: object, Outcome: OutcomeDone, Params: params})
}

// prepare makes the lines: what a writer left is closed, a month that is over gets a file
// of its own, and then comes the entry.
func (w *writer) prepare(e Entry) error {
	s := &w.state
	if s.log == "" {
		s.log = randomID(8)
	}
	switch {
	case s.whole:
		w.text, w.lines = append(w.text, '\n'), append(w.lines, s.rest)
	case len(s.rest) > 0:
		lines := bytes.TrimSuffix(s.rest, []byte("\n"))
		if len(lines) == len(s.rest) {
			w.text = append(w.text, '\n')
		}
		sum := sha256.Sum256(lines)
		torn := map[string]string{"bytes": strconv.Itoa(len(lines)), "sha256": hex.EncodeToString(sum[:])}
		if err := w.note(e, ActionTorn, "", torn); err != nil {
			return err
		}
	}
	now, lastAt := w.log.o.Now().UTC(), s.last.At
	over := s.first.Seq > 0 && now.Format("2006-01") > s.first.At.UTC().Format("2006-01")
	if over {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	if s.first.Seq == 0 {
		opened := map[string]string{"log": s.log, "key": w.key.ID(), "before": s.before, "pgmedic": w.log.o.Version, "format": "1"}
		if err := w.note(e, ActionOpen, "", opened); err != nil {
			return err
		}
		if now.Sub(lastAt) <= longestPause {
			if err := w.planExpiry(e, now); err != nil {
				return err
			}
		}
	}
	return w.add(e)
}

// rotate writes what the month's file lacks, and gives it its name.
func (w *writer) rotate() error {
	if err := w.write(); err != nil {
		return err
	}
	s := &w.state
	name := archiveName(w.log.o.Path, s.first)
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return pgmedic.Errorf(pgmedic.KindConflict, "find out what it is, and move it away", "%s, which the audit log of last month is to be called, exists already", name)
	}
	if err := os.Rename(w.log.o.Path, name); err != nil {
		return fmt.Errorf("begin the audit log of this month: %w", err)
	}
	if err := durable.Folder(filepath.Dir(name)); err != nil {
		return err
	}
	s.before, s.first, s.size = filepath.Base(name), Record{}, 0
	s.rest, s.whole = nil, false
	return nil
}

// write appends the lines and flushes them. Where it can't, the file is as it was.
func (w *writer) write() error {
	if len(w.text) == 0 {
		return nil
	}
	var err error
	if w.state.size == 0 {
		err = w.begin()
	} else {
		err = w.extend()
	}
	if err != nil {
		return fmt.Errorf("write to the audit log: %w", err)
	}
	w.state.size += int64(len(w.text))
	w.text = nil
	return nil
}

// begin makes the current file, whole or not at all.
func (w *writer) begin() error {
	path := w.log.o.Path
	// That of a writer that was killed.
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := owner.Create(path+".new", os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = f.Write(w.text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return durable.Folder(filepath.Dir(path))
}

// extend appends to the current file.
func (w *writer) extend() error {
	f, err := os.OpenFile(w.log.o.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(w.text)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		// The next writer closes what this can't take back.
		return errors.Join(err, f.Truncate(w.state.size), f.Close())
	}
	return f.Close()
}

// longestPause is how long after the last record a file may still be found to be old enough
// to go. After a longer one the clock may be wrong, and what it deletes does not come back:
// that waits for the next month. The threshold is our choice.
const longestPause = 60 * 24 * time.Hour

// planExpiry says in the log which files are old enough to go.
func (w *writer) planExpiry(e Entry, now time.Time) error {
	if w.log.o.Keep.IsZero() {
		return nil
	}
	all, err := archives(w.log.o.Path)
	if err != nil {
		return err
	}
	for _, a := range all {
		if !a.month.AddDate(0, 1, 0).Before(w.log.o.Keep.Before(now)) {
			break
		}
		last, err := w.lastOf(a.path)
		if err != nil {
			return err
		}
		params := map[string]string{"last_seq": strconv.FormatInt(last.Seq, 10), "last_hash": last.Hash}
		if err := w.note(e, ActionExpire, filepath.Base(a.path), params); err != nil {
			return err
		}
		w.old = append(w.old, a)
	}
	return nil
}

// lastOf reads the last record of a file.
func (w *writer) lastOf(path string) (Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return Record{}, fmt.Errorf("open the audit log: %w", err)
	}
	_, tail, _, err := ends(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return Record{}, fmt.Errorf("read the audit log: %w", err)
	}
	r, _, err := lastRecord(tail, w.key)
	if err != nil {
		return Record{}, damagedEnd(path, "its last line", err)
	}
	return r, nil
}

// expire deletes the files that the log says are old enough. A file that can't be deleted
// stays part of the log.
func (w *writer) expire() error {
	for _, a := range w.old {
		if err := os.Remove(a.path); err != nil {
			return pgmedic.Errorf(pgmedic.KindDegraded, "", "the record is written; delete an old file of the audit log: %w", err)
		}
	}
	return nil
}
