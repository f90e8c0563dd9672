package archive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestSurveyOfManyObjects: all of an epoch that is listed in parts is found, each object once,
// whatever folders there are.
func TestSurveyOfManyObjects(t *testing.T) {
	b := newBench(t)
	e := b.begin(at(0), false)
	folder := filepath.Join(b.dir, filepath.FromSlash(b.a.Folder()), e.ID())
	first := ""
	n := 1 // epoch.json
	put := func(name string) {
		t.Helper()
		path := filepath.Join(folder, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if first == "" && err == nil {
			first = path
			err = os.WriteFile(path, []byte("x"), 0o600)
		} else if err == nil {
			err = os.Link(first, path) // names are what counts, and are made faster
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	const minutes = 6000
	for i := range minutes {
		put(fmt.Sprintf("seen/%s-00000001-%016X.json", b.began.Add(time.Duration(i)*time.Minute).Format("20060102T150405.000000Z"), i+1))
	}
	// Three ranges, the second across the end of a folder and of a part, the third on another
	// timeline.
	ranges := []wal.Span{
		{Timeline: 1, From: 0x0000000100000000, To: 0x0000000100000000 + 2500*wal.LSN(size)},
		{Timeline: 1, From: 0x0000001000000000 - 1000*wal.LSN(size), To: 0x0000001000000000 + 1500*wal.LSN(size)},
		{Timeline: 0x12, From: 0x000000AF00000000, To: 0x000000AF00000000 + 100*wal.LSN(size)},
	}
	for _, r := range ranges {
		for start := r.From; start < r.To; start += wal.LSN(size) {
			name := size.Name(wal.Segment{Timeline: r.Timeline, Start: start})
			put(fmt.Sprintf("seg/%s/%s-%016x.zst", name[:16], name, uint64(start)))
		}
	}
	tail := wal.Segment{Timeline: 0x12, Start: ranges[2].To}
	put(fmt.Sprintf("tail/%s/00000000-00001000-%016x.zst", size.Name(tail), 1))
	put("index/000000.ndjson.zst")
	put("unknown/object")
	put("seg/unknown/object")
	ranges[2].To += 0x1000

	survey, err := b.a.Survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if survey.Objects != n || len(survey.Split) != 0 || len(survey.Odd) != 0 {
		t.Errorf("%d objects, want %d; split %v, odd %v", survey.Objects, n, survey.Split, survey.Odd)
	}
	if got := fmt.Sprint(survey.Spans); got != fmt.Sprint(ranges) {
		t.Errorf("spans %v, want %v", survey.Spans, ranges)
	}
	if last := survey.Seen[len(survey.Seen)-1]; last.LSN != minutes {
		t.Errorf("the last observation is %+v", last)
	}

	// What names don't say is no part of it.
	put("void-of-any-version")
	put("seg/of-no-version")
	n -= 2
	if again, err := b.a.Survey(t.Context()); err != nil || again.Objects != n {
		t.Errorf("error %v, %d objects, want %d", err, again.Objects, n)
	}
}

// TestSurveyOfManyEpochs: each object counts as one of its own epoch.
func TestSurveyOfManyEpochs(t *testing.T) {
	b := newBench(t)
	const epochs = 30
	for i := range epochs {
		e := b.begin(at(0), false)
		if err := e.PutSeen(t.Context(), wal.Observation{Time: b.began, Timeline: 1, LSN: at(0) + wal.LSN(i)}); err != nil {
			t.Fatal(err)
		}
		if err := e.PutSegment(t.Context(), segment(wal.LSN(i%5)), segments.plain[i%5]); err != nil {
			t.Fatal(err)
		}
	}
	survey, err := b.a.Survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(survey.Epochs) != epochs || survey.Objects != 3*epochs || len(survey.Seen) != epochs || len(survey.Spans) != 1 || survey.Spans[0].To != at(5) {
		t.Errorf("%d epochs, %d objects, %d observations, spans %v", len(survey.Epochs), survey.Objects, len(survey.Seen), survey.Spans)
	}
	for i, e := range survey.Epochs {
		if i > 0 && !survey.Epochs[i-1].StartedAt.Before(e.StartedAt) {
			t.Errorf("epoch %s is out of order", e.ID)
		}
	}
}
