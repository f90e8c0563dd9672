package wal_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestPlanTargetBroken: WAL that can't be used from a position on ends what a plan
// promises: damage, wal_level=minimal, and WAL of a version that is not known here.
func TestPlanTargetBroken(t *testing.T) {
	at := func(n int64) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	stamp := func(n int64) int64 { return wal.ServerMicroseconds(at(n)) }
	b := newBuilder(seg)
	first := b.record(10, 0, 1, make([]byte, 40))
	var commits []wal.LSN
	for n := range int64(4) {
		commits = append(commits, b.commit(0, uint32(n), stamp(n)))
	}
	level := b.pos()
	minimal := binary.LittleEndian.AppendUint32(make([]byte, 20), 0)
	b.record(0, 0x60, 0, append(minimal, 0, 0, 0, 0))
	for n := int64(4); n < 6; n++ {
		commits = append(commits, b.commit(0, uint32(n), stamp(n)))
	}
	end := b.pos()
	for name, tt := range map[string]struct {
		damage func(plain []byte)
		why    string
		cut    wal.LSN
	}{
		"wal_level":         {func([]byte) {}, "wal_level was set to minimal", level},
		"a changed byte":    {func(plain []byte) { plain[commits[3]-seg+20] ^= 1 }, "damaged", commits[3]},
		"an unknown page":   {func(plain []byte) { plain[0] ^= 0xFF }, "not known", seg},
		"another cluster's": {func(plain []byte) { plain[24]++ }, "damaged", seg},
	} {
		plain := append([]byte{}, b.b[:end-seg]...)
		tt.damage(plain)
		in := wal.PlanInputs{Walk: func(segments []wal.Segment, record func(*wal.Record) bool) (*wal.Stop, error) {
			more := true
			w, err := wal.NewWalker(wal.WalkerOptions{Start: segments[0].Start, SegmentSize: wal.MinSegmentSize, SystemIdentifier: 4711, Record: func(r *wal.Record) { more = more && record(r) }})
			if err != nil {
				return nil, err
			}
			_, _ = w.Write(plain)
			if !more {
				return nil, nil
			}
			return w.Stopped(), nil
		}}
		in.SegmentSize = wal.MinSegmentSize
		in.Spans = []wal.Span{{Timeline: 1, From: seg, To: end}}
		in.Bases = []wal.Base{{ID: "one", Timeline: 1, Start: first, Stop: commits[0]}}
		if name == "wal_level" {
			// Commits that were read are known to be reached, though no observation says so; and
			// what can't be used to its end is not offered.
			for cut, toEnd := range map[wal.LSN]bool{level: true, end: false} {
				idle := in
				idle.Spans = []wal.Span{{Timeline: 1, From: seg, To: cut}}
				_, err := wal.PlanTarget(idle, wal.Target{Kind: wal.TargetTime, Time: at(50)})
				var outside *wal.OutsideError
				if !errors.As(err, &outside) || outside.Before == nil || !outside.Before.Time.Equal(at(3)) || strings.Contains(outside.Hint(), "--to-end") != toEnd {
					t.Errorf("a time after the last commit before %v: %v, %+v", cut, err, outside)
				}
			}
		}
		in.Seen = []wal.Observation{{Timeline: 1, LSN: end, Time: at(60)}}
		unknown := tt.cut == seg && name == "an unknown page"
		for target, reached := range map[wal.Target]bool{
			{Kind: wal.TargetTime, Time: at(1)}:        tt.cut > commits[2],
			{Kind: wal.TargetTime, Time: at(2)}:        tt.cut > commits[2],
			{Kind: wal.TargetTime, Time: at(5)}:        false,
			{Kind: wal.TargetTime, Time: at(50)}:       false,
			{Kind: wal.TargetLSN, LSN: commits[1]}:     tt.cut > commits[1] || unknown,
			{Kind: wal.TargetLSN, LSN: commits[5]}:     unknown,
			{Kind: wal.TargetName, Name: "x"}:          false,
			{Kind: wal.TargetEnd}:                      unknown,
			{Kind: wal.TargetBackup}:                   tt.cut > commits[0] || unknown,
			{Kind: wal.TargetBackup, Base: "other"}:    false,
			{Kind: wal.TargetEnd, Timeline: 2}:         false,
			{Kind: wal.TargetLSN, LSN: end + 1<<20}:    false,
			{Kind: wal.TargetLSN, LSN: commits[0] - 8}: false, // before the base backup ended
		} {
			p, err := wal.PlanTarget(in, target)
			var outside *wal.OutsideError
			if reached != (err == nil) || err != nil && !errors.As(err, &outside) {
				t.Errorf("%s: %s: %+v, %v", name, target, p, err)
				continue
			}
			if target.Kind == wal.TargetTime && target.Time.Equal(at(5)) && !strings.Contains(outside.Why, tt.why) {
				t.Errorf("%s: %s: %v", name, target, err)
			}
			if err == nil && unknown != (len(p.Unread) > 0) {
				t.Errorf("%s: %s: unread %+v", name, target, p.Unread)
			}
		}
	}
}
