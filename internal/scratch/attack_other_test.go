//go:build !linux

package scratch_test

func attack([]string) {}
