package remote

import (
	"context"
	"errors"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// Credentials are those of a Service that may be replaced while its store is open;
// rotation.Credential is an implementation. It is used by several goroutines.
type Credentials interface {
	// Generation is that of the credentials that a request has if it is begun now.
	Generation() int
	// Renew reports whether there are others than those of a generation, which were
	// refused. It may read them again.
	Renew(ctx context.Context, refused int) (bool, error)
}

// maxRenewals is how often a request is sent again with other credentials: once, and once
// more where they were replaced between its beginning and its sending.
const maxRenewals = 2

// authorized sends a request, and again with the credentials that have replaced those which
// the server refused. Such an answer says that nothing was done, so this takes no attempt of
// try. Where there are no others, the error is the server's.
func (s *Store) authorized(ctx context.Context, request func(context.Context) error) error {
	if s.o.Credentials == nil {
		return request(ctx)
	}
	for n := 0; ; n++ {
		generation := s.o.Credentials.Generation()
		err := request(ctx)
		if err == nil || store.Ended(ctx) != nil || n == maxRenewals || !s.service.Explain(err).Refused {
			return err
		}
		again, why := s.o.Credentials.Renew(ctx, generation)
		switch {
		case store.Ended(ctx) != nil:
			return err
		case why != nil:
			return &unreadError{refused: err, why: why}
		case !again:
			return err
		}
		s.o.Logger.Info("the store refused the credentials; going on with those that replaced them", "store", s.o.Name)
	}
}

// unreadError is that of a request whose credentials were refused and can't be read again.
type unreadError struct{ refused, why error }

func (e *unreadError) Error() string { return e.refused.Error() }

func (e *unreadError) Unwrap() error { return e.refused }

// explain is the Service's Explain, which doesn't know why credentials can't be read again.
func (s *Store) explain(err error) Failure {
	f := s.service.Explain(err)
	var unread *unreadError
	if errors.As(err, &unread) {
		f.Text += "; the credentials can't be read again where they are kept: " + unread.why.Error()
		if hint := pgmedic.HintOf(unread.why); hint != "" {
			f.Hint = hint
		}
	}
	return f
}
