package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// VerifyOptions say what of an archive is checked.
type VerifyOptions struct {
	// Open is that of NewFetcher, or nil where this host is to open nothing: then presence
	// and sizes are checked alone.
	Open func(ctx context.Context, epoch string, wraps []StoredWrap) (*seal.Key, error)
	// Deep has each segment, tail and history opened, its hash compared, and its records
	// read. It needs Open.
	Deep bool
	// Bases are the base backups in the store whose WAL must be there.
	Bases []wal.Base
	// Trusted are the signers of epochs that this host believes. With nil no signature is
	// checked.
	Trusted signature.Signers
}

// Verified is what a check of an archive came to.
type Verified struct {
	Objects   int   `json:"objects"`
	SizeBytes int64 `json:"size_bytes"`
	// Opened and OpenedBytes are of what was read.
	Opened      int   `json:"opened"`
	OpenedBytes int64 `json:"opened_bytes"`
	// Indexed is how many segments were compared with the index, and Unindexed says why
	// none was; empty where one was.
	Indexed   int    `json:"indexed"`
	Unindexed string `json:"unindexed,omitempty"`
	// Epochs counts those that could be read, and Signed those that a trusted signer signed.
	Epochs int `json:"epochs"`
	Signed int `json:"epochs_signed"`
	// Problems are sentences about damage: what is missing, and what is not what its name
	// says. At most a hundred; More counts the others.
	Problems []string `json:"problems"`
	More     int      `json:"more_problems,omitempty"`
}

const maxProblems = 100

