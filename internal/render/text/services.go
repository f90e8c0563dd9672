package text

import (
	"fmt"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// services writes the connection pools of services: who has connections, for which
// statement, what the server says of it, and who waits.
func (p *page) services() {
	r := p.report.Reading
	if len(r.Services) == 0 {
		return
	}
	p.title("Services")
	for i, s := range r.Services {
		if i > 0 {
			p.line("")
		}
		p.prose(2, p.paint.Bold, render.ServiceName(s))
		p.items(2, p.paint.Faint, render.ServiceFacts(s))
		for _, on := range s.Servers {
			p.items(4, plainly, append([]string{on.Server + " (" + on.Role + ")"}, render.PoolFacts(on)...))
			p.holders(r, on)
			p.waiters(on)
		}
	}
}

// holders writes who has connections.
func (p *page) holders(r *reading.Reading, on reading.ServicePool) {
	for _, h := range on.Holders[:min(len(on.Holders), render.RowsShown)] {
		state := "idle after"
		if h.Running {
			state = "running"
		}
		who := ""
		if h.PID > 0 {
			who = fmt.Sprintf(" by process %d", h.PID)
		}
		p.prose(6, plainly, fmt.Sprintf("held for %s%s, %s: %s", words.Seconds(h.HeldSeconds), who, state, words.OrDash(h.Query)))
		p.prose(8, plainly, "on the server: "+render.OnServer(on, h))
		if counted := render.Counted(r, h); counted != "" {
			p.prose(8, p.paint.Faint, "pg_stat_statements: "+counted)
		}
		if h.TakenBy != "" {
			p.prose(8, p.paint.Faint, "taken by "+h.TakenBy)
		}
	}
	if more := len(on.Holders) - render.RowsShown; more > 0 {
		p.prose(6, plainly, fmt.Sprintf("and %d more that hold a connection", more))
	}
}

// waiters writes who waits for one.
func (p *page) waiters(on reading.ServicePool) {
	for _, w := range on.Waiters[:min(len(on.Waiters), render.RowsShown)] {
		line := "waits for a connection for " + words.Seconds(w.WaitedSeconds)
		if w.Tag != "" {
			line += ": " + w.Tag
		}
		p.prose(6, plainly, line)
		if w.CalledBy != "" {
			p.prose(8, p.paint.Faint, "called by "+w.CalledBy)
		}
	}
	if more := on.Waiting - min(len(on.Waiters), render.RowsShown); more > 0 {
		p.prose(6, plainly, fmt.Sprintf("%d more wait", more))
	}
}
