package scratch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// StandbyOptions say how a standby is started.
type StandbyOptions struct {
	// Name is what the primary sees as the standby's application_name. Empty
	// means standby.
	Name string
	// Settings are as in Options.
	Settings map[string]string
}

// StartStandby starts a streaming standby of a running scratch server, of the
// same version, superuser and password, and listening as that one does. It has a
// folder and a Stop of its own, and ends before its primary does: the primary
// keeps its WAL for it in a slot of the standby's name. It is for tests.
//
// The copy is an online base backup over the server's own functions, because the
// version at hand may come without pg_basebackup.
func StartStandby(ctx context.Context, primary *Server, opts StandbyOptions) (_ *Server, err error) {
	if opts.Name == "" {
		opts.Name = "standby"
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %s", words.Duration(startTimeout)))
	defer cancel()
	dir, err := makeFolder(filepath.Dir(primary.folder.path), primary.folder.who)
	if err != nil {
		return nil, err
	}
	server := &Server{
		installation: primary.installation, superuser: primary.superuser, password: primary.password,
		port: socketPort, tcp: primary.tcp, folder: dir, logger: primary.logger,
	}
	started := false
	defer func() {
		if !started {
			err = errors.Join(err, server.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if err := server.follow(ctx, primary, opts); err != nil {
		return nil, fmt.Errorf("start a standby of a scratch server: %w", err)
	}
	started = true
	return server, nil
}

// follow copies the primary's cluster and starts a server on the copy.
func (s *Server) follow(ctx context.Context, primary *Server, opts StandbyOptions) error {
	conn, err := connect(ctx, primary.dsn(primary.superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to the primary: %w", err)
	}
	defer postgres.Close(ctx, conn)
	begin, end := "SELECT pg_catalog.pg_backup_start($1, true)::text", "SELECT labelfile FROM pg_catalog.pg_backup_stop(false)"
	if primary.Major() < 15 {
		begin, end = "SELECT pg_catalog.pg_start_backup($1, true, false)::text", "SELECT labelfile FROM pg_catalog.pg_stop_backup(false, false)"
	}
	ask := func(sql string, args ...any) (answer string, err error) {
		return answer, postgres.Wrap(conn.QueryRow(ctx, sql, args...).Scan(&answer), "make a base backup of the primary")
	}
	if _, err := ask("SELECT slot_name::text FROM pg_catalog.pg_create_physical_replication_slot($1, true)", opts.Name); err != nil {
		return err
	}
	if _, err := ask(begin, opts.Name); err != nil {
		return err
	}
	if err := s.folder.copyCluster(primary.DataDir()); err != nil {
		return fmt.Errorf("copy the cluster: %w", err)
	}
	label, err := ask(end)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"backup_label": label, "standby.signal": ""} {
		if err := s.folder.write(path.Join(dataName, name), text); err != nil {
			return err
		}
	}
	settings := map[string]string{
		"primary_conninfo":  primary.dsn(primary.superuser, "postgres") + " application_name=" + quoteDSN(opts.Name),
		"primary_slot_name": opts.Name, "hot_standby": "on",
		// It asks again at once for WAL that is not there yet.
		"wal_retrieve_retry_interval": "50ms", "wal_receiver_status_interval": "1s",
	}
	for name, value := range opts.Settings {
		if err := checkSetting(name, value); err != nil {
			return err
		}
		settings[name] = value
	}
	if err := s.configure(Options{Settings: settings}); err != nil {
		return err
	}
	// It takes connections once it has replayed to a consistent state.
	return s.launchServer(ctx)
}

// transient are the folders of a cluster whose files a copy does not take: WAL
// is streamed, the rest is made at the start.
var transient = []string{
	"pg_wal", "pg_wal/archive_status", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans",
}

// copyCluster copies the files of a running server's cluster into our own. One
// that goes away meanwhile is of no use to a standby.
func (f *folder) copyCluster(from string) error {
	return filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, name)
		if err != nil || relative == "." {
			return err
		}
		to := filepath.Join(dataName, relative)
		switch {
		case filepath.Dir(relative) == "pg_replslot": // the primary's slots are its own
			return fs.SkipDir
		case entry.IsDir():
			return f.mkdir(to)
		case entry.Type()&fs.ModeSymlink != 0:
			return pgmedic.Errorf(pgmedic.KindUsage, "", "%s: a standby on the same machine can't have its primary's tablespaces", relative)
		case !entry.Type().IsRegular(), slices.Contains([]string{"postmaster.pid", "postmaster.opts"}, relative),
			slices.Contains(transient, filepath.Dir(relative)):
			return nil
		}
		return f.copyFile(name, to)
	})
}

func (f *folder) copyFile(from, to string) error {
	source, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := f.root.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if err = errors.Join(err, target.Close()); err != nil {
		return err
	}
	return f.giveAway(to)
}

func (f *folder) write(name, text string) error {
	if err := f.root.WriteFile(name, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.giveAway(name)
}
