package monitor

import "github.com/pgmedic/pgmedic"

// plural writes a number of things, of which the plural may be given.
func plural[N int | int64](n N, thing string, things ...string) string {
	switch {
	case n == 1:
	case len(things) > 0:
		thing = things[0]
	default:
		thing += "s"
	}
	return pgmedic.Count(int64(n)) + " " + thing
}
