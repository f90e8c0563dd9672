package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/store/sftpstore"
)

// openSFTP opens a store on another host. With mustExist it is only read, or tried.
func openSFTP(ctx context.Context, place config.Place, o config.SFTP, mustExist bool, renew func(context.Context) (string, error), log *slog.Logger) (*sftpstore.Store, error) {
	known := o.KnownHosts
	if known == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "set sftp.known_hosts (PGMEDIC_SFTP_KNOWN_HOSTS)", "there is no home folder to look for known SSH hosts in: %w", err)
		}
		known = filepath.Join(home, ".ssh", "known_hosts")
	}
	return sftpstore.New(ctx, sftpstore.Options{
		User: place.User, Host: place.Host, Port: place.Port, Dir: place.Path, MustExist: mustExist,
		KnownHosts: known, IdentityFile: o.IdentityFile, AgentSocket: os.Getenv("SSH_AUTH_SOCK"), Password: o.Password.Reveal(), RenewPassword: renew,
		Connections: o.Connections, Logger: log,
	})
}
