package html

import (
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// services writes the connection pools of services.
func services(x *htmlSection, r *reading.Reading) {
	for _, service := range r.Services {
		x.facts(htmlFact{Name: "Service", Value: render.ServiceName(service)})
		x.note("%s.", strings.Join(render.ServiceFacts(service), ", "))
		for _, on := range service.Servers {
			servicePool(x, r, on)
		}
	}
}

// servicePool is what a service has with one server.
func servicePool(x *htmlSection, r *reading.Reading, on reading.ServicePool) {
	t := htmlTable{Caption: "Connections to " + on.Server, Columns: columns("Role", "In use#", "Max#", "Idle#", "Waiting#", "Mean wait#", "Timeouts#", "Turned away#", "Held too long#")}
	t.Rows = [][]cell{{
		text(on.Role), text(whole(on.InUse)), text(whole(on.Max)), text(whole(on.Idle)), text(whole(on.Waiting)),
		text(words.Seconds(on.MeanWaitSeconds())), text(words.Count(on.AcquireTimeouts)), text(words.Count(on.Rejected)), text(words.Count(on.Leaks)),
	}}
	x.table(t, 1, 0)
	t = htmlTable{Caption: "Callers with a connection to " + on.Server, Columns: columns("Process", "Statement", "Held#", "On the server", "In pg_stat_statements", "Taken by")}
	var blockers []reading.Session
	for _, h := range on.Holders {
		pid := text("not known")
		if h.PID > 0 {
			pid = text(strconv.Itoa(h.PID))
		}
		statement := name(h.Query)
		statement.Sub = "ran last"
		if h.Running {
			statement.Sub = "running"
		}
		t.Rows = append(t.Rows, []cell{pid, statement, text(words.Seconds(h.HeldSeconds)), name(render.OnServer(on, h)), text(render.Counted(r, h)), name(h.TakenBy)})
		blockers = append(blockers, h.Blockers...)
	}
	x.table(t, render.RowsShown, 0)
	x.table(sessionTable("Sessions that block them", blockers), render.RowsShown, 0)
	t = htmlTable{Caption: "Callers that wait for a connection to " + on.Server, Columns: columns("For", "Waits#", "Called by")}
	for _, w := range on.Waiters {
		t.Rows = append(t.Rows, []cell{text(w.Tag), text(words.Seconds(w.WaitedSeconds)), name(w.CalledBy)})
	}
	x.table(t, render.RowsShown, on.Waiting)
}
