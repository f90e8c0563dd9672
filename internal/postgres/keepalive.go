package postgres

import (
	"net"
	"strconv"
	"time"
)

// keepAlives are libpq's keywords by which a dead network is noticed within two
// minutes instead of the system's two hours, and a firewall does not forget a session
// that is silent for as long as a backup or a restore runs. Each is for where the
// connection string does not set it.
func keepAlives() [][2]string {
	return [][2]string{{"keepalives_idle", "60"}, {"keepalives_interval", "10"}, {"keepalives_count", "6"}}
}

// KeptAlive returns the Target for client programs, which look after their connections
// as our own sessions do.
func (t Target) KeptAlive() Target {
	for _, k := range keepAlives() {
		if !t.Has(k[0]) {
			t = t.With(k[0], k[1])
		}
	}
	return t
}

// dialer connects as the Target's keepalive keywords say, as libpq does. They mean
// nothing for a socket in the file system.
func (t Target) dialer() *net.Dialer {
	if t.Value("keepalives") == "0" {
		return &net.Dialer{KeepAlive: -1, KeepAliveConfig: net.KeepAliveConfig{Enable: false}}
	}
	kept := t.KeptAlive()
	number := func(keyword string) int {
		n, err := strconv.Atoi(kept.Value(keyword))
		if err != nil || n <= 0 {
			return -1 // for libpq, and below zero for net: the system's own
		}
		return n
	}
	return &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Count: number("keepalives_count"),
		Idle: time.Duration(number("keepalives_idle")) * time.Second, Interval: time.Duration(number("keepalives_interval")) * time.Second,
	}}
}
