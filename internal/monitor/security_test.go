package monitor_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

func TestSessionsWithoutTLS(t *testing.T) {
	with := func(n int) *reading.Reading {
		return aReading(func(r *reading.Reading) { r.Security = &reading.Security{Unencrypted: &n} })
	}
	if f := mustFind(t, analyse(with(2)), "sessions-unencrypted", "server"); evidenceOf(f, "sessions") != "2" {
		t.Errorf("%+v", f)
	}
	mustNotFind(t, analyse(with(0)), "sessions-unencrypted", "server")
	mustNotFind(t, analyse(aReading(func(r *reading.Reading) { r.Security = &reading.Security{} })), "sessions-unencrypted", "server")
	// The fix is SQL, which a server tells from something else.
	paste(t, connect(t, shared.DSN("postgres")), mustFind(t, analyse(with(1)), "sessions-unencrypted", "server").Fix)
}

func TestAnOldMinorVersion(t *testing.T) {
	of := func(num int) *reading.Reading {
		return aReading(func(r *reading.Reading) { r.Server.VersionNum = num })
	}
	mustFind(t, analyse(of(150003)), "version-outdated", "server")
	for _, num := range []int{150020, 150099, 190000, 190001} {
		mustNotFind(t, analyse(of(num)), "version-outdated", "server")
		mustNotFind(t, analyse(of(num)), "version-unsupported", "server")
	}
}
