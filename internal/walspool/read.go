package walspool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// Read passes the WAL of a range on, in order and in pieces, which are valid until each
// returns. All of it must have been flushed. Damage is ErrDamaged.
func (s *Spool) Read(of wal.Span, each func(from wal.LSN, data []byte) error) error {
	c := s.Cluster()
	size := c.SegmentSize()
	for at := of.From; at < of.To; at = size.Start(at) + wal.LSN(size) {
		if err := s.readSegment(c, wal.Segment{Timeline: of.Timeline, Start: size.Start(at)}, at, of.To, each); err != nil {
			return err
		}
	}
	return nil
}

// errEnough ends the reading of a segment.
var errEnough = errors.New("all that was asked for is read")

func (s *Spool) readSegment(c Cluster, segment wal.Segment, from, to wal.LSN, each func(from wal.LSN, data []byte) error) error {
	path := pathOf(s.dir, c.SegmentSize(), segment)
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	defer func() { _ = in.Close() }()
	end, _, err := frames(in, c, segment, func(at wal.LSN, data []byte) error {
		if at >= to {
			return errEnough
		}
		if last := at + wal.LSN(len(data)); last > to {
			data = data[:to-at]
		}
		if at < from {
			if at+wal.LSN(len(data)) <= from {
				return nil
			}
			at, data = from, data[from-at:]
		}
		return each(at, data)
	})
	switch reached := end >= min(to, segment.Start+wal.LSN(c.SegmentBytes)); {
	case errors.Is(err, errEnough), reached && (err == nil || errors.Is(err, errTorn)):
		return nil // what is being written follows
	case err == nil, errors.Is(err, errTorn):
		return damaged("%s can be read up to %v only, and %v was flushed", path, end, to)
	}
	return err
}

// PutHistory keeps the history of a timeline, and returns once it would be there after a
// crash of the host.
func (s *Spool) PutHistory(t wal.Timeline, text []byte) error {
	name := wal.HistoryName(t)
	if there, err := os.ReadFile(filepath.Join(s.dir, name)); err == nil && string(there) == string(text) {
		return nil
	}
	if err := replace(s.dir, name, text); err != nil {
		return fmt.Errorf("keep the history of timeline %d in the spool: %w", t, err)
	}
	return nil
}

// Histories returns the histories that are kept, as the server sent them.
func (s *Spool) Histories() (map[wal.Timeline][]byte, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	texts := map[wal.Timeline][]byte{}
	for _, e := range entries {
		t, err := wal.ParseHistoryName(e.Name())
		if err != nil {
			continue
		}
		if info, err := e.Info(); err != nil || info.Size() > wal.MaxHistoryBytes {
			return nil, damaged("%s is too large, or gone", e.Name())
		}
		text, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the spool: %w", err)
		}
		if _, err := wal.ParseHistory(t, text); err != nil {
			return nil, damaged("%s is not a history", e.Name())
		}
		texts[t] = text
	}
	return texts, nil
}
