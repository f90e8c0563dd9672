package sftpstore

import (
	"bytes"
	"context"
	"errors"
	"os"

	"golang.org/x/crypto/ssh"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/rotation"
	"github.com/pgmedic/pgmedic/internal/store"
)

// login is what a connection logs in with, beside the keys of an agent, which is asked each
// time.
type login struct {
	password string     // empty is none
	key      ssh.Signer // nil is none
}

// same reports whether another login is the same.
func (l login) same(other login) bool {
	switch {
	case l.password != other.password, (l.key == nil) != (other.key == nil):
		return false
	case l.key == nil:
		return true
	}
	return bytes.Equal(l.key.PublicKey().Marshal(), other.key.PublicKey().Marshal())
}

// renewed returns the logins of complete options, of which l is the first.
func (l login) renewed(o Options) *rotation.Credential[login] {
	how := rotation.Options[login]{Same: login.same, Now: o.now}
	if o.RenewPassword != nil || o.IdentityFile != "" {
		how.Read = func(ctx context.Context) (login, error) {
			key, err := o.readKey()
			found := login{password: o.Password, key: key}
			if err == nil && o.RenewPassword != nil {
				found.password, err = o.RenewPassword(ctx)
			}
			return found, err
		}
	}
	return rotation.New(l, how)
}

// readKey reads the file of the private key, or returns nil where there is none.
func (o *Options) readKey() (ssh.Signer, error) {
	if o.IdentityFile == "" {
		return nil, nil
	}
	const look = "look at backup.sftp.identity_file"
	text, err := os.ReadFile(o.IdentityFile)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, look, "read the SSH key: %w", err)
	}
	if info, err := os.Stat(o.IdentityFile); err == nil && info.Mode().Perm()&0o077 != 0 {
		o.Logger.Warn("other users can read the SSH key; chmod 600 closes it", "file", o.IdentityFile, "mode", info.Mode().Perm().String())
	}
	key, err := ssh.ParsePrivateKey(text)
	var passphrase *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &passphrase):
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "add it to an SSH agent (ssh-add) and leave backup.sftp.identity_file out, or use a key without a passphrase",
			"the SSH key in %s has a passphrase", o.IdentityFile)
	case err != nil:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, look, "%s holds no SSH private key", o.IdentityFile)
	}
	return key, nil
}

// maxRenewals is how often a refused login is tried again with another one: once, and once
// more where it was replaced between its beginning and its sending.
const maxRenewals = 2

// dial opens a connection, with the login that has replaced the one before if the server
// refuses that. Where there is no other one, the error is the server's.
func (s *Store) dial(ctx context.Context) (*line, error) {
	for n := 0; ; n++ {
		as, generation := s.auth.logins.Current()
		l, err := s.dialAs(ctx, as)
		var refused *refusedError
		if !errors.As(err, &refused) || n == maxRenewals {
			return l, err
		}
		again, why := s.auth.logins.Renew(ctx, generation)
		switch {
		case store.Ended(ctx) != nil:
			return nil, store.Ended(ctx)
		case why != nil:
			hint := pgmedic.HintOf(why)
			if hint == "" {
				hint = pgmedic.HintOf(err)
			}
			return nil, pgmedic.Errorf(pgmedic.KindUnreachable, hint, "%w; the login can't be read again where it is kept: %s", err, why.Error())
		case !again:
			return nil, err
		}
		s.log.Info("the store refused the login; going on with the one that replaced it", "store", s.name)
	}
}

// refusedError is the handshake's error of a server that does not accept a login.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }
