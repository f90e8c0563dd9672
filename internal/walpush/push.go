// Package walpush stores one file of WAL that PostgreSQL hands over, as its archive_command:
// a segment, the part of one with which a timeline ended, a history, or the note of a base
// backup.
package walpush

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// MaxSegmentSize is what a segment may have that is pushed: it is held in memory.
const MaxSegmentSize wal.SegmentSize = 64 << 20

// maxNote is what the note of a base backup may have: PostgreSQL writes some 400 bytes, and
// a label of up to 1 KiB.
const maxNote = 64 << 10

// Options say what is stored where. Required: Store, Path, Seal, Now, Logger.
type Options struct {
	Store store.Store
	// Server is the name that WAL is filed under. Empty is the system identifier.
	Server string
	// Path is the file, in pg_wal of a data directory.
	Path string
	// System is the system identifier. Zero is that of the data directory.
	System uint64
	// Seal says how objects are sealed, and Wraps the ways to open them.
	Seal  seal.Options
	Wraps []seal.Wrap
	// Signer returns the key that signs the epoch that a push begins, if it begins one, or
	// nil. Nil signs none.
	Signer func(ctx context.Context) (*signature.Key, error)
	// State is the folder in which it is remembered which epoch a push began, and its public
	// key, for the next one. Empty remembers nothing: then each push begins an epoch.
	State         string
	Host, Version string
	Now           func() time.Time
	Logger        *slog.Logger
}

// The names of the files that PostgreSQL archives beside segments and histories.
var (
	partialName = regexp.MustCompile(`^([0-9A-F]{24})\.partial$`)
	noteName    = regexp.MustCompile(`^([0-9A-F]{24})\.[0-9A-F]{8}\.backup$`)
	segmentName = regexp.MustCompile(`^[0-9A-F]{24}$`)
)

// pusher is one Push.
type pusher struct {
	Options
	name    string
	system  uint64
	archive *archive.Archive
}

// Push stores a file. It returns nil only when it is stored; that it was is not an error.
// Different bytes under the name of a segment that is stored are stored, too, and are an
// error of KindConflict. A file that is not WAL, or that of another cluster or place, is an
// error of KindUsage or KindIntegrity, and nothing is stored.
func Push(ctx context.Context, o Options) error {
	p := &pusher{Options: o, name: filepath.Base(o.Path)}
	timeline, historyErr := wal.ParseHistoryName(p.name)
	if err := p.identify(); err != nil {
		return err
	}
	server := o.Server
	if server == "" {
		server = strconv.FormatUint(p.system, 10)
	}
	p.archive = archive.New(o.Store, server, p.system)
	switch {
	case historyErr == nil:
		return p.history(ctx, timeline)
	case segmentName.MatchString(p.name):
		return p.segment(ctx)
	case partialName.MatchString(p.name):
		return p.partial(ctx)
	case noteName.MatchString(p.name):
		return p.note(ctx)
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "set archive_command = 'pgmedic wal push %p'", "%.80q is not the name of a file of WAL", p.name)
}

// identify finds out which cluster the file is of.
func (p *pusher) identify() error {
	control := filepath.Join(filepath.Dir(filepath.Dir(p.Path)), "global", "pg_control")
	own, err := systemOf(control)
	switch {
	case p.System != 0 && err == nil && own != p.System:
		return pgmedic.Errorf(pgmedic.KindUsage, "leave --system-identifier out, or correct it", "the data directory is of the cluster with the system identifier %d, and not %d", own, p.System)
	case p.System != 0:
		own = p.System
	case err != nil:
		return pgmedic.Errorf(pgmedic.KindUsage, "give the path of a file in pg_wal of a data directory, or name the cluster with --system-identifier",
			"find out which cluster %s is of: %w", p.name, err)
	}
	p.system = own
	return nil
}

// systemOf reads the system identifier out of pg_control, where it comes first. It is in
// the byte order of the server, which is that of this host.
func systemOf(control string) (uint64, error) {
	f, err := os.Open(control)
	if err != nil {
		return 0, err
	}
	var head [8]byte
	_, err = io.ReadFull(f, head[:])
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(head[:]), nil
}

