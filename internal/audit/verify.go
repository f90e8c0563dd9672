package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
)

// FoundAnchor is an anchor that was found somewhere.
type FoundAnchor struct {
	pgmedic.AuditAnchor
	// Where names the place for people.
	Where string
}

// StoredName is what the name of a stored anchor says: in which store it is, of which
// log, and of which record.
type StoredName struct {
	Place, Log string
	Seq        int64
}

// VerifyOptions say what a log is compared with.
type VerifyOptions struct {
	// Anchors are those that were read. Stored are the names of all stored ones in Stores,
	// so that one that the log has and Stored has not is lost.
	Anchors []FoundAnchor
	Stored  []StoredName
	Stores  []string
	// ReadAt is when reading Stored began: an anchor that the log has since then may be
	// stored and not among them. Zero is now.
	ReadAt time.Time
	// Each gets every record before the first problem, in order. Nil is allowed.
	Each func(Record) error
}

// Problem is something that shows that a log was changed or cut.
type Problem struct {
	// File and Line are where it was found; they are empty where it is about an anchor.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	What string `json:"what"`
}

// String is one line for people.
func (p Problem) String() string {
	if p.File == "" {
		return p.What
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ": " + p.What
}

// Report is what Verify found.
type Report struct {
	File  string `json:"file"`
	Log   string `json:"log"`
	KeyID string `json:"key_id"`
	Files int    `json:"files"`
	// Records counts those that are proven: intact, in order and written with the key.
	Records  int64     `json:"records"`
	FirstSeq int64     `json:"first_seq"`
	LastSeq  int64     `json:"last_seq"`
	FirstAt  time.Time `json:"first_at"`
	LastAt   time.Time `json:"last_at"`
	// Unchecked counts the lines after the first problem, which are not proven.
	Unchecked int64     `json:"unchecked_lines"`
	Problems  []Problem `json:"problems"`
	// Torn counts lines that a writer did not finish and a later one closed; TornEnd is
	// true where the last line is such and no writer came yet.
	Torn    int  `json:"torn_lines"`
	TornEnd bool `json:"torn_end"`
	// AnchoredSeq is the newest record that an anchor confirms, AnchoredAt when it was
	// anchored, AnchoredIn where; zero if none does. Later records rest on the file alone.
	AnchoredSeq int64     `json:"anchored_seq"`
	AnchoredAt  time.Time `json:"anchored_at,omitzero"`
	AnchoredIn  string    `json:"anchored_in,omitempty"`
	// Anchors counts those that confirm the log, Older those of records that are
	// expired, Others those of other logs.
	Anchors int `json:"anchors"`
	Older   int `json:"older_anchors"`
	Others  int `json:"other_logs_anchors"`
	// Lost are the stored anchors that are gone, each of which is a problem as well.
	// Accepted says of others that somebody accepted that.
	Lost     []LostAnchor `json:"lost_anchors,omitempty"`
	Accepted []Acceptance `json:"accepted,omitempty"`
	// Unfinished are intents without an outcome: the process was killed, or still runs.
	Unfinished []Record `json:"unfinished"`
}

// Intact reports whether no problem was found.
func (r *Report) Intact() bool { return len(r.Problems) == 0 }

func (r *Report) problem(file string, line int, format string, args ...any) {
	if file != "" {
		file = filepath.Base(file)
	}
	r.Problems = append(r.Problems, Problem{File: file, Line: line, What: fmt.Sprintf(format, args...)})
}

// sized is an open file as long as it was when it was opened.
type sized struct {
	name string
	file *os.File
	size int64
}

func openSized(name string) (sized, error) {
	f, err := os.Open(name)
	if err != nil {
		return sized{}, pgmedic.Errorf(pgmedic.KindUnreachable, "run it as the user whose log that is", "open the audit log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return sized{}, errors.Join(fmt.Errorf("open the audit log: %w", err), f.Close())
	}
	return sized{name: name, file: f, size: info.Size()}, nil
}

func (s sized) reader() io.Reader { return io.NewSectionReader(s.file, 0, s.size) }
func (s sized) close()            { _ = s.file.Close() } // only read

// open opens the log's files at one moment between two writers. A log that lies where
// nothing can be written, such as a copy, has no writers.
func (l *Log) open(ctx context.Context) (all []sized, err error) {
	if names, err := fileNames(l.o.Path); err != nil || len(names) == 0 {
		return nil, err
	}
	unlock, err := lock(ctx, l.o.Path+".lock")
	switch {
	case err == nil:
		defer unlock()
	case !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS):
		return nil, err
	}
	names, err := fileNames(l.o.Path)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f, err := openSized(name)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func closeAll(all []sized) {
	for _, f := range all {
		f.close()
	}
}

// Verify recomputes the whole log and compares it with anchors. What it finds is in the
// report; an error means that it could not be checked. A log that does not exist is an
// error of KindNotFound, unless an anchor shows that there was one.
func (l *Log) Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	files, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	defer closeAll(files)
	r := &Report{File: l.o.Path, Files: len(files), Problems: []Problem{}, Unfinished: []Record{}}
	if len(files) == 0 {
		for _, a := range o.Anchors {
			if l.isOfFile(a) {
				r.problem("", 0, "the audit log is gone: %s has an anchor of its record %d, of %s", a.Where, a.Seq, timeText(a.At))
			}
		}
		if r.Intact() {
			return nil, pgmedic.Errorf(pgmedic.KindNotFound, "the first command that changes something begins it; `pgmedic config` shows audit.file",
				"there is no audit log at %s", l.o.Path)
		}
		return r, nil
	}
	key, err := ReadKey(l.o.KeyPath)
	if err != nil {
		return nil, err
	}
	r.KeyID = key.ID()
	w := &walk{report: r, key: key, each: o.Each, hashes: map[int64]string{}, open: map[string][]Record{}}
	for _, a := range o.Anchors {
		w.hashes[a.Seq] = ""
	}
	for i, f := range files {
		if err := w.file(ctx, f, i == len(files)-1); err != nil {
			return nil, err
		}
	}
	w.end()
	l.compare(w, o)
	return r, nil
}

// timeText is how times are written in problems.
func timeText(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05Z") }

// isOfFile reports whether an anchor is of a log in this file of this host.
func (l *Log) isOfFile(a FoundAnchor) bool {
	return a.File == l.file() && a.Host == clean(l.o.Host)
}

// walk reads a log from its first line to its last.
type walk struct {
	report *Report
	key    Key
	each   func(Record) error
	// last is the last record that is proven; stopped is true after the first problem.
	last    Record
	stopped bool
	// bad are lines that are a problem unless the next one says that they are torn.
	bad badLines
	// firstPrev is what the first record follows; expired says what is known of files
	// that were deleted, by the last record in them.
	firstPrev string
	expired   map[int64]string
	// hashes are those of the records that anchors name; open are intents, by run.
	hashes map[int64]string
	open   map[string][]Record
	// stored are the anchors that the log says were stored, accepted those records that
	// accept that some are gone.
	stored, accepted []Record
}

// badLines are lines of one file, one after another, that are not records.
type badLines struct {
	file        string
	line, count int
	err         error // of the first
	sum         hash.Hash
	// unfinished is true where each is no more than the beginning of a record.
	unfinished bool
}

func (b *badLines) add(text []byte) {
	if b.count++; b.count == 1 {
		b.sum, b.unfinished = sha256.New(), true
	} else {
		_, _ = b.sum.Write([]byte("\n")) // never fails
	}
	_, _ = b.sum.Write(text)
	b.unfinished = b.unfinished && unfinished(text)
}

// torn reports whether a record says that these lines are torn.
func (b *badLines) torn(rec Record) bool {
	return rec.Action == ActionTorn && rec.Params["sha256"] == hex.EncodeToString(b.sum.Sum(nil))
}

func (w *walk) file(ctx context.Context, f sized, last bool) error {
	lines := 0
	err := eachLine(f.reader(), func(n int, text []byte, ended bool) error {
		lines++
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if w.stopped {
			w.report.Unchecked++
			return nil
		}
		return w.line(f.name, n, text, ended, last)
	})
	switch {
	case errors.Is(err, errLongLine):
		w.stop(f.name, lines+1, "a line %s", errLongLine)
		w.report.Unchecked++ // at least
		return nil
	case err != nil:
		return err
	case lines == 0 && !w.stopped:
		w.stop(f.name, 1, "the file is empty: its records were removed")
	}
	return nil
}

// stop notes the first problem, after which no record is proven.
func (w *walk) stop(file string, line int, format string, args ...any) {
	if w.stopped {
		return
	}
	w.stopped = true
	w.report.problem(file, line, format, args...)
	w.report.Unchecked++
}

// stopBad notes that the bad lines are not torn ones.
func (w *walk) stopBad() {
	w.stop(w.bad.file, w.bad.line, "the line %s", w.bad.err)
	w.report.Unchecked += int64(w.bad.count - 1)
}

func (w *walk) line(file string, n int, text []byte, ended, lastFile bool) error {
	rec, err := parse(text, w.key)
	if w.bad.err != nil { // this line has to say that the one before it is torn
		switch {
		case err == nil && w.follows(rec, n) && w.bad.torn(rec):
			w.report.Torn += w.bad.count
			w.bad = badLines{}
			return w.accept(rec)
		case err != nil && file == w.bad.file: // another writer was killed
			w.bad.add(text)
			if !ended && lastFile && w.bad.unfinished {
				w.report.TornEnd, w.bad = true, badLines{}
			}
			return nil
		}
		w.stopBad()
		w.report.Unchecked++ // this line
		return nil
	}
	if err == nil && !ended && !lastFile {
		err = errors.New("has no end, in a file that is complete")
	}
	switch {
	case err != nil && !ended && lastFile && n > 1:
		w.report.TornEnd = true
		return nil
	case err != nil && n == 1 && errors.Is(err, errMAC) && rec.Params["key"] != w.key.ID():
		w.stop(file, n, "the log was written with another key: its id is %.16s, and that of this key is %s", rec.Params["key"], w.key.ID())
	case err != nil && n > 1 && ended:
		w.bad = badLines{file: file, line: n, err: err}
		w.bad.add(text)
	case err != nil:
		w.stop(file, n, "the line %s", err)
	case n == 1 && (rec.Action != ActionOpen || w.report.Log != "" && rec.Params["log"] != w.report.Log):
		w.stop(file, n, "the file does not begin as one of this log")
	case !w.follows(rec, n):
		w.stop(file, n, "%s", w.gap(rec))
	default:
		return w.accept(rec)
	}
	return nil
}

// follows reports whether a record may come next. The first one of all may have any
// number: end checks what is known of those before it.
func (w *walk) follows(rec Record, n int) bool {
	if w.report.Records == 0 && n == 1 {
		return rec.Seq > 1 || rec.Seq == 1 && rec.Prev == zeroHash()
	}
	return follows(rec, w.last)
}

// gap says why a record does not come next.
func (w *walk) gap(rec Record) string {
	switch missing := rec.Seq - w.last.Seq - 1; {
	case w.report.Records == 0:
		return "the first record does not begin a log"
	case missing == 1:
		return fmt.Sprintf("record %d is missing before it", rec.Seq-1)
	case missing > 1:
		return fmt.Sprintf("records %d to %d are missing before it", w.last.Seq+1, rec.Seq-1)
	case missing < 0:
		return fmt.Sprintf("record %d stands after record %d: records were inserted or moved", rec.Seq, w.last.Seq)
	}
	return fmt.Sprintf("record %d does not follow the record %d that is before it", rec.Seq, w.last.Seq)
}

// accept takes a record that is proven.
func (w *walk) accept(rec Record) error {
	r := w.report
	if r.Records == 0 {
		r.Log, r.FirstSeq, r.FirstAt, w.firstPrev = rec.Params["log"], rec.Seq, rec.At, rec.Prev
	}
	r.Records++
	r.LastSeq, r.LastAt, w.last = rec.Seq, rec.At, rec
	if _, anchored := w.hashes[rec.Seq]; anchored {
		w.hashes[rec.Seq] = rec.Hash
	}
	switch {
	case rec.Action == ActionExpire:
		if seq, err := strconv.ParseInt(rec.Params["last_seq"], 10, 64); err == nil {
			if w.expired == nil {
				w.expired = map[int64]string{}
			}
			w.expired[seq] = rec.Params["last_hash"]
		}
	case rec.Action == ActionAnchor && rec.Outcome == OutcomeDone:
		w.stored = append(w.stored, rec)
	case rec.Action == ActionAccept:
		w.accepted = append(w.accepted, rec)
	case rec.Outcome == OutcomeIntended:
		w.open[rec.Run] = append(w.open[rec.Run], rec)
	case rec.Exit != nil:
		delete(w.open, rec.Run)
	}
	if w.each != nil {
		return w.each(rec)
	}
	return nil
}

// end checks what is known only at the end.
func (w *walk) end() {
	r := w.report
	if w.bad.err != nil {
		w.stopBad()
	}
	if r.FirstSeq > 1 && w.expired[r.FirstSeq-1] != w.firstPrev {
		r.problem("", 0, "records 1 to %d are missing, and the log does not say that they expired", r.FirstSeq-1)
	}
	for _, intents := range w.open {
		r.Unfinished = append(r.Unfinished, intents...)
	}
	sortBySeq(r.Unfinished)
}
