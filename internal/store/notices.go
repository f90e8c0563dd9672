package store

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// StalledAfter is how long a connection may give or take nothing before it is given up.
	StalledAfter = time.Minute

	// patience is how long a store may take to answer before that is said.
	patience = 2 * time.Second
	// betweenNotices keeps many requests that wait for one store from saying it each.
	betweenNotices = 10 * time.Second
)

// Notices tells a log, now and then, that a store does not answer or is asked again, since
// the pauses and the limits together are long.
type Notices struct {
	log  *slog.Logger
	name string

	mu   sync.Mutex
	told time.Time
}

// NewNotices returns those of a store, by the name that it has for people.
func NewNotices(log *slog.Logger, name string) *Notices {
	return &Notices{log: log, name: name}
}

// Retrying warns that a request failed and is tried again, if no warning was logged within
// the last ten seconds. Args are attributes of the record.
func (n *Notices) Retrying(args ...any) {
	if n.due() {
		n.log.Warn("a request to the store failed; trying again", append([]any{"store", n.name}, args...)...)
	}
}

// Watch has it said that something takes long, unless stop is called within two seconds.
func (n *Notices) Watch(what string) (stop func() bool) {
	return time.AfterFunc(patience, func() {
		if n.due() {
			n.log.Warn("the store does not answer; waiting for it", "store", n.name, "for", what)
		}
	}).Stop
}

// due reports whether a warning may be logged now, which counts as one.
func (n *Notices) due() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if !n.told.IsZero() && now.Sub(n.told) < betweenNotices {
		return false
	}
	n.told = now
	return true
}

// Transport returns one that gives up on connections that stall: on one that takes or
// gives nothing for a minute, and not on a slow one.
func (n *Notices) Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	n.Limit(t)
	// What is read is what is stored.
	t.DisableCompression = true
	return t
}

// Limit sets the limits of connections and requests.
func (n *Notices) Limit(t *http.Transport) {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		stop := n.Watch("a connection to " + address)
		c, err := dialer.DialContext(ctx, network, address)
		stop()
		if err != nil {
			return nil, err
		}
		return &impatientConn{Conn: c}, nil
	}
	t.TLSHandshakeTimeout = 10 * time.Second
	t.ResponseHeaderTimeout = 2 * StalledAfter // completing an upload of many parts takes a while
	t.MaxIdleConnsPerHost = 32
}

// impatientConn is a connection on which a write fails that makes no progress.
// What is read is watched elsewhere: here nobody knows whether anything is due.
type impatientConn struct{ net.Conn }

func (c *impatientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(StalledAfter)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