func (v *Verified) problem(format string, args ...any) {
	if len(v.Problems) >= maxProblems {
		v.More++
		return
	}
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// Verify checks what is stored: that nothing is missing between the first and the last
// WAL but what is recorded to be lost, that base backups have theirs, that objects have a
// size that they can have, that each epoch can be opened, and, if it can be read, that what
// the index has is there. Damage is not an error but a problem; an error is what kept it from
// being found.
func (a *Archive) Verify(ctx context.Context, o VerifyOptions) (*Verified, error) {
	v := &Verified{Problems: []string{}}
	survey, err := a.Survey(ctx)
	if err != nil {
		return nil, err
	}
	v.Objects, v.SizeBytes = survey.Objects, survey.SizeBytes
	for _, odd := range survey.Odd {
		v.problem("%s", odd)
	}
	for _, name := range survey.Split {
		v.problem("segment %s is stored with different content: two servers wrote on one timeline", name)
	}
	for _, g := range survey.Stored.Gaps() {
		if !recorded(g, survey.Gaps) {
			v.problem("WAL of timeline %d from %v to %v is missing, and it is not recorded as lost", g.Timeline, g.From, g.To)
		}
	}
	for _, b := range o.Bases {
		if reach := survey.Reach(b.Timeline, b.Start); reach < b.Stop {
			v.problem("base backup %s needs WAL up to %v of timeline %d, and it is there up to %v", b.ID, b.Stop, b.Timeline, reach)
		}
	}
	if err := a.verifyObjects(ctx, v, survey, o); err != nil {
		return nil, err
	}
	return v, a.verifyIndex(ctx, v, survey, o)
}

// recorded reports whether all of a gap is known to be lost.
func recorded(g wal.Gap, lost []wal.Gap) bool {
	spans := make([]wal.Span, 0, len(lost))
	for _, l := range lost {
		if l.Timeline == g.Timeline {
			spans = append(spans, wal.Span{Timeline: l.Timeline, From: l.From, To: l.To})
		}
	}
	for _, s := range wal.MergeSpans(spans) {
		if s.From <= g.From && g.To <= s.To {
			return true
		}
	}
	return false
}

// verifyObjects checks the objects of all epochs by themselves.
func (a *Archive) verifyObjects(ctx context.Context, v *Verified, survey *Survey, o VerifyOptions) error {
	var f *Fetcher
	var err error
	if o.Deep && len(survey.Epochs) > 0 {
		if f, err = a.NewFetcher(ctx, o.Open); err != nil {
			return err
		}
	}
	for _, info := range survey.Epochs {
		v.Epochs++
		signing, err := a.Signing(ctx, info.ID, o.Trusted)
		switch {
		case err != nil:
			return err
		case signing.State == signature.Trusted:
			v.Signed++
		case signing.State == signature.Invalid:
			v.problem("the signature of epoch %s that names key %s is not one of it: epoch.json, or the signature, was changed", info.ID, signing.Signer)
		}
		keys, encrypted := 0, 0
		for object, err := range a.Objects(ctx, info.ID, survey.SegmentSize) {
			if err != nil {
				return err
			}
			switch object.Kind {
			case KindKey:
				keys++
			case KindSegment, KindTail:
				if object.Encrypted() {
					encrypted++
				}
			case KindHistory, KindIndex, KindEpoch, KindObservation, KindBase, KindGap, KindOther:
			}
			if object.SizeBytes == 0 && object.Kind != KindOther {
				v.problem("%s of epoch %s is empty", object.Name, object.Epoch)
				continue
			}
			if f == nil {
				continue
			}
			err := f.verify(ctx, v, object)
			switch {
			case err == nil:
			case pgmedic.KindOf(err) == pgmedic.KindIntegrity:
				v.problem("%v", err)
			case errors.Is(err, store.ErrNotFound): // it was pruned meanwhile
			default:
				return err
			}
		}
		if encrypted > 0 && keys == 0 {
			v.problem("no key that opens epoch %s is left in the store", info.ID)
		}
	}
	return nil
}

// verify opens an object.
func (f *Fetcher) verify(ctx context.Context, v *Verified, o Object) (err error) {
	at := located{o.parsed, o.Epoch, o.Name, o.SizeBytes}
	switch o.Kind {
	case KindSegment:
		err = f.segmentOf(ctx, o.Segment, at, io.Discard)
	case KindTail:
		var n int64
		want := int64(o.To - o.From)
		if n, err = f.plain(ctx, at, want, io.Discard); err == nil && n != want {
			err = damaged("%s of epoch %s has %d bytes", o.Name, o.Epoch, n)
		}
	case KindHistory:
		_, err = f.a.readHistory(ctx, o.Epoch, o.Timeline)
	case KindKey, KindIndex, KindEpoch, KindObservation, KindBase, KindGap, KindOther:
		return nil // which are read by their names, or by themselves
	}
	if err == nil {
		v.Opened++
		v.OpenedBytes += o.SizeBytes
	}
	return err
}

// verifyIndex compares the listing with what the index says is stored. Of what was deleted
// before the first WAL that is there nothing is said.
func (a *Archive) verifyIndex(ctx context.Context, v *Verified, survey *Survey, o VerifyOptions) error {
	if o.Open == nil {
		v.Unindexed = "the index was not read, because this host has no key"
		return nil
	}
	if len(survey.Epochs) == 0 {
		v.Unindexed = "there is no epoch"
		return nil
	}
	f, err := a.NewFetcher(ctx, o.Open)
	if err != nil {
		return err
	}
	first := map[wal.Timeline]wal.LSN{}
	for _, s := range survey.Spans {
		if l, ok := first[s.Timeline]; !ok || s.From < l {
			first[s.Timeline] = s.From
		}
	}
	index := f.NewIndex(survey)
	for _, info := range survey.Epochs {
		for name, line := range index.all(ctx, info.ID) {
			s, err := survey.SegmentSize.Parse(name)
			if err != nil {
				continue
			}
			at, there := survey.found.segments[s]
			l, known := first[s.Timeline]
			switch {
			case there && !at.split && !strings.HasPrefix(line.SHA256, at.hash.String()):
				v.problem("segment %s is stored with another content than the index of epoch %s has", name, info.ID)
			case there:
				v.Indexed++
			case known && s.Start >= l && !within(survey, s):
				v.problem("segment %s is in the index of epoch %s, and is not stored", name, info.ID)
			}
		}
	}
	for _, problem := range index.Problems {
		v.problem("%s", problem)
	}
	if v.Indexed == 0 {
		v.Unindexed = "no index could be read"
	}
	return nil
}

// within reports whether a segment lies in a gap, which is a problem, or recorded, already.
func within(survey *Survey, s wal.Segment) bool {
	for _, g := range survey.Stored.Gaps() {
		if g.Timeline == s.Timeline && g.From <= s.Start && s.Start < g.To {
			return true
		}
	}
	return false
}
