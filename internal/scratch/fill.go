package scratch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// Filling is where a cluster is put that a server then recovers. The folders exist and are
// empty.
type Filling struct {
	// DataDir is the folder of the cluster, and TablespacesDir that of its tablespaces.
	DataDir, TablespacesDir string
	// WALDir is beside the cluster's folder, as WALFolder. The server can only read it.
	WALDir string
	// OtherUser is true where the files must belong to user UID and group GID, because this
	// process runs as root.
	OtherUser bool
	UID, GID  int
}

// WALFolder is Filling.WALDir as a command of the server reaches it, from its data folder.
const WALFolder = "../" + walName

const walName = "wal"

// ErrEnded is found in the error of a server that ended by itself while it started. The
// error has the last lines of its log.
var ErrEnded = errors.New("the server ended")

// LogOf returns the last lines of the log of a server, from an error with ErrEnded.
func LogOf(err error) string {
	var died *diedError
	if errors.As(err, &died) {
		return died.log
	}
	return ""
}

// Is makes ErrEnded be found.
func (e *diedError) Is(target error) bool { return target == ErrEnded }

// fill has the caller make the cluster, and gives it the configuration of a scratch. That
// of the cluster itself is not used: it leads to the world outside.
func (s *Server) fill(ctx context.Context, opts Options) error {
	if err := s.folder.mkdir(walName); err != nil {
		return fmt.Errorf("make the folder of the WAL: %w", err)
	}
	own := func(name string) string { return filepath.Join(s.folder.path, name) }
	err := opts.Fill(ctx, Filling{
		DataDir: own(dataName), TablespacesDir: own(tablespacesName), WALDir: own(walName),
		OtherUser: s.folder.who.other, UID: s.folder.who.uid, GID: s.folder.who.gid,
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"} {
		if err := s.folder.root.Remove(filepath.Join(dataName, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set the cluster's own configuration aside: %w", err)
		}
		if err := s.folder.write(filepath.Join(dataName, name), ""); err != nil {
			return err
		}
	}
	return nil
}

// recovered waits until a server has recovered, however long it takes: until then it
// refuses every connection with one code (57P03, cannot_connect_now).
func (s *Server) recovered(ctx context.Context) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		conn, err := connect(ctx, s.dsn(s.superuser, "template1"))
		if err == nil || postgres.Code(err) != "" { // it is there, and recovers
			failpoint.Hit(ctx, "scratch-recovering")
		}
		switch code := postgres.Code(err); {
		case err == nil:
			postgres.Close(ctx, conn)
			return nil
		case code != "" && code != "57P03":
			return nil // it is open, though not for this role or to this database
		}
		select {
		case <-s.process.done:
			return &diedError{program: "postgres", err: s.process.err, log: s.folder.logTail()}
		case <-ctx.Done():
			return fmt.Errorf("wait for the recovery: %w (last answer: %w)", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// checkFill refuses options that a cluster which exists can't have.
func checkFill(opts Options) error {
	if opts.Fill != nil && (opts.Cage == nil || opts.Password != "" || opts.TCP || len(opts.InitArgs) > 0) {
		return pgmedic.Errorf(pgmedic.KindUsage, "start it in a cage, without a password", "a cluster that was not made here runs in a cage alone")
	}
	return nil
}

// Log returns what the server has written so far, at most 1 MiB of it, from the beginning.
func (s *Server) Log() (string, error) {
	text := make([]byte, 1<<20)
	n, err := s.folder.log.ReadAt(text, 0)
	if n == 0 && err != nil {
		return "", fmt.Errorf("read the log of the scratch server: %w", err)
	}
	return string(text[:n]), nil
}

// Halt ends the server as Stop does, and leaves its folder for Files and Stop.
func (s *Server) Halt(ctx context.Context) {
	s.stopping.Lock()
	defer s.stopping.Unlock()
	if s.stopped || s.process == nil {
		return
	}
	s.watch.end()
	s.end(ctx)
	endProcesses(s.folder.who.uid)
}

// Files returns the server's folder, in which the cluster is data, and the tablespaces that
// lie outside of it are below tablespaces. No link in it leads out of it. After Halt
// nothing changes it.
func (s *Server) Files() fs.FS { return s.folder.root.FS() }
