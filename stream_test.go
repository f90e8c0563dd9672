package pgmedic_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
)

// TestUnmatched: one standby does not stand for another.
func TestUnmatched(t *testing.T) {
	type streams = []pgmedic.Stream
	for name, tt := range map[string]struct{ streams, ends, left streams }{
		"none":                      {nil, nil, nil},
		"nobody named":              {streams{{Name: "a"}}, nil, streams{{Name: "a"}}},
		"by slot":                   {streams{{Name: "walreceiver", Slot: "s1"}, {Name: "walreceiver", Slot: "s2"}}, streams{{Name: "walreceiver", Slot: "s2"}, {Name: "walreceiver", Slot: "s1"}}, nil},
		"by name":                   {streams{{Name: "a"}, {Name: "b"}}, streams{{Name: "b"}, {Name: "a"}}, nil},
		"another slot":              {streams{{Name: "walreceiver", Slot: "s1"}}, streams{{Name: "walreceiver", Slot: "s3"}}, streams{{Name: "walreceiver", Slot: "s1"}}},
		"another name":              {streams{{Name: "a"}, {Name: "b"}}, streams{{Name: "a"}, {Name: "c"}}, streams{{Name: "b"}}},
		"a slot and none":           {streams{{Name: "a", Slot: "s1"}}, streams{{Name: "a"}}, streams{{Name: "a", Slot: "s1"}}},
		"one for two":               {streams{{Name: "a"}, {Name: "a"}}, streams{{Name: "a"}}, streams{{Name: "a"}}},
		"an end that does not say":  {streams{{Name: "a"}, {Name: "b"}}, streams{{}, {Name: "a"}}, nil},
		"a stream that is not told": {streams{{}, {Name: "b"}}, streams{{Name: "b"}, {Name: "c"}}, nil},
		"not said, and too few":     {streams{{Name: "a"}, {Name: "b"}}, streams{{}}, streams{{Name: "b"}}},
	} {
		if left := pgmedic.Unmatched(tt.streams, tt.ends); !slices.Equal(left, tt.left) {
			t.Errorf("%s: %v are left, want %v", name, left, tt.left)
		}
	}
}
