package walspool

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// readSpool reads what a crash may have left. Without c it must be there.
func readSpool(o Options, dir string, c *Cluster) (*Spool, error) {
	s := &Spool{o: o, dir: dir, lines: map[wal.Timeline]*line{}}
	var err error
	s.cluster, err = readCluster(dir)
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case missing && c != nil:
		return s, s.describe(*c)
	case err != nil:
		return nil, err
	}
	if err := s.scan(); err != nil {
		return nil, err
	}
	if c == nil {
		return s, nil
	}
	return s, s.adopt(*c)
}

// adopt has the spool take WAL of a cluster, and refuses that where it has WAL that goes
// elsewhere.
func (s *Spool) adopt(c Cluster) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == c {
		return nil
	}
	if s.cluster.Server != c.Server || s.cluster.SegmentBytes != c.SegmentBytes {
		if len(s.lines) > 0 || len(s.damaged) > 0 {
			return pgmedic.Errorf(pgmedic.KindConflict, "store what it has with `pgmedic wal stream --drain` and the name of before (--server), and once that has ended with 0 remove the folder; or give this stream a spool of its own (--spool)",
				"the spool %s has WAL of this cluster that is to be stored under the name %q with segments of %d bytes", s.dir, s.cluster.Server, s.cluster.SegmentBytes)
		}
	}
	return s.describe(c)
}

// describe notes whose WAL it is.
func (s *Spool) describe(c Cluster) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	s.cluster = c
	return replace(s.dir, clusterFile, append(text, '\n'))
}

// scan reads all files. What follows the last whole frame of a timeline's last file was
// never flushed, and is cut off, unless a frame behind it says otherwise.
func (s *Spool) scan() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	segments := map[wal.Timeline][]wal.Segment{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), unreadable) {
			s.damaged = append(s.damaged, e.Name())
		}
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		if segment, err := s.cluster.SegmentSize().Parse(name); err == nil {
			segments[segment.Timeline] = append(segments[segment.Timeline], segment)
		}
	}
	for t, all := range segments {
		slices.SortFunc(all, func(a, b wal.Segment) int { return cmp.Compare(a.Start, b.Start) })
		if err := s.scanLine(t, all); err != nil {
			return err
		}
	}
	return nil
}

// settle cuts a file off and flushes it: a process that was killed before its flush leaves
// what it wrote in memory, where it looks as if it were on the disk.
func settle(path string, length int64) error {
	out, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(out.Truncate(length), out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	return durable.Folder(filepath.Dir(path))
}

// unreadable ends the names of files that are kept and not used.
const unreadable = ".damaged"

func (s *Spool) scanLine(t wal.Timeline, all []wal.Segment) error {
	l := &line{begin: all[0].Start, end: all[0].Start, stored: all[0].Start}
	for i, segment := range all {
		path := s.path(segment)
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		end, length, err := frames(in, s.cluster, segment, func(wal.LSN, []byte) error { return nil })
		size, sizeErr := in.Seek(0, io.SeekEnd)
		flushed, flushedErr := false, error(nil)
		if errors.Is(err, errTorn) {
			flushed, flushedErr = flushedBeyond(in, s.cluster, segment, length, end)
		}
		_ = in.Close()
		if err != nil && !errors.Is(err, errTorn) || sizeErr != nil || flushedErr != nil {
			return fmt.Errorf("read %s: %w", path, errors.Join(err, sizeErr, flushedErr))
		}
		last, whole := i == len(all)-1, end == segment.Start+wal.LSN(s.cluster.SegmentBytes) && err == nil
		switch {
		case segment.Start != l.end:
			return s.setAside(t, l, all[i:])
		case flushed, !last && !whole: // a crash leaves only the last file without an end
			return s.salvage(t, l, all[i:], file{segment.Start, length}, end)
		}
		if err != nil {
			s.o.Logger.Info("the end of the spool was never flushed, nor acknowledged, and is cut off", "file", path, "bytes", size-length)
		}
		if end == segment.Start {
			if err := os.Remove(path); err != nil {
				return err
			}
			break
		}
		if last {
			if err := settle(path, length); err != nil {
				return err
			}
		}
		l.files, l.end = append(l.files, file{segment.Start, length}), end
		s.bytes += length
	}
	if len(l.files) > 0 {
		s.lines[t] = l
	}
	return nil
}

// salvage goes on with the beginning of a file that is damaged further on, up to end, and keeps all
// of it under another name, with the files behind it.
func (s *Spool) salvage(t wal.Timeline, l *line, all []wal.Segment, begin file, end wal.LSN) error {
	path := s.path(all[0])
	if end == begin.start {
		return s.setAside(t, l, all)
	}
	kept, err := keep(path, func(to string) error { return copyFile(path, to) })
	if err != nil {
		s.o.Logger.Warn("the beginning of a damaged file of the spool is not used", "file", path, "error", err)
		return s.setAside(t, l, all)
	}
	if err := settle(path, begin.bytes); err != nil {
		return err
	}
	s.damaged = append(s.damaged, kept)
	l.files, l.end = append(l.files, begin), end
	s.bytes += begin.bytes
	return s.setAside(t, l, all[1:])
}

// keep has put put a damaged file under another name, which it returns. Where an earlier
// damage of the same segment has the name, the next one has a number: the earlier file may be
// the only copy of WAL that was acknowledged. Put must not replace a file, and returns an
// error with fs.ErrExist where there is one.
func keep(path string, put func(to string) error) (name string, err error) {
	to := path + unreadable
	for n := 2; ; n++ {
		if err := put(to); !errors.Is(err, fs.ErrExist) {
			return filepath.Base(to), err
		}
		to = path + "." + strconv.Itoa(n) + unreadable
	}
}

// move gives a file another name, unless a file has that.
func move(from, to string) error {
	// The lock of the spool keeps other processes from taking the name in between.
	switch _, err := os.Lstat(to); {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.Rename(from, to)
}

// copyFile returns once the copy would be there after a crash of the host. It replaces no
// file, and leaves none if it fails.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close(), durable.Folder(filepath.Dir(to))); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// setAside keeps files that can't be used, under other names: what is before them can be.
func (s *Spool) setAside(t wal.Timeline, l *line, all []wal.Segment) error {
	s.o.Logger.Error("the spool is damaged: acknowledged WAL may be missing from here on; the files are kept",
		"folder", s.dir, "timeline", t, "position", l.end, "files", len(all))
	for _, segment := range all {
		kept, err := keep(s.path(segment), func(to string) error { return move(s.path(segment), to) })
		if err != nil {
			return err
		}
		s.damaged = append(s.damaged, kept)
	}
	if len(l.files) > 0 {
		s.lines[t] = l
	}
	return durable.Folder(s.dir)
}

// SetAside keeps the files of a timeline under other names, and uses them no more: Read has
// found them to be damaged, and the WAL comes from the server again.
func (s *Spool) SetAside(t wal.Timeline) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[t]
	if l == nil {
		return nil
	}
	if s.timeline == t {
		s.release()
	}
	var all []wal.Segment
	for _, f := range l.files {
		all = append(all, wal.Segment{Timeline: t, Start: f.start})
		s.bytes -= f.bytes
	}
	delete(s.lines, t)
	return s.setAside(t, &line{end: l.begin}, all)
}
