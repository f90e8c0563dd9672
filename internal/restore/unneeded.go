package restore

import (
	"context"
	"errors"
	"io"

	"github.com/pgmedic/pgmedic"
)

// checkUnread reads to the end what this restore does not need and another one may: a
// backup that lost its roles can't be restored completely, and must not be called proven.
func (s *Session) checkUnread(ctx context.Context) error {
	object, ok := s.Backup.Object(pgmedic.RoleGlobals)
	if !ok {
		return nil
	}
	r, err := s.Source().Open(ctx, object)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
