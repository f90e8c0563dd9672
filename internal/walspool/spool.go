package walspool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Spool is the WAL of one cluster. Append and Flush are for one goroutine; the other
// methods may be called at the same time.
type Spool struct {
	cluster Cluster
	o       Options
	dir     string
	lock    *os.File

	mu    sync.Mutex
	lines map[wal.Timeline]*line
	// bytes are those of all files, and damaged the files that can't be read.
	bytes   int64
	damaged []string

	// What Append writes: to the last file of a timeline, up to written, of which the
	// first bytes are flushed. Made is true where its name is not flushed yet.
	out      *os.File
	timeline wal.Timeline
	written  wal.LSN
	length   int64
	flushed  int64
	made     bool
	broken   error
	buffer   []byte
}

// line is the WAL of a timeline, without a gap.
type line struct {
	files []file
	// begin is the start of the first file; end is up to where WAL is flushed, and stored
	// up to where it is known to be stored, from begin on.
	begin, end, stored wal.LSN
}

// file is one segment.
type file struct {
	start wal.LSN
	bytes int64
}

// Range is what a spool has of a timeline.
type Range struct {
	// Span is what is flushed, from the start of a segment on.
	wal.Span
	// Stored is up to where it is known to be stored.
	Stored wal.LSN
}

// Pending reports whether there is WAL that is not known to be stored.
func (r Range) Pending() bool { return r.To > r.Stored }

// Cluster is whose WAL it is.
func (s *Spool) Cluster() Cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cluster
}

// Damaged returns an error with ErrDamaged where files could not be read, in this run or
// an earlier one, and nil otherwise.
func (s *Spool) Damaged() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.damaged) == 0 {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindIntegrity, "once the server's WAL is stored beyond these segments (`pgmedic wal status`), or the server is gone for ever, remove the files",
		"%w: %s has %s that can't be read, the first %s", ErrDamaged, s.dir, words.Plural(len(s.damaged), "file"), s.damaged[0])
}

// path is where a segment's file is. The lock is held, or nothing else has the spool yet.
func (s *Spool) path(of wal.Segment) string { return pathOf(s.dir, s.cluster.SegmentSize(), of) }

func pathOf(dir string, size wal.SegmentSize, of wal.Segment) string {
	return filepath.Join(dir, size.Name(of)+suffix)
}

// Ranges returns what there is, by timeline.
func (s *Spool) Ranges() (all []Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, l := range s.lines {
		all = append(all, Range{wal.Span{Timeline: t, From: l.begin, To: l.end}, l.stored})
	}
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.Timeline, b.Timeline) })
	return all
}

// Range returns what there is of a timeline; it is false where that is nothing.
func (s *Spool) Range(t wal.Timeline) (Range, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[t]
	if l == nil {
		return Range{}, false
	}
	return Range{wal.Span{Timeline: t, From: l.begin, To: l.end}, l.stored}, true
}

// Pending reports whether any WAL is not known to be stored.
func (s *Spool) Pending() bool { return slices.ContainsFunc(s.Ranges(), Range.Pending) }

// Stored takes account of WAL that is stored. Files of which nothing is left to store are
// removed; the last one of a timeline is kept until it is full.
func (s *Spool) Stored(t wal.Timeline, from, to wal.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[t]
	if l == nil || from > l.stored || to <= l.stored {
		return
	}
	l.stored = min(to, l.end)
	size := wal.LSN(s.cluster.SegmentBytes)
	for len(l.files) > 0 && l.files[0].start+size <= l.stored {
		if !s.remove(t, l.files[0]) {
			return
		}
		l.files = l.files[1:]
		l.begin += size
	}
}

// remove removes a file, or says that it can't. After a crash no file is back whose
// successor is gone, which would look as if WAL were missing.
func (s *Spool) remove(t wal.Timeline, f file) bool {
	err := os.Remove(s.path(wal.Segment{Timeline: t, Start: f.start}))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, durable.Folder(s.dir)); err != nil {
		s.o.Logger.Warn("a file of the spool could not be removed", "error", err)
		return false
	}
	s.bytes -= f.bytes
	return true
}

// Begin begins a timeline at the start of a segment, in the place of what there was of it,
// all of which has to be stored.
func (s *Spool) Begin(t wal.Timeline, at wal.LSN) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at != s.cluster.SegmentSize().Start(at) {
		return fmt.Errorf("begin the spool at %v: not the start of a segment", at)
	}
	s.release()
	if l := s.lines[t]; l != nil {
		if l.end > l.stored {
			return fmt.Errorf("begin the spool at %v: it has WAL that is not stored", at)
		}
		for len(l.files) > 0 {
			if !s.remove(t, l.files[0]) {
				return fmt.Errorf("begin the spool at %v: a file of before can't be removed", at)
			}
			l.files = l.files[1:]
		}
	}
	s.lines[t] = &line{begin: at, end: at, stored: at}
	return nil
}

// Drop forgets a timeline that no more WAL is to come of, all of which is stored.
func (s *Spool) Drop(t wal.Timeline) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[t]
	if l == nil || l.end > l.stored {
		return
	}
	if s.timeline == t {
		s.release()
	}
	for len(l.files) > 0 {
		if !s.remove(t, l.files[0]) {
			return
		}
		l.files = l.files[1:]
	}
	delete(s.lines, t)
}

