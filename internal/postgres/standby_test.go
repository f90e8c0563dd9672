package postgres_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// TestUnmatched: one standby does not stand for another.
func TestUnmatched(t *testing.T) {
	type streams = []postgres.Stream
	for name, tt := range map[string]struct{ streams, ends, left streams }{
		"none":                      {nil, nil, nil},
		"nobody named":              {streams{{"a", ""}}, nil, streams{{"a", ""}}},
		"by slot":                   {streams{{"walreceiver", "s1"}, {"walreceiver", "s2"}}, streams{{"walreceiver", "s2"}, {"walreceiver", "s1"}}, nil},
		"by name":                   {streams{{"a", ""}, {"b", ""}}, streams{{"b", ""}, {"a", ""}}, nil},
		"another slot":              {streams{{"walreceiver", "s1"}}, streams{{"walreceiver", "s3"}}, streams{{"walreceiver", "s1"}}},
		"another name":              {streams{{"a", ""}, {"b", ""}}, streams{{"a", ""}, {"c", ""}}, streams{{"b", ""}}},
		"a slot and none":           {streams{{"a", "s1"}}, streams{{"a", ""}}, streams{{"a", "s1"}}},
		"one for two":               {streams{{"a", ""}, {"a", ""}}, streams{{"a", ""}}, streams{{"a", ""}}},
		"an end that does not say":  {streams{{"a", ""}, {"b", ""}}, streams{{"", ""}, {"a", ""}}, nil},
		"a stream that is not told": {streams{{"", ""}, {"b", ""}}, streams{{"b", ""}, {"c", ""}}, nil},
		"not said, and too few":     {streams{{"a", ""}, {"b", ""}}, streams{{"", ""}}, streams{{"b", ""}}},
	} {
		if left := postgres.Unmatched(tt.streams, tt.ends); !slices.Equal(left, tt.left) {
			t.Errorf("%s: %v are left, want %v", name, left, tt.left)
		}
	}
}
