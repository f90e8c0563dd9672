package restore

import (
	"context"
	"errors"
	"io"

	"github.com/pgmedic/pgmedic"
)

// checkUnread reads to the end what a restore has no use for now and the next
// one may: a backup that lost its roles does not come back whole, and must not
// be called proven.
func (s *Session) checkUnread(ctx context.Context) error {
	object, ok := s.Backup.Object(pgmedic.RoleGlobals)
	if !ok {
		return nil
	}
	r, err := s.source().Open(ctx, object)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