// Room returns ErrFull where the spool, or its disk, has no room for two more segments.
func (s *Spool) Room() error {
	s.mu.Lock()
	left, segment := s.o.MaxBytes-s.bytes, s.cluster.SegmentBytes
	s.mu.Unlock()
	const hint = "see why the store takes no WAL (`pgmedic wal status`), or give the spool more room"
	if left < 2*segment {
		return pgmedic.Errorf(pgmedic.KindFailed, hint+" (wal.spool_max_mb)", "%w: %s may take %s, and %s is left", ErrFull, s.dir, words.Size(s.o.MaxBytes), words.Size(max(left, 0)))
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(s.dir, &disk); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", s.dir, err)
	}
	if free := uint64(disk.Bavail) * uint64(disk.Bsize); free < 2*uint64(segment) { //nolint:unconvert // the types differ between systems
		return pgmedic.Errorf(pgmedic.KindFailed, hint, "%w: the disk of %s has %s left", ErrFull, s.dir, words.Size(free))
	}
	return nil
}

// Append adds WAL where that of its timeline ends. It is not flushed, and lost where an
// error is returned: Flush has not returned for it.
func (s *Spool) Append(t wal.Timeline, from wal.LSN, data []byte) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	l := s.lines[t]
	if s.out != nil && s.timeline != t {
		if err := s.flush(); err != nil {
			return s.undo(err)
		}
		s.release()
	}
	switch {
	case l == nil, s.out == nil && from != l.end, s.out != nil && from != s.written:
		return fmt.Errorf("add WAL from %v of timeline %d to the spool: it does not end there", from, t)
	}
	defer func() {
		if err != nil {
			err = s.undo(err)
		}
	}()
	size := s.cluster.SegmentSize()
	for len(data) > 0 {
		if s.out == nil {
			if err := s.openOut(wal.Segment{Timeline: t, Start: size.Start(from)}, l); err != nil {
				return err
			}
		}
		n := min(len(data), maxFrame, int(size.Start(from)+wal.LSN(size)-from))
		if s.bytes+frameBytes+int64(n) > s.o.MaxBytes {
			return fmt.Errorf("%w: it may take %s (wal.spool_max_mb)", ErrFull, words.Size(s.o.MaxBytes))
		}
		s.buffer = append(append(s.buffer[:0], frame(from, l.end, data[:n])...), data[:n]...)
		if _, err := s.out.Write(s.buffer); err != nil {
			return err
		}
		s.length += frameBytes + int64(n)
		s.bytes += frameBytes + int64(n)
		from += wal.LSN(n)
		s.written, data = from, data[n:]
		if from == size.Start(from) {
			if err := s.flush(); err != nil {
				return err
			}
			s.release()
		}
	}
	return nil
}

// openOut opens the last file of a line, or makes the next one.
func (s *Spool) openOut(of wal.Segment, l *line) (err error) {
	s.timeline, s.written, s.made = of.Timeline, l.end, false
	if n := len(l.files); n > 0 && l.files[n-1].start == of.Start {
		if s.out, err = os.OpenFile(s.path(of), os.O_WRONLY|os.O_APPEND, 0); err != nil {
			return err
		}
		s.length, s.flushed = l.files[n-1].bytes, l.files[n-1].bytes
		return nil
	}
	if s.out, err = os.OpenFile(s.path(of), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	s.made, s.length, s.flushed = true, 0, 0
	begin := header(s.cluster, of)
	if _, err := s.out.Write(begin); err != nil {
		return err
	}
	s.length = int64(len(begin))
	s.bytes += s.length
	l.files = append(l.files, file{start: of.Start})
	return nil
}

// Flush returns once all that was added would be there after a crash of the host, and up
// to where WAL of the timeline is.
func (s *Spool) Flush(t wal.Timeline) (wal.LSN, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, s.broken
	}
	if err := s.flush(); err != nil {
		return 0, s.undo(err)
	}
	l := s.lines[t]
	if l == nil {
		return 0, fmt.Errorf("flush the spool: it has nothing of timeline %d", t)
	}
	return l.end, nil
}

func (s *Spool) flush() error {
	if s.out == nil || s.flushed == s.length {
		return nil
	}
	if err := s.out.Sync(); err != nil {
		return err
	}
	if s.made {
		if err := durable.Folder(s.dir); err != nil {
			return err
		}
		s.made = false
	}
	l := s.lines[s.timeline]
	l.files[len(l.files)-1].bytes = s.length
	l.end, s.flushed = s.written, s.length
	return nil
}

// release closes the file that is written to.
func (s *Spool) release() {
	if s.out != nil {
		_ = s.out.Close() // what counts is flushed
		s.out = nil
	}
}

// undo takes back what was not flushed: after a flush that failed the same pages can seem
// to be flushed though they are not, so they are written again.
func (s *Spool) undo(why error) error {
	if errors.Is(why, unix.ENOSPC) || errors.Is(why, unix.EDQUOT) {
		why = fmt.Errorf("%w: its disk has no room: %w", ErrFull, why)
	}
	why = pgmedic.Errorf(pgmedic.KindFailed, "see whether the store takes WAL, and whether the spool's disk has room", "write the spool %s: %w", s.dir, why)
	if s.out == nil {
		return why
	}
	var err error
	l := s.lines[s.timeline]
	name := s.out.Name()
	if s.flushed == 0 {
		err = os.Remove(name)
		if n := len(l.files); n > 0 && l.files[n-1].bytes == 0 {
			l.files = l.files[:n-1]
		}
	} else {
		err = s.out.Truncate(s.flushed)
	}
	s.bytes -= s.length - s.flushed
	s.release()
	if err != nil {
		s.broken = errors.Join(why, err)
		return s.broken
	}
	return why
}

// close gives the spool up.
func (s *Spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	s.broken = errors.New("the spool is closed")
	if s.lock != nil {
		_ = s.lock.Close()
		s.lock = nil
	}
}
