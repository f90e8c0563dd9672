package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// maxTablespaceRecord is what a record of a new tablespace may have: a header, the OID,
// and a path, of which PostgreSQL takes less than MAXPGPATH (1,024) bytes.
const maxTablespaceRecord = maxPrefix

// Relocation is a change of the place of one new tablespace.
type Relocation struct {
	At       LSN
	OID      uint32
	From, To string
}

// Relocator changes where the tablespaces lie that WAL creates. PostgreSQL takes the path
// out of the record, also where it belongs to the live server on the same machine.
//
// A record keeps its length, so that no position changes: a new path may not be longer
// than the old one. Its checksum is made again.
type Relocator struct {
	SegmentSize SegmentSize
	// SystemIdentifier is that of the cluster. Zero accepts any.
	SystemIdentifier uint64
	// Place returns the path for a tablespace that WAL creates at a path. An error of
	// it ends the work. Empty paths, of tablespaces that lie in the data folder, are not
	// asked for.
	Place func(path string) (string, error)
	// Before and After return the segments around one, unchanged, and nil for one
	// that is not there. They are called only where a record lies in both.
	Before, After func() ([]byte, error)
}

// Relocate changes the records of new tablespaces in a segment, the part of those
// included that begin or end in another segment. It returns what it changed. After an
// error the segment must not be used.
func (r Relocator) Relocate(start LSN, plain []byte) (changed []Relocation, err error) {
	if len(plain) != int(r.SegmentSize) {
		return nil, fmt.Errorf("relocate tablespaces in WAL: %d bytes are not a segment", len(plain))
	}
	w, found, err := r.walker(start)
	if err != nil {
		return nil, err
	}
	_, _ = w.Write(plain) // which never fails
	if stop := w.Stopped(); stop != nil && stop.Reason == StopUnknown {
		return nil, fmt.Errorf("relocate tablespaces: %s", stop)
	}
	if err := r.finish(w); err != nil {
		return nil, err
	}
	all := *found
	first, err := r.begun(start, plain)
	if err != nil {
		return nil, err
	}
	all = append(first, all...)
	for _, record := range all {
		if record.at >= start+LSN(r.SegmentSize) {
			continue
		}
		change, err := r.change(start, plain, record)
		if err != nil {
			return nil, err
		}
		if change.From != change.To {
			changed = append(changed, change)
		}
	}
	if len(changed) == 0 {
		return nil, nil
	}
	return changed, r.check(w, start, plain)
}

// created is a whole record of a new tablespace.
type created struct {
	at    LSN
	bytes []byte
}

// walker returns one that notes the records of new tablespaces.
func (r Relocator) walker(start LSN) (*Walker, *[]created, error) {
	found := new([]created)
	var w *Walker
	w, err := NewWalker(WalkerOptions{Start: start, SegmentSize: r.SegmentSize, SystemIdentifier: r.SystemIdentifier, Record: func(record *Record) {
		if record.Resource == resourceTablespace && record.Info&0xf0 == 0 {
			*found = append(*found, created{record.Start, append(bytes.Clone(w.record[:]), w.prefix...)})
		}
	}})
	return w, found, err
}

// unfinished reports whether the walker is within a record that may be of a tablespace.
func (w *Walker) unfinished() bool {
	return w.stop == nil && w.within && w.got > 0 &&
		(w.got < 18 || w.record[17] == resourceTablespace) && w.total <= maxTablespaceRecord
}

// finish lets the walker read to the end of the record within which the segment ends. A
// record whose rest is not there is not replayed.
func (r Relocator) finish(w *Walker) error {
	if !w.unfinished() || r.After == nil {
		return nil
	}
	next, err := r.After()
	if err != nil {
		return fmt.Errorf("read the rest of a record of WAL: %w", err)
	}
	limit := w.pos + LSN(r.SegmentSize)
	for len(next) > 0 && w.unfinished() && w.pos < limit {
		n := min(len(next), PageSize)
		_, _ = w.Write(next[:n]) // which never fails
		next = next[n:]
	}
	return nil
}

// begun returns the record with whose rest the segment begins, if that is of a new
// tablespace.
func (r Relocator) begun(start LSN, plain []byte) ([]created, error) {
	rest := binary.LittleEndian.Uint32(plain[16:])
	if continues := binary.LittleEndian.Uint16(plain[2:])&pageContinues != 0; !continues || rest > maxTablespaceRecord || r.Before == nil || start < LSN(r.SegmentSize) {
		return nil, nil
	}
	before, err := r.Before()
	if err != nil {
		return nil, fmt.Errorf("read the beginning of a record of WAL: %w", err)
	}
	if before == nil {
		return nil, nil
	}
	w, found, err := r.walker(start - LSN(r.SegmentSize))
	if err != nil {
		return nil, err
	}
	_, _ = w.Write(before) // which never fails
	if !w.unfinished() {
		return nil, nil
	}
	*found = nil
	_, _ = w.Write(plain[:2*PageSize]) // more than the longest rest
	all := *found
	if len(all) > 0 && all[0].at < start {
		return all[:1], nil
	}
	return nil, nil
}

// change puts a record with its new path into the segment.
func (r Relocator) change(start LSN, plain []byte, record created) (c Relocation, err error) {
	b := record.bytes
	if int64(len(b)) != int64(binary.LittleEndian.Uint32(b)) {
		return c, fmt.Errorf("the record of a new tablespace at %v has %d bytes, more than any has", record.at, binary.LittleEndian.Uint32(b))
	}
	data := ownData(b[recordHeader:], len(b)-recordHeader)
	if len(data) < 5 || data[len(data)-1] != 0 {
		return c, fmt.Errorf("the record of a new tablespace at %v can't be read", record.at)
	}
	path := data[4:]
	length := bytes.IndexByte(path, 0)
	c = Relocation{At: record.at, OID: binary.LittleEndian.Uint32(data), From: string(path[:length])}
	if c.To = c.From; c.From == "" {
		return c, nil
	}
	if c.To, err = r.Place(c.From); err != nil || c.To == c.From {
		return c, err
	}
	if len(c.To) > length {
		return c, &LongPathError{c.From, c.To}
	}
	clear(path)
	copy(path, c.To)
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(b[20:], crc32.Update(crc32.Update(0, table, b[recordHeader:]), table, b[:20]))
	at := record.at
	for _, value := range b {
		if at%PageSize == 0 { // the page's header comes first
			if at += shortHeader; r.SegmentSize.Start(at) == at-shortHeader {
				at += longHeader - shortHeader
			}
		}
		if at >= start && at < start+LSN(r.SegmentSize) {
			plain[at-start] = value
		}
		at++
	}
	return c, nil
}

// LongPathError is that a new path does not fit where the old one is.
type LongPathError struct{ From, To string }

// Error implements error.
func (e *LongPathError) Error() string {
	return fmt.Sprintf("the tablespace at %q can't be moved to %q: WAL creates it, and its record has room for %d bytes", e.From, e.To, len(e.From))
}

var errRelocated = errors.New("the WAL with relocated tablespaces is not valid")

// check reads the changed segment again: it must be as far valid as it was.
func (r Relocator) check(was *Walker, start LSN, plain []byte) error {
	w, err := NewWalker(WalkerOptions{Start: start, SegmentSize: r.SegmentSize, SystemIdentifier: r.SystemIdentifier})
	if err != nil {
		return err
	}
	_, _ = w.Write(plain) // which never fails
	switch stop := w.Stopped(); {
	case stop == nil:
		return nil
	case was.Stopped() == nil || *was.Stopped() != *stop:
		return fmt.Errorf("%w: %s", errRelocated, stop)
	}
	return nil
}
