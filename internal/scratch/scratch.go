// Package scratch starts private PostgreSQL servers that are thrown away: for
// drills, for the demo and for tests.
//
// A server is made of installed programs (initdb and postgres, nothing else of
// PostgreSQL is needed), runs as an unprivileged user, has a 0700 folder, a
// socket and a port of its own, and is gone with its folder when Stop returns.
// Callers write
//
//	server, err := scratch.Start(ctx, options)
//	if err != nil { … }
//	defer server.Stop(context.WithoutCancel(ctx))
//
// so that an error, a panic and an interrupt all end it. What a killed process
// could not end is ended by the kernel (on Linux the server dies with the
// thread that started it) and its folder is removed by the next Start or
// Sweep.
package scratch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say what server Start starts. The zero Options start the newest
// installed PostgreSQL, without durability, on a Unix socket only.
type Options struct {
	// Major is the wanted major version. Zero means the newest found.
	Major int
	// BinDir is the folder that holds initdb and postgres. Empty means that
	// Find looks for them.
	BinDir string
	// SearchDirs are further places where Find looks, see FindOptions.
	SearchDirs []string
	// Parent is the folder in which the server's own folder is made. Empty
	// means os.TempDir, or /tmp where the former is too long for the path of
	// a socket or the server's user can't reach it.
	Parent string
	// Superuser is the name of the bootstrap role. Any name that PostgreSQL
	// takes is fine, quotes and spaces included. Empty means postgres.
	Superuser string
	// Password is asked for over TCP, where it is never left out: empty means
	// a random one. The socket needs none, since only the server's user and
	// root can reach it.
	Password string
	// Encoding and Locale are those of the template databases. Empty means
	// UTF8 and C.
	Encoding, Locale string
	// InitArgs are further arguments for initdb, such as --data-checksums.
	InitArgs []string
	// Durable keeps fsync, full_page_writes and synchronous_commit on, as on
	// a production server: a time to recover means something only so. False
	// turns all three off.
	Durable bool
	// Settings are written to postgresql.conf after ours and win over them.
	// Those that say where the server is (port, data_directory, …) are
	// refused.
	Settings map[string]string
	// TCP makes the server listen on a free port of 127.0.0.1 also.
	TCP bool
	// Cage keeps what runs in the server away from the rest of the machine. Nil
	// means that it can do what its user can. It excludes TCP.
	Cage *Cage
	// OSUser is the user who runs the server if we are root, since PostgreSQL
	// refuses to run as root. Empty means postgres, or nobody where there is
	// no such user. It is not used if we are not root. In a cage this user runs
	// initdb, and the server gets a user id of its own.
	OSUser string
	// Fill puts a cluster into the server's folder, in place of a new one: Superuser must
	// be its bootstrap role, Encoding and Locale are its own, and what is set of its
	// configuration is Settings alone. Then Start waits for as long as the server recovers.
	// It needs a Cage. Nil means a new cluster.
	Fill func(ctx context.Context, f Filling) error
	// Logger receives what the server does; nil discards it.
	Logger *slog.Logger
}

const (
	startTimeout = time.Minute
	// initialUser is the bootstrap role for names that initdb can't take.
	initialUser = "postgres"
	socketPort  = 5432
)

// Server is a running server. Its methods may be called from several
// goroutines.
type Server struct {
	installation Installation
	superuser    string
	password     string
	port         int
	tcp          bool
	cage         *Cage
	// filled is true for a cluster that was not made here.
	filled  bool
	walls   Walls
	folder  *folder
	process *process
	logger  *slog.Logger

	stopping sync.Mutex
	stopped  bool
	watch    *diskWatch
}

