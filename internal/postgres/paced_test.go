package postgres

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

// arriving gives reads of the sizes that it is told.
type arriving struct {
	data  []byte
	sizes func() int
}

func (a *arriving) Read(b []byte) (int, error) {
	if len(a.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), max(a.sizes(), 1))], a.data)
	a.data = a.data[n:]
	return n, nil
}

// TestPacedReadsAll: whatever the sizes that come, all comes through.
func TestPacedReadsAll(t *testing.T) {
	data := make([]byte, 3<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	slept := 0
	p := &paced{r: &arriving{data, func() int { return random.IntN(200 << 10) }}, pause: pauseFirst, sleep: func(d time.Duration) {
		slept++
		if d <= 0 || d > pauseMost {
			t.Fatalf("a pause of %s", d)
		}
	}}
	got, err := io.ReadAll(p)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
	}
	if slept == 0 {
		t.Error("a stream is read without a pause")
	}
}

// TestPacedPauses: answers that fit into one send wait for nothing, a stream of single
// sends makes pauses longer, and one that fills the buffer makes them shorter.
func TestPacedPauses(t *testing.T) {
	read := func(size, times int) (pauses []time.Duration) {
		p := &paced{r: &arriving{make([]byte, size*times), func() int { return size }}, pause: pauseFirst,
			sleep: func(d time.Duration) { pauses = append(pauses, d) }}
		buffer := make([]byte, readBuffer)
		for {
			if _, err := p.Read(buffer); err != nil {
				return pauses
			}
		}
	}
	if pauses := read(serverSends-1, 100); len(pauses) > 0 {
		t.Errorf("small answers wait: %v", pauses)
	}
	if pauses := read(serverSends, 100); len(pauses) != 100 || pauses[99] != pauseMost {
		t.Errorf("single sends: %v", pauses)
	}
	if pauses := read(readBuffer, 100); len(pauses) != 100 || pauses[99] > time.Microsecond {
		t.Errorf("a full buffer: %v", pauses)
	}
	if pauses := read(pacedLow, 100); len(pauses) != 100 || pauses[99] != pauseFirst {
		t.Errorf("what a pause is for: %v", pauses)
	}
}
