package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/secret"
	"github.com/pgmedic/pgmedic/internal/words"
)

// readsNoSecrets annotates a command that reads no secrets when it begins.
const readsNoSecrets = "reads-no-secrets"

func withoutSecrets(cmd *cobra.Command) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[readsNoSecrets] = "true"
}

// connects reports whether a command opens sessions: it has the flags that say where.
func connects(cmd *cobra.Command) bool { return cmd.Flags().Lookup("url") != nil }

// newResolver follows references to secrets.
func newResolver(cfg *config.Config, environ []string) *secret.Resolver {
	return secret.New(secret.Options{Getenv: cfg.Environment, Environ: environ})
}

// readSecrets reads the secrets that the command can need and that are kept elsewhere.
// Those of a connection are left alone where none is opened, but for the URL, which says
// of which database the backups are.
func readSecrets(ctx context.Context, cmd *cobra.Command, cfg *config.Config, resolve config.Resolve) error {
	if cmd.Annotations[readsNoSecrets] != "" {
		return nil
	}
	for _, r := range cfg.Unread() {
		if config.ForNotifications(r.Key) { // which the job must not wait for
			continue
		}
		switch r.Key {
		case "database.password", "database.read_replica_url", "drill.scratch_url":
			if !connects(cmd) {
				continue
			}
		}
		if err := cfg.Read(ctx, r.Key, resolve); err != nil {
			return err
		}
	}
	return nil
}

// checkSecrets reads each secret that is kept elsewhere, and says how long it took.
func checkSecrets(ctx context.Context, cfg *config.Config, resolve config.Resolve, now func() time.Time, l *checklist) {
	for _, r := range cfg.Unread() {
		began := now()
		if err := cfg.Read(ctx, r.Key, resolve); err != nil {
			l.fail("secret", err)
			continue
		}
		l.ok("secret", "%s was read from %s in %s", r.Key, strings.TrimSuffix(r.String(), " (not read)"), words.Duration(now().Sub(began)))
	}
}

// renewed makes a target ask for its password again where the server refuses it, if it
// is kept where it can change meanwhile.
func renewed(t postgres.Target, cfg *config.Config, resolve config.Resolve) postgres.Target {
	c := cfg.Connection()
	key := "database.password"
	if c.Password == "" && c.URL != "" {
		if key = "database.url"; c.URL == cfg.Database.DirectURL {
			key = "database.direct_url"
		}
	}
	if !cfg.Kept(key) {
		return t
	}
	return t.Renewed(func(ctx context.Context) (string, error) {
		if key == "database.password" {
			text, _, err := cfg.Again(ctx, key, resolve)
			return text, err
		}
		return passwordAgain(ctx, t, cfg, key, resolve)
	})
}

// renewedStandby is renewed for a standby, and renewedScratch for the server to drill on: their
// passwords are in their URLs.
func (s servers) renewedStandby(t postgres.Target) postgres.Target {
	return s.renewedBy(t, "database.read_replica_url")
}

func (s servers) renewedScratch(t postgres.Target) postgres.Target {
	return s.renewedBy(t, "drill.scratch_url")
}

func (s servers) renewedBy(t postgres.Target, key string) postgres.Target {
	if s.secrets == nil || !s.cfg.Kept(key) {
		return t
	}
	return t.Renewed(func(ctx context.Context) (string, error) { return passwordAgain(ctx, t, s.cfg, key, s.secrets.Fresh) })
}

// passwordAgain reads the password of a target again from a setting of one URL or of several,
// which may have changed: of several it is that of the URL that leads to the same server as
// the same role, so that no server is sent the password of another.
func passwordAgain(ctx context.Context, t postgres.Target, cfg *config.Config, key string, resolve config.Resolve) (string, error) {
	text, _, err := cfg.Again(ctx, key, resolve)
	if err != nil {
		return "", err
	}
	for _, u := range config.ReplicaURLs(config.Secret(text)) {
		again, err := postgres.ParseTarget(u.Reveal())
		if err != nil {
			return "", pgmedic.Errorf(pgmedic.KindUsage, "correct it where it is kept", "%s as it is kept now: %w", key, err)
		}
		same := func(part string) bool { return again.Value(part) == t.Value(part) }
		if key != "database.read_replica_url" || same("host") && same("port") && same("user") {
			return again.Password(), nil
		}
	}
	return "", pgmedic.Errorf(pgmedic.KindUsage, "write it there again, or run the command again to use what is there now", "%s as it is kept now has no URL of this server and role", key)
}
