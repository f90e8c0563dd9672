//go:build !linux

package postgres

import "time"

// What a pause is good for was measured on Linux alone.
const pacesReads = false

func sleepThread(time.Duration) {}
