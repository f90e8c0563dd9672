package schedule

import (
	"fmt"
	"slices"
	"strings"
)

// StreamName is the name of the service that streams WAL, which runs all the time and so
// is not an entry of a plan.
const StreamName = "wal-stream"

// StreamUnit is its unit of systemd.
const StreamUnit = UnitPrefix + StreamName + ".service"

// streamCommand are the arguments of pgmedic that stream WAL. Everything else is in the
// configuration.
func streamCommand() []string { return []string{"wal", "stream", "--quiet"} }

// stopWithin is how long the stream may take to end, in seconds: what has arrived is stored
// within 30 seconds, and what is to be reported is sent within some 100 after that.
const stopWithin = 180

// CronStreamNote says what cron can't run.
const CronStreamNote = "cron starts jobs at times and keeps none running: it does not run `pgmedic wal stream`, which wal.stream asks for. " +
	"Run it by something that starts it again whenever it ends: the service " + StreamUnit + ", which `pgmedic schedule systemd` writes, or a container with a restart policy"

// checkStream refuses an entry whose unit would be that of the stream.
func checkStream(plan []Entry) error {
	if slices.ContainsFunc(plan, func(e Entry) bool { return e.Name == StreamName }) {
		return usage("give the schedule another name", "a schedule is named %s, which is the name of the service that streams WAL", StreamName)
	}
	return nil
}

// streamMark begins the first line of the stream's unit. Its settings are read when it
// starts: the unit does not change with them.
func streamMark(source string) string {
	return unitMark + source + " plan:" + shortHash(strings.Join(streamCommand(), " ")) + " "
}

// streamService is the unit of the service that streams WAL.
func streamService(h Host, o UnitOptions) string {
	argv := h.command(streamCommand())
	for i := range argv {
		argv[i] = systemdQuote(argv[i])
	}
	argv[0] = systemdPath(h.Program)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Unit]\nDescription=pgmedic wal stream\nStartLimitIntervalSec=0")
	wanted := "default.target"
	if !o.User {
		wanted = "multi-user.target"
		line("Wants=network-online.target\nAfter=network-online.target")
	}
	line("\n[Service]\nType=exec\nExecStart=%s", strings.Join(argv, " "))
	// Whatever ends it: while nothing streams, the server's disk fills.
	line("Restart=always\nRestartSec=10\nTimeoutStopSec=%d", stopWithin)
	line("UMask=0077\nNoNewPrivileges=yes")
	credentials(line, o)
	sandbox(line, o)
	line("\n[Install]\nWantedBy=%s", wanted)
	body := b.String()
	return streamMark(h.Source()) + "body:" + shortHash(body) + "\n" + body
}
