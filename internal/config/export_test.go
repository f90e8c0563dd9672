package config

// Known lists the environment names that pgmedic has a meaning for, so that a
// test can hold the documentation to it.
func Known() []string { return known() }
