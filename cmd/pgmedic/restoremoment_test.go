package main

import "testing"

// TestRoomWords: a size that is not known is not said to be none.
func TestRoomWords(t *testing.T) {
	for want, taken := range map[string]int64{
		"needs 2.0 KiB, and up to 1.0 KiB more for what is taken out; 3.0 KiB are free":                       1 << 10,
		"needs 2.0 KiB, and more for what is taken out, of which the size is not known yet; 3.0 KiB are free": 0,
	} {
		if got := roomWords(2<<10, taken, 3<<10); got != want {
			t.Errorf("%d: %q, want %q", taken, got, want)
		}
	}
}
