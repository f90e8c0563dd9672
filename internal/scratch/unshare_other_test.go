//go:build !linux

package scratch_test

func canUnshare() bool { return false }
