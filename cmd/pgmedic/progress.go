package main

import (
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/terminal"
)

// progress returns a listener that shows what a run does: one line that is
// written over on a terminal, a line a step and now and then one between
// elsewhere, records where logs are JSON, nothing with -q or --json. The
// listener may be called until done is.
func (j job) progress() (listen func(pgmedic.Event), done func()) {
	if j.global.quiet || j.global.json && !j.logSteps {
		return func(pgmedic.Event) {}, func() {}
	}
	o := terminal.ProgressOptions{
		Screen: &j.screen, Width: j.stderrWidth, Color: j.paint(j.stderrTTY).on, Now: j.now,
		Live: j.stderrTTY && !slices.Contains(j.environ, "TERM=dumb"),
	}
	if j.logSteps {
		o.Log = j.log
	}
	p := terminal.NewProgress(o)
	return p.Event, p.Start()
}
