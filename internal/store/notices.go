package store

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// StalledAfter is how long a connection may give or take nothing before it is given up.
const StalledAfter = stalledAfter

// NewNotices returns those of a store, by the name that it has for people.
func NewNotices(log *slog.Logger, name string) *Notices {
	return &Notices{log: log, name: name}
}

// Transport returns one that gives up on connections that stall: on one that takes or
// gives nothing for a minute, and not on a slow one.
func (n *Notices) Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	n.limit(t)
	// What is read is what is stored.
	t.DisableCompression = true
	return t
}

// limit sets the limits of connections and requests.
func (n *Notices) limit(t *http.Transport) {
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
	t.ResponseHeaderTimeout = 2 * stalledAfter // completing an upload of many parts takes a while
	t.MaxIdleConnsPerHost = 32
}