// read reads a segment.
func (p *pusher) read(name string) (plain []byte, s wal.Segment, err error) {
	info, err := os.Stat(p.Path)
	if err != nil {
		return nil, s, err
	}
	size := wal.SegmentSize(max(info.Size(), 0))
	switch {
	case !size.Valid():
		return nil, s, pgmedic.Errorf(pgmedic.KindIntegrity, "", "%s has %d bytes, which no segment has", p.name, info.Size())
	case size > MaxSegmentSize:
		return nil, s, pgmedic.Errorf(pgmedic.KindUsage, "", "segments of more than %d bytes are not stored: %s has %d", MaxSegmentSize, p.name, size)
	}
	if s, err = size.Parse(name); err != nil {
		return nil, s, pgmedic.Errorf(pgmedic.KindUsage, "", "%w", err)
	}
	if plain, err = os.ReadFile(p.Path); err == nil && len(plain) != int(size) {
		err = fmt.Errorf("%s changed while it was read", p.name)
	}
	if err != nil {
		return nil, s, err
	}
	return plain, s, p.foreign(plain, s, size)
}

// foreign refuses what the first page shows to be the WAL of another cluster or position.
// What this version does not know is stored.
func (p *pusher) foreign(plain []byte, s wal.Segment, size wal.SegmentSize) error {
	w, err := wal.NewWalker(wal.WalkerOptions{Start: s.Start, SegmentSize: size, SystemIdentifier: p.system})
	if err != nil {
		return err
	}
	const page = 64 // the longest header, and the beginning of a record
	_, _ = w.Write(plain[:page])
	stop := w.Stopped()
	if stop == nil || stop.Reason == wal.StopUnknown || stop.At > s.Start {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindIntegrity, "", "%s is not stored, because its content is not that of its name: %s", p.name, stop)
}

// walk returns the walker that has read the bytes.
func (p *pusher) walk(plain []byte, s wal.Segment) (*wal.Walker, error) {
	w, err := wal.NewWalker(wal.WalkerOptions{Start: s.Start, SegmentSize: wal.SegmentSize(len(plain)), SystemIdentifier: p.system})
	if err == nil {
		_, _ = w.Write(plain) // which never fails
	}
	return w, err
}

func (p *pusher) segment(ctx context.Context) error {
	plain, s, err := p.read(p.name)
	if err != nil {
		return err
	}
	w, err := p.walk(plain, s)
	if err != nil {
		return err
	}
	if stop := w.Stopped(); stop != nil && stop.Reason != wal.StopEnd {
		p.Logger.Warn("a segment is stored that can't be read to its end", "segment", p.name, "reason", stop.String())
	}
	conflict := func() error {
		return pgmedic.Errorf(pgmedic.KindConflict, "find out which server is the right one, and give the other a name of its own (server)",
			"segment %s is stored with different content: two servers write on timeline %d; both are kept", p.name, s.Timeline)
	}
	found, err := p.archive.Stored(ctx, s, plain, 0)
	switch {
	case err != nil:
		return err
	case found.Same && found.Other:
		return conflict()
	case found.Same:
		return nil
	}
	epoch, err := p.epoch(ctx, wal.SegmentSize(len(plain)), s.Timeline, s.Start)
	if err != nil {
		return err
	}
	if err := epoch.PutSegment(ctx, s, plain); err != nil {
		return err
	}
	// Of two servers that store at the same moment one at least sees the other. What they
	// write is in one of the newest epochs.
	const newest = 8
	again, err := p.archive.Stored(ctx, s, plain, newest)
	if err != nil {
		return err
	}
	if found.Other || again.Other {
		return conflict()
	}
	return nil
}

