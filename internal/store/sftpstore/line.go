package sftpstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// dialWithin is how long a connection and its handshake may take, patience how long
	// before that is said.
	dialWithin = 30 * time.Second
	patience   = 2 * time.Second
)

// neededExtensions are what OpenSSH's server has, and why nothing does without.
var neededExtensions = []struct{ name, why string }{
	{"fsync@openssh.com", "nothing would say that a backup has reached its disk"},
	{"hardlink@openssh.com", "a backup could be overwritten, or appear before it is complete"},
}

// slot is room for one connection.
type slot struct {
	users   int           // of the store's mu
	opening chan struct{} // full while somebody opens the connection
	line    *line         // under opening
}

// line is one connection. Several requests may use it at once.
type line struct {
	client *sftp.Client
	names  *limitedNames // that the server sends
	conn   *ssh.Client
	once   sync.Once
	gone   chan struct{} // closed when it has ended
	calls  *sync.WaitGroup
	// lacking is why the server can't be written to.
	lacking error
}

// end ends the connection, and with it all that waits for an answer.
func (l *line) end() {
	l.once.Do(func() {
		close(l.gone)
		_ = l.conn.Close() // it may have ended on its own
	})
}

func (l *line) ended() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// request is one or several requests on their way. Its owner waits for it.
type request struct {
	line *line
	done chan error
}

// start sends what f does.
func (l *line) start(f func() error) *request {
	r := &request{line: l, done: make(chan error, 1)}
	l.calls.Go(func() {
		err := f()
		if !answered(err) {
			l.end()
		}
		r.done <- err
	})
	return r
}

// wait returns what became of the request. Where ctx ends before, that is waited for a
// little longer, and then the connection is given up: nothing goes on behind the caller.
func (r *request) wait(ctx context.Context) error {
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	}
	late := time.AfterFunc(cleanUpWithin, r.line.end)
	defer late.Stop()
	return <-r.done
}

// call sends what f does and waits for it.
func (l *line) call(ctx context.Context, f func() error) error {
	if err := store.Ended(ctx); err != nil {
		return err
	}
	return l.start(f).wait(ctx)
}

// try calls f with a connection, and again with a new one where that was lost: f must be
// what may be repeated.
func (s *Store) try(ctx context.Context, f func(*line) error) error {
	for n := 0; ; n++ {
		l, release, err := s.line(ctx)
		if err == nil {
			err = l.call(ctx, func() error { return f(l) })
			release()
		}
		if err == nil || answered(err) || isFinal(err) || store.Ended(ctx) != nil || n == attempts-1 {
			return err
		}
		s.log.Debug("a connection to the store was lost; trying again", "store", s.name, "error", err)
		store.Pause(ctx, n)
	}
}

// isFinal reports whether connecting again can't help.
func isFinal(err error) bool {
	var e *pgmedic.Error
	return errors.As(err, &e)
}

// line returns a connection, that which the fewest use, and counts the caller among them
// until release is called.
func (s *Store) line(ctx context.Context) (l *line, release func(), err error) {
	s.mu.Lock()
	chosen := s.slots[0]
	for _, one := range s.slots {
		if one.users < chosen.users {
			chosen = one
		}
	}
	chosen.users++
	s.mu.Unlock()
	release = func() {
		s.mu.Lock()
		chosen.users--
		s.mu.Unlock()
	}
	select {
	case chosen.opening <- struct{}{}:
	case <-ctx.Done():
		release()
		return nil, nil, store.Ended(ctx)
	}
	defer func() { <-chosen.opening }()
	if chosen.line == nil || chosen.line.ended() {
		if chosen.line, err = s.dial(ctx); err != nil {
			chosen.line = nil
			release()
			return nil, nil, err
		}
	}
	return chosen.line, release, nil
}

// dialAs opens a connection and looks whether the server can do what is needed.
func (s *Store) dialAs(ctx context.Context, as login) (*line, error) {
	late := time.AfterFunc(patience, func() {
		s.log.Warn("the store does not answer; waiting for it", "store", s.name)
	})
	defer late.Stop()
	dialCtx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	dialer := &net.Dialer{KeepAlive: 15 * time.Second}
	raw, err := dialer.DialContext(dialCtx, "tcp", s.o.address())
	if err != nil {
		return nil, s.dialFailed(ctx, err)
	}
	stop := context.AfterFunc(dialCtx, func() { _ = raw.Close() }) // ends what waits for it
	defer stop()
	var accepted bool
	config, handshaken := s.auth.config(dialCtx, as, &accepted)
	conn, channels, requests, err := ssh.NewClientConn(raw, s.o.address(), config)
	handshaken()
	if err != nil {
		if dialCtx.Err() != nil {
			err = fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		return nil, s.handshakeFailed(ctx, accepted, errors.Join(err, closed(raw)))
	}
	l := &line{conn: ssh.NewClient(conn, channels, requests), gone: make(chan struct{}), calls: &s.calls}
	if err = l.newClient(); err != nil {
		l.end()
		if store.Ended(ctx) != nil || dialCtx.Err() != nil {
			return nil, s.dialFailed(ctx, err)
		}
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "have the server offer SFTP to this user (Subsystem sftp in sshd_config)", "%s offers no SFTP: %w", s.name, err)
	}
	l.lacking = s.lacking(l.client)
	s.calls.Go(func() {
		_ = l.client.Wait() // why it ended is in the errors of the requests
		l.end()
	})
	s.calls.Go(func() { l.watch(s.o.askEvery, s.o.answerWithin) })
	return l, nil
}

// lacking is the error of a server that can't be written to. One that is read only has
// none of the extensions that only a writer needs.
func (s *Store) lacking(c *sftp.Client) error {
	for _, needed := range neededExtensions {
		if _, has := c.HasExtension(needed.name); !has {
			return pgmedic.Errorf(pgmedic.KindUsage, "use a server that has it and may write, such as OpenSSH's; docs/stores.md says more",
				"the SFTP server of %s lacks %s, without which %s", s.name, needed.name, needed.why)
		}
	}
	return nil
}

// errNoAnswer says that a server took the connection and nothing else.
var errNoAnswer = errors.New("the server does not answer")

// closed closes what is of no use any more.
func closed(c io.Closer) error {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// watch asks the server for a sign of life, and ends the connection where none comes: a
// network that went away says nothing.
func (l *line) watch(every, within time.Duration) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-l.gone:
			return
		case <-ticks.C:
		}
		late := time.AfterFunc(within, l.end)
		_, _, err := l.conn.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			l.end()
			return
		}
	}
}

// dialFailed is the error of a server that could not be reached.
func (s *Store) dialFailed(ctx context.Context, err error) error {
	if cause := store.Ended(ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("connect to %s: %w", s.o.address(), err)
}

// handshakeFailed is the error of a server that was reached. Accepted is true where its
// host key was right.
func (s *Store) handshakeFailed(ctx context.Context, accepted bool, err error) error {
	if cause := store.Ended(ctx); cause != nil {
		return cause
	}
	var network net.Error
	var hostKey *pgmedic.Error
	switch {
	case errors.As(err, &hostKey):
		return hostKey
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, errNoAnswer):
		return s.dialFailed(ctx, err)
	case accepted:
		return pgmedic.Errorf(pgmedic.KindUnreachable, "look at the user, backup.sftp.identity_file, the SSH agent (SSH_AUTH_SOCK) and backup.sftp.password, and at authorized_keys on the server",
			"%s does not accept the login of %s: %w", s.o.address(), s.o.User, &refusedError{err})
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "look at the server's version and its settings", "no SSH connection to %s: %w", s.o.address(), err)
}
