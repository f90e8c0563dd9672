package postgres_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// TestKeepAlive asks the system how a session's connection is kept alive.
func TestKeepAlive(t *testing.T) {
	s := scratchtest.New(t, scratch.Options{TCP: true})
	target, err := postgres.ParseTarget(s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		target                postgres.Target
		on                    int
		idle, interval, count int
	}{
		"as it is":    {target, 1, 60, 10, 6},
		"as asked":    {target.With("keepalives_idle", "7").With("keepalives_count", "3"), 1, 7, 10, 3},
		"not at all":  {target.With("keepalives", "0"), 0, 0, 0, 0},
		"the default": {target.With("keepalives", "1"), 1, 60, 10, 6},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := postgres.Connect(t.Context(), test.target)
			if err != nil {
				t.Fatal(err)
			}
			defer postgres.Close(t.Context(), conn)
			tcp, ok := conn.PgConn().Conn().(*net.TCPConn)
			if !ok {
				t.Fatalf("a %T", conn.PgConn().Conn())
			}
			raw, err := tcp.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			option := func(level, name int) (value int) {
				if controlErr := raw.Control(func(fd uintptr) { value, err = syscall.GetsockoptInt(int(fd), level, name) }); controlErr != nil || err != nil {
					t.Fatal(controlErr, err)
				}
				return value
			}
			if on := option(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); on != test.on {
				t.Errorf("kept alive: %d", on)
			}
			if test.on == 0 {
				return
			}
			idle, interval, count := option(syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE), option(syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL), option(syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT)
			if idle != test.idle || interval != test.interval || count != test.count {
				t.Errorf("after %d s, each %d s, %d times", idle, interval, count)
			}
		})
	}
}
