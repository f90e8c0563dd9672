package walstream

import "time"

// WithSilence returns Options with how long a server that is asked may say nothing.
func WithSilence(o Options, d time.Duration) Options {
	o.silence = d
	return o
}
