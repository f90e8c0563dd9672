package words

import (
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// Plural writes a number of things, of which the plural may be given.
func Plural[N int | int64](n N, thing string, things ...string) string {
	switch {
	case n == 1:
	case len(things) > 0:
		thing = things[0]
	default:
		thing += "s"
	}
	return pgmedic.Count(int64(n)) + " " + thing
}

// Times says how often.
func Times(n int64) string {
	if n == 1 {
		return "once"
	}
	return pgmedic.Count(n) + " times"
}

// Shortened cuts a text for evidence.
func Shortened(s string) string {
	const most = 300
	for i := range s {
		if i >= most {
			return s[:i] + "…"
		}
	}
	return s
}

// FirstFew names the first five of many things, and says how many more there are.
func FirstFew(things []string) string {
	const most = 5
	if len(things) <= most {
		return strings.Join(things, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(things[:most], "; "), len(things)-most)
}