// Start makes a new cluster and starts a server on it; it returns once the
// server accepts connections. The context bounds the start alone: afterwards
// the server runs until Stop. If Start fails, it leaves nothing behind. Start
// also sweeps, see Sweep.
//
// It returns an error of KindUsage if no matching PostgreSQL is installed or
// an option is impossible.
func Start(ctx context.Context, opts Options) (_ *Server, err error) {
	opts, err = checkOptions(opts)
	if err != nil {
		return nil, err
	}
	installation, err := choose(ctx, opts)
	if err != nil {
		return nil, err
	}
	account, err := serverAccount(opts.OSUser)
	if err != nil {
		return nil, err
	}
	caged, err := cagedAccount(opts.Cage, account)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			caged.release()
		}
	}()
	parent, err := chooseParent(opts.Parent, account, caged)
	if err != nil {
		return nil, err
	}
	if _, err := Sweep(ctx, SweepOptions{Parent: parent, Logger: opts.Logger}); err != nil {
		opts.Logger.Warn("an old scratch server could not be removed", "error", err)
	}

	if opts.Fill == nil {
		limited, cancel := context.WithTimeoutCause(ctx, startTimeout,
			fmt.Errorf("not ready after %s", words.Duration(startTimeout)))
		defer cancel()
		ctx = limited
	}
	began := time.Now()
	dir, err := makeFolder(parent, account)
	if err != nil {
		return nil, err
	}
	server := &Server{
		installation: installation,
		superuser:    opts.Superuser,
		password:     opts.Password,
		port:         socketPort,
		tcp:          opts.TCP,
		cage:         opts.Cage,
		filled:       opts.Fill != nil,
		folder:       dir,
		logger:       opts.Logger,
	}
	started := false
	defer func() {
		// Not for errors alone: a panic leaves err nil.
		if !started {
			err = errors.Join(err, server.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if err := server.start(ctx, opts, caged); err != nil {
		return nil, fmt.Errorf("start a PostgreSQL %s scratch server: %w", installation.Version, err)
	}
	started = true
	opts.Logger.Debug("scratch server started", "version", installation.Version,
		"dir", dir.path, "pid", server.PID(), "duration", time.Since(began))
	return server, nil
}

// start runs initdb, starts the server, and gives it its roles.
func (s *Server) start(ctx context.Context, opts Options, caged account) error {
	prepare := s.initialise
	if s.filled {
		prepare = s.fill
	}
	if err := prepare(ctx, opts); err != nil {
		return err
	}
	if err := s.configure(opts); err != nil {
		return err
	}
	if s.cage != nil {
		if err := s.folder.handOver(caged); err != nil {
			return fmt.Errorf("hand the folder over to the server's user: %w", err)
		}
	}
	if err := s.launchServer(ctx); err != nil {
		return err
	}
	if s.cage != nil {
		if err := s.folder.closeSocketFolder(); err != nil {
			return fmt.Errorf("close the folder of the socket: %w", err)
		}
		s.watch = s.watchDisk()
	}
	if s.filled {
		return nil
	}
	return s.setUpRoles(ctx)
}

// checkOptions fills in defaults and refuses what can't work.
func checkOptions(opts Options) (Options, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Superuser == "" {
		opts.Superuser = initialUser
	}
	if opts.Encoding == "" {
		opts.Encoding = "UTF8"
	}
	if opts.Locale == "" {
		opts.Locale = "C"
	}
	if opts.TCP && opts.Cage != nil {
		return opts, pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "a server in a cage can't listen on a network")
	}
	if opts.TCP && opts.Password == "" {
		opts.Password = rand.Text()
	}
	// A longer name would be cut by the server, and then not be found.
	if len(opts.Superuser) > 63 || strings.ContainsRune(opts.Superuser, 0) ||
		strings.HasPrefix(opts.Superuser, "pg_") {
		return opts, pgmedic.Errorf(pgmedic.KindUsage,
			"choose a name of at most 63 bytes that doesn't begin with pg_",
			"PostgreSQL takes no role named %q", opts.Superuser)
	}
	if err := checkFill(opts); err != nil {
		return opts, err
	}
	if opts.Cage != nil {
		cage := opts.Cage.withDefaults()
		opts.Cage = &cage
	}
	for name, value := range opts.Settings {
		if err := checkSetting(name, value); err != nil {
			return opts, err
		}
	}
	return opts, nil
}

// Version returns the server's version, such as 15.20.
func (s *Server) Version() string { return s.installation.Version }

// Major returns the server's major version.
func (s *Server) Major() int { return s.installation.Major }

// Walls returns what keeps the content of the server from the machine, as it was
// seen when the server started. Without a cage all are missing.
func (s *Server) Walls() Walls { return s.walls }

// Overrun returns why the server was ended, if it was because its folder grew
// beyond Cage.DiskBytes, and nil otherwise.
func (s *Server) Overrun() error { return s.watch.overrun() }

// BinDir returns the folder of the server's programs.
func (s *Server) BinDir() string { return s.installation.BinDir }

// Superuser returns the name of the bootstrap role.
func (s *Server) Superuser() string { return s.superuser }

// Password returns the superuser's password for TCP, or an empty text for a
// server without TCP that was given none.
func (s *Server) Password() string { return s.password }

// Dir returns the server's own folder, which Stop removes. The cluster is in
// its folder data.
func (s *Server) Dir() string { return s.folder.path }

// DataDir returns the folder of the cluster.
func (s *Server) DataDir() string { return filepath.Join(s.folder.path, dataName) }

// SocketDir returns the folder of the server's Unix socket: what libpq takes
// as host.
func (s *Server) SocketDir() string { return filepath.Join(s.folder.path, socketName) }

// Port returns the server's port, which is part of the socket's name too.
func (s *Server) Port() int { return s.port }

// PID returns the process id of the postmaster.
func (s *Server) PID() int { return s.process.cmd.Process.Pid }

// Done is closed when the server's process has ended, whoever ended it.
func (s *Server) Done() <-chan struct{} { return s.process.done }

// DSN returns a libpq connection string of keywords and values that connects
// to a database through the socket as the superuser.
func (s *Server) DSN(database string) string { return s.dsn(s.superuser, database) }

func (s *Server) dsn(user, database string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable",
		quoteDSN(s.SocketDir()), s.port, quoteDSN(user), quoteDSN(database))
}

// URL returns a connection URL to a database over TCP as the superuser. It
// holds the password, so it must not be logged or be put into argv. On a
// server without TCP it returns a URL of the socket.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + database}
	query := url.Values{"sslmode": {"disable"}}
	if !s.tcp {
		u.User = url.User(s.superuser)
		query.Set("host", s.SocketDir())
		query.Set("port", strconv.Itoa(s.port))
	} else {
		u.User = url.UserPassword(s.superuser, s.password)
		u.Host = "127.0.0.1:" + strconv.Itoa(s.port)
	}
	// libpq and pgx take a plus sign in a query for itself, not for a space.
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return u.String()
}

// TablespaceDir returns a folder inside the server's own, made if it is not
// there, in which the server can put a tablespace of the given name.
func (s *Server) TablespaceDir(name string) (string, error) {
	// Escaped: a tablespace may be named "../x" or hold a quote, which the
	// server refuses in a location.
	relative := filepath.Join(tablespacesName, "of-"+url.PathEscape(name))
	if err := s.folder.mkdir(relative); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make a folder for tablespace %q: %w", name, err)
	}
	return filepath.Join(s.folder.path, relative), nil
}

// quoteDSN quotes a value for a connection string of keywords and values.
func quoteDSN(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