// partial stores the part of a segment with which a timeline ended: up to its last whole
// record, as a tail, which a recovery uses.
func (p *pusher) partial(ctx context.Context) error {
	plain, s, err := p.read(partialName.FindStringSubmatch(p.name)[1])
	if err != nil {
		return err
	}
	w, err := p.walk(plain, s)
	if err != nil {
		return err
	}
	end := min(int(max(w.End(), s.Start)-s.Start), len(plain))
	if stop := w.Stopped(); stop != nil && stop.Reason == wal.StopUnknown {
		end = len(bytes.TrimRight(plain, "\x00"))
	}
	if end == 0 {
		return nil // the timeline ended before its first record here
	}
	epoch, err := p.epoch(ctx, wal.SegmentSize(len(plain)), s.Timeline, s.Start)
	if err != nil {
		return err
	}
	return epoch.PutTail(ctx, s, 0, plain[:end])
}

func (p *pusher) history(ctx context.Context, t wal.Timeline) error {
	text, err := readSmall(p.Path, wal.MaxHistoryBytes)
	if err != nil {
		return err
	}
	h, err := wal.ParseHistory(t, text)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "", "%s is not stored: %w", p.name, err)
	}
	from := wal.LSN(0)
	if n := len(h.Switches); n > 0 {
		from = h.Switches[n-1].End
	}
	size, err := p.sizeBeside()
	if err != nil {
		return err
	}
	epoch, err := p.epoch(ctx, size, t, size.Start(from))
	if err != nil {
		return err
	}
	if err := epoch.PutHistory(ctx, t, text); err != nil {
		return err
	}
	survey, err := p.archive.Survey(ctx)
	if err != nil {
		return err
	}
	if bad := survey.Contradicts(h); bad != 0 {
		return pgmedic.Errorf(pgmedic.KindConflict, "find out which server is the right one, and give the other a name of its own (server)",
			"the history of timeline %d is stored with different content: two servers were promoted; both are kept", bad)
	}
	return nil
}

// The lines of a base backup's note that say where it began and ended.
var (
	noteStart = regexp.MustCompile(`(?m)^START WAL LOCATION: ([0-9A-F]{1,8}/[0-9A-F]{1,8}) `)
	noteStop  = regexp.MustCompile(`(?m)^STOP WAL LOCATION: ([0-9A-F]{1,8}/[0-9A-F]{1,8}) `)
)

// note stores that a base backup was taken, and from where to where. Its label is not
// stored: anything may stand in it.
func (p *pusher) note(ctx context.Context) error {
	text, err := readSmall(p.Path, maxNote)
	if err != nil {
		return err
	}
	start, stop := noteStart.FindSubmatch(text), noteStop.FindSubmatch(text)
	bad := pgmedic.Errorf(pgmedic.KindIntegrity, "", "%s is not stored: it does not say where a base backup began and ended", p.name)
	if start == nil || stop == nil {
		return bad
	}
	b := wal.Base{}
	if b.Start, err = wal.ParseLSN(string(start[1])); err != nil {
		return bad
	}
	if b.Stop, err = wal.ParseLSN(string(stop[1])); err != nil || b.Stop <= b.Start {
		return bad
	}
	size, err := p.sizeBeside()
	if err != nil {
		return err
	}
	s, err := size.Parse(noteName.FindStringSubmatch(p.name)[1])
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "", "%w", err)
	}
	b.Timeline = s.Timeline
	epoch, err := p.epoch(ctx, size, s.Timeline, s.Start)
	if err != nil {
		return err
	}
	return epoch.PutBase(ctx, b)
}

// sizeBeside is the size of the segments beside a file that is none.
func (p *pusher) sizeBeside() (wal.SegmentSize, error) {
	entries, err := os.ReadDir(filepath.Dir(p.Path))
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if !segmentName.MatchString(strings.TrimSuffix(e.Name(), ".partial")) {
			continue
		}
		if info, err := e.Info(); err == nil && wal.SegmentSize(max(info.Size(), 0)).Valid() {
			return wal.SegmentSize(info.Size()), nil
		}
	}
	return 0, pgmedic.Errorf(pgmedic.KindUsage, "give the path of the file in pg_wal of the data directory", "there is no segment beside %s that says how large segments are", p.name)
}

func readSmall(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err = errors.Join(err, f.Close()); err == nil && int64(len(text)) > most {
		err = pgmedic.Errorf(pgmedic.KindIntegrity, "", "%s has more than %d bytes", filepath.Base(path), most)
	}
	return text, err
}
