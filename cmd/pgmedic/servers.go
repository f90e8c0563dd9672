package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// target says how to reach the configured database.
func (s servers) target() (postgres.Target, error) {
	c := s.cfg.Connection()
	var t postgres.Target
	if c.URL != "" {
		key := "database.url"
		if c.URL == s.cfg.Database.DirectURL {
			key = "database.direct_url"
		}
		var err error
		if t, err = postgres.ParseTarget(c.URL.Reveal()); err != nil {
			return t, fmt.Errorf("%s: %w", s.cfg.Origin(key), err)
		}
		t = t.Below(s.cfg.Folder(key))
	}
	port := ""
	if c.Port != 0 {
		port = strconv.Itoa(c.Port)
	}
	for _, p := range []struct{ keyword, value string }{
		{"host", c.Host}, {"port", port}, {"dbname", c.Database}, {"user", c.User}, {"password", c.Password.Reveal()},
	} {
		if p.value != "" {
			t = t.With(p.keyword, p.value)
		}
	}
	if c.ConnectTimeoutSet || !t.Has("connect_timeout") && c.ConnectTimeout > 0 {
		seconds := int((c.ConnectTimeout + time.Second - 1) / time.Second)
		t = t.With("connect_timeout", strconv.Itoa(seconds))
	}
	if s.secrets == nil { // of the demo
		return t, nil
	}
	return renewed(t, s.cfg, s.secrets.Fresh), nil
}

// databaseTarget is target for commands that work on one database, which must
// be named somewhere: guessing the role's own name does not help.
func (s servers) databaseTarget(named string) (postgres.Target, error) {
	t, err := s.target()
	if err != nil {
		return t, err
	}
	if named != "" {
		t = t.WithDatabase(named)
	}
	if t.Database() == "" && !environmentNames("PGDATABASE", "PGSERVICE") && !t.Has("service") {
		return t, pgmedic.Errorf(pgmedic.KindUsage, "name one: on the command line, with DB_NAME, or in DATABASE_URL",
			"no database is named")
	}
	return t, nil
}

// databaseName is the database that a target means, from libpq's environment
// and service files where the target leaves it to them; or empty.
func databaseName(t postgres.Target) string {
	if name := t.Database(); name != "" {
		return name
	}
	// Read and not connected with; what it complains about is reported by the
	// commands that connect.
	cfg, err := pgx.ParseConfig(t.Conninfo())
	if err != nil {
		return ""
	}
	return cfg.Database
}

func environmentNames(names ...string) bool {
	for _, name := range names {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// replicas are the standbys whose sessions a swap ends.
func (s servers) replicas() ([]postgres.Target, error) {
	var targets []postgres.Target
	for _, u := range s.cfg.ReadReplicas() {
		if strings.ContainsAny(u.Reveal(), " \t\n") && strings.Contains(u.Reveal(), "://") {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "separate URLs by commas or spaces, and percent-encode a space in one as %20",
				"%s: a part of it is not a URL", s.cfg.Origin("database.read_replica_url"))
		}
		t, err := postgres.ParseTarget(u.Reveal())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.cfg.Origin("database.read_replica_url"), err)
		}
		targets = append(targets, s.renewedStandby(t.Below(s.cfg.Folder("database.read_replica_url"))))
	}
	return targets, nil
}

// serverName is the name that this host's backups are filed under.
func (s servers) serverName(ctx context.Context) (string, error) {
	if s.cfg.Server != "" {
		return s.cfg.Server, nil
	}
	t, err := s.target()
	if err != nil {
		return "", err
	}
	conn, err := postgres.Connect(ctx, t.WithDatabase(s.cfg.Database.MaintenanceDatabase))
	if err != nil {
		return "", err
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err == nil && server.SystemIdentifier == "" {
		err = pgmedic.Errorf(pgmedic.KindUsage, "name it: --server NAME", "the server does not say which it is")
	}
	return server.SystemIdentifier, err
}
