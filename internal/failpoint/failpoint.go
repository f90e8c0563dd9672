// Package failpoint ends or interrupts the program at named places, so that
// tests can show what that leaves behind. Without the build tag failpoint its
// calls are compiled to nothing.
package failpoint
