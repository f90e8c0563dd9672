package monitor

import "github.com/pgmedic/pgmedic"

// plural writes a number of things.
func plural[N int | int64](n N, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return pgmedic.Count(int64(n)) + " " + thing
}
