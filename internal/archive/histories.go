package archive

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// addHistory takes account of a history. One that is damaged is as one that is not there.
func (a *Archive) addHistory(ctx context.Context, s *Survey, id string, t wal.Timeline) error {
	h, err := a.readHistory(ctx, id, t)
	if pgmedic.KindOf(err) == pgmedic.KindIntegrity {
		s.odd("the history of timeline %d in epoch %s is damaged", t, id)
		return nil
	}
	if err != nil {
		return err
	}
	for _, other := range s.Histories {
		if other.Timeline != t {
			continue
		}
		if !slices.Equal(other.Switches, h.Switches) {
			s.odd("there are two histories of timeline %d that differ: two servers were promoted", t)
			if !slices.Contains(s.Promoted, t) {
				s.Promoted = append(s.Promoted, t)
			}
		}
		return nil
	}
	s.Histories = append(s.Histories, h)
	return nil
}

func (a *Archive) readHistory(ctx context.Context, id string, t wal.Timeline) (wal.History, error) {
	text, err := a.read(ctx, id+"/"+historyKey(t), wal.MaxHistoryBytes)
	if err != nil {
		return wal.History{}, fmt.Errorf("read the history of timeline %d: %w", t, err)
	}
	h, err := wal.ParseHistory(t, text)
	if err != nil {
		return h, damaged("%w", err)
	}
	return h, nil
}

// dropHistories drops those that the WAL contradicts: a server that is promoted writes from the
// segment on in which the timeline before it ended. PostgreSQL's file has no checksum, and where
// a position in it is damaged the old server's WAL would be taken for the new one's.
func (s *Survey) dropHistories() {
	begins := map[wal.Timeline]wal.LSN{}
	for _, span := range s.Spans {
		if from, there := begins[span.Timeline]; !there || span.From < from {
			begins[span.Timeline] = span.From
		}
	}
	s.Histories = slices.DeleteFunc(s.Histories, func(h wal.History) bool {
		for i, before := range h.Switches {
			t := h.Timeline
			if i+1 < len(h.Switches) {
				t = h.Switches[i+1].Timeline
			}
			if from, there := begins[t]; there && from < s.SegmentSize.Start(before.End) {
				s.odd("the history of timeline %d is damaged: it says that timeline %d begins at %v, and WAL of it is stored from %v on", h.Timeline, t, before.End, from)
				return true
			}
		}
		return false
	})
}
