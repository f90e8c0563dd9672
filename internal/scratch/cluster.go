package scratch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// plainName matches the names that initdb takes as they are. Its set-up
// scripts quote some others wrongly.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// initialise runs initdb.
func (s *Server) initialise(ctx context.Context, opts Options) error {
	name := initialUser
	if plainName.MatchString(s.superuser) {
		name = s.superuser
	}
	args := []string{
		"--pgdata", s.DataDir(), "--username", name, "--auth", "trust", "--no-sync",
		"--encoding", opts.Encoding, "--locale", opts.Locale,
	}
	process, err := launch(s.command("initdb", append(args, opts.InitArgs...)...), nil)
	if err != nil {
		return s.cannotRun("initdb", err)
	}
	select {
	case <-process.done:
	case <-ctx.Done():
		process.killGroup()
		return context.Cause(ctx)
	}
	if process.err == nil {
		return nil
	}
	died := &diedError{program: "initdb", err: process.err, log: s.folder.logTail()}
	if !reachable(s.folder.path, s.folder.who) {
		return s.cannotRun("initdb", died)
	}
	return died
}

// cannotRun explains why a program doesn't run.
func (s *Server) cannotRun(program string, err error) error {
	err = fmt.Errorf("run %s: %w", filepath.Join(s.installation.BinDir, program), err)
	if s.folder.who.other && (errors.Is(err, fs.ErrPermission) || !reachable(s.folder.path, s.folder.who)) {
		return pgmedic.Errorf(pgmedic.KindUsage,
			fmt.Sprintf("let user %s read %s and pass to %s, or choose others",
				s.folder.who.name, s.installation.BinDir, filepath.Dir(s.folder.path)),
			"%w", err)
	}
	return err
}

// placing are the settings by which we find and end a server.
var placing = []string{
	"config_file", "data_directory", "external_pid_file", "hba_file", "listen_addresses",
	"logging_collector", "port", "unix_socket_directories", "unix_socket_permissions",
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$.]*$`)

func checkSetting(name, value string) error {
	if !settingName.MatchString(name) || strings.ContainsRune(value, 0) {
		return pgmedic.Errorf(pgmedic.KindUsage, "see PostgreSQL's documentation for the names of settings",
			"%q is not the name of a setting", name)
	}
	if slices.Contains(placing, strings.ToLower(name)) {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave it out",
			"the setting %s is the scratch server's own", name)
	}
	return nil
}

// configure appends to postgresql.conf and replaces pg_hba.conf.
func (s *Server) configure(opts Options) error {
	conf := []string{
		"# pgmedic's:",
		setting("cluster_name", "pgmedic scratch"),
		setting("listen_addresses", map[bool]string{true: "127.0.0.1"}[s.tcp]),
		// A list of names in double quotes, for a path may hold spaces.
		setting("unix_socket_directories", sqltext.QuoteIdent(s.SocketDir())),
		setting("unix_socket_permissions", "0700"),
		// Messages of errors are in English, so that they can be recognised,
		// and hold no rows: neither details nor statements.
		setting("lc_messages", "C"),
		setting("log_error_verbosity", "terse"),
		setting("log_min_error_statement", "panic"),
		setting("log_timezone", "UTC"),
		setting("timezone", "UTC"),
		// In the data folder, which is removed, and not in /dev/shm: there
		// rows would outlive a killed server, and containers have little room.
		setting("dynamic_shared_memory_type", "mmap"),
	}
	if !opts.Durable {
		for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
			conf = append(conf, setting(name, "off"))
		}
	}
	conf = append(conf, "# The caller's:")
	for _, name := range slices.Sorted(maps.Keys(opts.Settings)) {
		conf = append(conf, setting(name, opts.Settings[name]))
	}
	if err := s.folder.appendTo(filepath.Join(dataName, "postgresql.conf"), conf); err != nil {
		return fmt.Errorf("write postgresql.conf: %w", err)
	}
	access := []string{"local all all trust", "local replication all trust"}
	if s.tcp {
		access = append(access, "host all all 127.0.0.1/32 scram-sha-256",
			"host replication all 127.0.0.1/32 scram-sha-256")
	}
	text := strings.Join(access, "\n") + "\n"
	if err := s.folder.root.WriteFile(filepath.Join(dataName, "pg_hba.conf"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write pg_hba.conf: %w", err)
	}
	return nil
}

func (f *folder) appendTo(name string, lines []string) error {
	file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	return errors.Join(err, file.Close())
}

// setting returns a line of postgresql.conf.
func setting(name, value string) string {
	return name + " = '" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`).Replace(value) + "'"
}

// waitReady waits until the server takes connections.
func (s *Server) waitReady(ctx context.Context) error {
	if s.filled {
		return s.recovered(ctx)
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	user := initialUser
	if plainName.MatchString(s.superuser) {
		user = s.superuser
	}
	for {
		conn, err := connect(ctx, s.dsn(user, "postgres"))
		if err == nil {
			postgres.Close(ctx, conn)
			return nil
		}
		select {
		case <-s.process.done:
			return &diedError{program: "postgres", err: s.process.err, log: s.folder.logTail()}
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w (last answer: %w)", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// setUpRoles gives the bootstrap role the name that initdb couldn't, and its
// password.
func (s *Server) setUpRoles(ctx context.Context) error {
	if !plainName.MatchString(s.superuser) {
		if err := s.renameSuperuser(ctx); err != nil {
			return err
		}
	}
	if s.password == "" {
		return nil
	}
	return s.run(ctx, s.superuser,
		"SET password_encryption = 'scram-sha-256'",
		"ALTER ROLE "+sqltext.QuoteIdent(s.superuser)+" PASSWORD "+sqltext.QuoteLiteral(s.password))
}

// renameSuperuser renames the bootstrap role. No role can rename itself, so a
// second one does it.
func (s *Server) renameSuperuser(ctx context.Context) error {
	const helper = "pgmedic_rename"
	if err := s.run(ctx, initialUser, "CREATE ROLE "+helper+" SUPERUSER LOGIN"); err != nil {
		return err
	}
	rename := "ALTER ROLE " + initialUser + " RENAME TO " + sqltext.QuoteIdent(s.superuser)
	if err := s.run(ctx, helper, rename); err != nil {
		return fmt.Errorf("name the superuser %q: %w", s.superuser, err)
	}
	return s.run(ctx, s.superuser, "DROP ROLE "+helper)
}

// run executes statements in one session.
func (s *Server) run(ctx context.Context, user string, statements ...string) error {
	conn, err := connect(ctx, s.dsn(user, "postgres"))
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return postgres.Wrap(err, "set up the server's roles")
		}
	}
	return nil
}

func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	target, err := postgres.ParseTarget(dsn)
	if err != nil {
		return nil, err
	}
	return postgres.Connect(ctx, target)
}
