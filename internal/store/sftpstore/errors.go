package sftpstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/pkg/sftp"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// answerError is an error of our own about what the server said: the connection works.
type answerError struct{ error }

func (e answerError) Unwrap() error { return e.error }

// answered reports whether err is what the server said, or nil: the connection works.
func answered(err error) bool {
	var status *sftp.StatusError
	var saying answerError
	switch {
	case err == nil, isFinal(err), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.As(err, &saying):
		return true
	case errors.As(err, &status):
		return status.FxCode() != sftp.ErrSSHFxConnectionLost && status.FxCode() != sftp.ErrSSHFxNoConnection
	}
	return false
}

// fullBytes is how little room a disk has that counts as full: our choice.
const fullBytes = 1 << 20

// failedOrNil is failed where err is one.
func (s *Store) failedOrNil(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	return s.failed(ctx, op, key, err)
}

// failed returns the error of op on key, which may be empty, sorted by what can be done
// about it.
func (s *Store) failed(ctx context.Context, op, key string, err error) error {
	if key != "" {
		op += " " + key
	}
	if cause := store.Ended(ctx); cause != nil {
		return fmt.Errorf("%s: %w", op, cause)
	}
	var status *sftp.StatusError
	kind, hint := pgmedic.KindUnreachable, "look at the network and the server, and run it again"
	switch {
	case isFinal(err):
		return fmt.Errorf("%s: %w", op, err)
	case errors.Is(err, errNoFolder):
		return fmt.Errorf("%w: %w", errNoFolder, store.Exists(key))
	case errors.Is(err, errGone), errors.Is(err, fs.ErrNotExist):
		hint = fmt.Sprintf("check that %s is there on %s, and the disk that holds it is mounted", s.o.Dir, s.o.Host)
	case errors.Is(err, fs.ErrPermission):
		hint = fmt.Sprintf("let %s read and write all of %s on %s", s.o.User, s.o.Dir, s.o.Host)
	case errors.As(err, &status) && answered(err):
		hint = fmt.Sprintf("look at the disk of %s: SFTP does not say what is wrong", s.o.Host)
		if s.isFull(ctx) {
			kind, hint = pgmedic.KindFailed, fmt.Sprintf("free space in %s on %s", s.o.Dir, s.o.Host)
			return pgmedic.Errorf(kind, hint, "%s: %s: no room is left: %w", op, s.name, err)
		}
	}
	var dns *net.DNSError
	unknown := errors.As(err, &dns) && dns.IsNotFound
	return &pgmedic.Error{
		Kind: kind, Hint: hint, Temporary: !answered(err) && !unknown && !errors.Is(err, errGone),
		Err: fmt.Errorf("%s: %s: %w", op, s.name, err),
	}
}

// isFull reports whether the server says that the disk has no room. Most do, by an
// extension; of a quota none knows.
func (s *Store) isFull(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, cleanUpWithin)
	defer cancel()
	full := false
	err := s.try(ctx, func(l *line) error {
		if _, has := l.client.HasExtension("statvfs@openssh.com"); !has {
			return nil
		}
		disk, err := l.client.StatVFS(s.o.Dir)
		if err == nil {
			full = disk.Bavail*disk.Frsize < fullBytes || disk.Files > 0 && disk.Favail == 0
		}
		return err
	})
	return err == nil && full
}
