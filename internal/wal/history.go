package wal

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MaxHistoryBytes is what a history may have: some 10,000 switches.
const MaxHistoryBytes = 1 << 20

// Switch is the end of one timeline within the history of another.
type Switch struct {
	Timeline Timeline `json:"timeline"`
	// End is the position up to which the timeline belongs to that history.
	End LSN `json:"end"`
}

// History is how a timeline came about: the timelines before it, oldest first.
type History struct {
	Timeline Timeline
	Switches []Switch
}

// HistoryName returns the name of the file that holds a timeline's history.
func HistoryName(t Timeline) string { return fmt.Sprintf("%08X.history", uint32(t)) }

// ParseHistoryName reads the name of a file that holds a timeline's history. Timeline 1
// has none, and PostgreSQL asks for it all the same when it begins timeline 2.
func ParseHistoryName(name string) (Timeline, error) {
	digits, ok := strings.CutSuffix(name, ".history")
	n, err := parseHex(digits)
	if !ok || err != nil || n == 0 || HistoryName(Timeline(n)) != name {
		return 0, fmt.Errorf("%.40q is not the name of a timeline's history", name)
	}
	return Timeline(n), nil
}

// ParseHistory reads the file of a timeline's history: a line for each earlier timeline,
// with its number, where it was left and why. What PostgreSQL would not accept is an
// error: numbers and positions that do not grow, and numbers from the timeline's own on.
func ParseHistory(t Timeline, text []byte) (History, error) {
	h := History{Timeline: t}
	if len(text) > MaxHistoryBytes {
		return h, fmt.Errorf("the history of timeline %d has more than %d bytes", t, MaxHistoryBytes)
	}
	for i, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		bad := fmt.Errorf("the history of timeline %d: line %d is not one of a history", t, i+1)
		if len(fields) < 2 {
			return History{Timeline: t}, bad
		}
		n, err := strconv.ParseUint(fields[0], 10, 32)
		end, lsnErr := ParseLSN(fields[1])
		s := Switch{Timeline(n), end}
		if err != nil || lsnErr != nil || n == 0 || s.Timeline >= t {
			return History{Timeline: t}, bad
		}
		if last := len(h.Switches) - 1; last >= 0 && (s.Timeline <= h.Switches[last].Timeline || s.End < h.Switches[last].End) {
			return History{Timeline: t}, bad
		}
		h.Switches = append(h.Switches, s)
	}
	return h, nil
}

// Begin returns where a timeline of the history begins: 0 for the first one. It is
// false for a timeline that is not in the history.
func (h History) Begin(t Timeline) (LSN, bool) {
	begin := LSN(0)
	for _, s := range h.Switches {
		if s.Timeline == t {
			return begin, true
		}
		begin = s.End
	}
	return begin, t == h.Timeline
}

// End returns up to where a timeline belongs to the history: without an end for the
// history's own. It is false for a timeline that is not in the history.
func (h History) End(t Timeline) (LSN, bool) {
	for _, s := range h.Switches {
		if s.Timeline == t {
			return s.End, true
		}
	}
	return math.MaxUint64, t == h.Timeline
}

// At returns the timeline on which the byte at l was written.
func (h History) At(l LSN) Timeline {
	for _, s := range h.Switches {
		if l < s.End {
			return s.Timeline
		}
	}
	return h.Timeline
}
