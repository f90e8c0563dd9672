// Package sftpstore is a store.Store of the files below a folder of another host, over
// SFTP.
package sftpstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// DefaultPort is SSH's.
	DefaultPort = 22
	// DefaultConnections is how many connections a Store opens at most.
	DefaultConnections = 4

	fileMode = 0o600 // of every file that is made, whatever the server's umask
	dirMode  = 0o700 // of every folder that is made, likewise

	// attempts is how often a request is tried whose connection was lost. With the
	// pauses between them that takes some three seconds.
	attempts = 6
	// cleanUpWithin bounds what is done after the caller's context has ended.
	cleanUpWithin = 15 * time.Second
)

// Options say where a Store keeps its objects, and how it gets there.
type Options struct {
	// User and Host are whom to log in as, and where. There is no default.
	User, Host string
	// Port is the server's. Zero is 22.
	Port int
	// Dir is the folder there, an absolute path. There is no default. One that doesn't
	// exist is made, with its parents.
	Dir string
	// MustExist refuses a Dir that doesn't exist with pgmedic.KindNotFound rather than
	// making it, and takes a server that can only be read, which Put then refuses.
	MustExist bool
	// KnownHosts is the file of the host keys that are trusted, in OpenSSH's form. There
	// is no default. A key that is not in it is refused.
	KnownHosts string
	// IdentityFile is a file of a private key that has no passphrase. Empty is none.
	IdentityFile string
	// AgentSocket is where an SSH agent listens, whose keys are used after that of
	// IdentityFile. Empty is none.
	AgentSocket string
	// Password is what the server asks for where no key will do. Empty is none.
	Password string
	// RenewPassword returns it again where it is kept, whatever is known of it, after the
	// server has refused a login. It is called by one goroutine at a time, and not more
	// often than every ten seconds, as IdentityFile is read again. Nil: it can't have
	// changed.
	RenewPassword func(ctx context.Context) (string, error)
	// Connections is how many connections are opened at most. Each is opened when there is
	// no idle one. Zero is DefaultConnections.
	Connections int
	// Logger receives warnings about oddities that are not errors; nil discards them.
	Logger *slog.Logger

	// askEvery and answerWithin say when a connection counts as lost on which nothing
	// comes back; tests have shorter ones.
	askEvery, answerWithin time.Duration
	// now tells when the login was read again; tests have their own. Nil: time.Now.
	now func() time.Time
}

// Store is a store.Store of files below one folder of a server that speaks SFTP, key by
// key: the object "a/b" is the file b in the folder a. It makes files with mode 0600 and
// folders with mode 0700.
//
// Put writes to a temporary file in the object's folder, whose name begins with
// store.TempPrefix, has the server flush it to its disk, links it to its name, which
// fails if that is taken, and removes the temporary name. The server must have the
// extensions fsync@openssh.com and hardlink@openssh.com for that; one that has not can be
// read only. There is no request of SFTP that flushes a folder: a name that was just made
// is as durable as the server's file system makes it without.
//
// A connection that is lost is opened again for what may be repeated: looking, listing,
// reading on, deleting, beginning a Put and ending it. A Put whose data was on its way
// fails. A connection for which the server refuses the login has another one if the
// password, or the file of the key, has changed meanwhile. The server's host key must be in KnownHosts before, and nothing is sent to a
// server that has another one.
//
// Symbolic links and special files are not objects. Links among the folders above a key
// are followed, as the server does.
type Store struct {
	o    Options
	name string
	log  *slog.Logger
	auth *authenticator

	mu    sync.Mutex
	slots []*slot
	// calls are requests on their way and what watches connections.
	calls sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// New connects to the server and looks whether it can do what a Store needs. The caller
// closes the Store. What must be corrected in the options, and a server that lacks what
// is needed, is a pgmedic.KindUsage error.
func New(ctx context.Context, o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	auth, err := newAuthenticator(o)
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, name: o.String(), log: o.Logger, auth: auth}
	for range o.Connections {
		s.slots = append(s.slots, &slot{opening: make(chan struct{}, 1)})
	}
	if err := s.openDir(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// complete fills in defaults and refuses what makes no sense.
func (o *Options) complete() error {
	bad := func(hint, format string, args ...any) error {
		return pgmedic.Errorf(pgmedic.KindUsage, hint, "SFTP store: "+format, args...)
	}
	const form = "write sftp://user@host/path"
	switch {
	case o.User == "":
		return bad(form, "no user is given")
	case o.Host == "" || strings.ContainsAny(o.Host, "/@ "):
		return bad(form, "no host is given, or not the name of one")
	case o.Port < 0 || o.Port > 65535:
		return bad("write sftp://user@host:22/path", "%d is not a port", o.Port)
	case !path.IsAbs(o.Dir) || path.Clean(o.Dir) == "/":
		return bad(form, "the folder must be an absolute path below /")
	case o.Connections < 0 || o.Connections > 64:
		return bad("", "connections are from 1 to 64")
	case o.KnownHosts == "":
		return bad("set backup.sftp.known_hosts to the file that has the server's host key", "no file of known hosts is given")
	case o.IdentityFile == "" && o.AgentSocket == "" && o.Password == "":
		return bad("set backup.sftp.identity_file or backup.sftp.password, or start an SSH agent (SSH_AUTH_SOCK)",
			"there is no key and no password to log in with")
	}
	o.Dir = path.Clean(o.Dir)
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	if o.Connections == 0 {
		o.Connections = DefaultConnections
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.askEvery == 0 {
		o.askEvery, o.answerWithin = 15*time.Second, 45*time.Second
	}
	return nil
}

// String names the place as a URL.
func (o Options) String() string {
	host := o.Host
	if o.Port != 0 && o.Port != DefaultPort {
		host = o.address()
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return "sftp://" + o.User + "@" + host + o.Dir
}

func (o Options) address() string { return net.JoinHostPort(o.Host, strconv.Itoa(o.Port)) }

// String names the user, the host and the folder.
func (s *Store) String() string { return s.name }

// Close ends the connections. No method may be called afterwards.
func (s *Store) Close() error {
	for _, one := range s.slots {
		if one.line != nil {
			one.line.end()
		}
	}
	s.calls.Wait()
	return nil
}

// openDir looks whether Dir is there, and makes it where it may.
func (s *Store) openDir(ctx context.Context) error {
	const op = "open"
	var info fs.FileInfo
	err := s.try(ctx, func(l *line) (err error) {
		if l.lacking != nil && !s.o.MustExist {
			return l.lacking
		}
		info, err = l.client.Stat(s.o.Dir)
		return err
	})
	switch {
	case isFinal(err):
		return err
	case errors.Is(err, fs.ErrNotExist) && s.o.MustExist:
		return pgmedic.Errorf(pgmedic.KindNotFound, "check the path, and that the disk that holds it is mounted there", "folder %s does not exist on %s", s.o.Dir, s.o.Host)
	case errors.Is(err, fs.ErrNotExist):
		err = s.try(ctx, func(l *line) error { return makeAll(l.client, s.o.Dir) })
		return s.failedOrNil(ctx, "make folder", s.o.Dir, err)
	case err != nil:
		return s.failed(ctx, op, "", err)
	case !info.IsDir():
		return pgmedic.Errorf(pgmedic.KindUnreachable, "name a folder", "%s is not a folder", s.name)
	}
	if info.Mode().Perm()&0o007 != 0 {
		s.log.Warn("the backup folder is open to other users of its host; chmod o-rwx closes it", "store", s.name, "mode", info.Mode().Perm().String())
	}
	return nil
}

// makeAll makes a folder and its parents as far as they are missing.
func makeAll(c *sftp.Client, dir string) error {
	info, err := c.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is a file", dir)
	case !errors.Is(err, fs.ErrNotExist) || dir == "/":
		return err
	}
	if err := makeAll(c, path.Dir(dir)); err != nil {
		return err
	}
	if err := c.Mkdir(dir); err != nil {
		if info, e := c.Stat(dir); e == nil && info.IsDir() {
			return nil // by another process, just now
		}
		return err
	}
	return c.Chmod(dir, dirMode)
}

// begin checks what every method checks first.
func (s *Store) begin(ctx context.Context, op, key string) error {
	if err := store.CheckKey(key); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := store.Ended(ctx); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	return nil
}

// file is the path of a key.
func (s *Store) file(key string) string {
	if key == "." {
		return s.o.Dir
	}
	return s.o.Dir + "/" + key
}

func (s *Store) stat(ctx context.Context, name string) (info fs.FileInfo, err error) {
	err = s.try(ctx, func(l *line) error {
		var err error
		info, err = l.client.Stat(name)
		return err
	})
	return info, err
}

// lstat returns the file of an object, or nil where key is none: nothing is there, or a
// folder, a link or a special file.
func (s *Store) lstat(ctx context.Context, key string) (info fs.FileInfo, err error) {
	err = s.try(ctx, func(l *line) error {
		var err error
		info, err = l.client.Lstat(s.file(key))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	return info, nil
}

// missing is the error of op for a key that isn't there: NotFound, unless the whole
// folder is gone, which says nothing about the object.
func (s *Store) missing(ctx context.Context, op, key string) error {
	if err := s.gone(ctx); err != nil {
		return s.failed(ctx, op, key, err)
	}
	return store.NotFound(op, key)
}

// gone returns an error where Dir is not there any more.
func (s *Store) gone(ctx context.Context) error {
	info, err := s.stat(ctx, s.o.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.IsDir():
		return errGone
	}
	return err
}

// errGone says that the folder of the store was deleted, moved or unmounted.
var errGone = errors.New("the folder of the store is not there any more")

// Stat implements store.Store.
func (s *Store) Stat(ctx context.Context, key string) (store.Object, error) {
	const op = "stat"
	if err := s.begin(ctx, op, key); err != nil {
		return store.Object{}, err
	}
	info, err := s.lstat(ctx, key)
	if err != nil {
		return store.Object{}, s.failed(ctx, op, key, err)
	} else if info == nil {
		return store.Object{}, s.missing(ctx, op, key)
	}
	return object(key, info), nil
}

// object is the object of a file.
func object(key string, info fs.FileInfo) store.Object {
	return store.Object{Key: key, SizeBytes: info.Size(), ModifiedAt: info.ModTime().UTC()}
}

// parentOf is the folder of a key: "." is Dir.
func parentOf(key string) string {
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		return key[:i]
	}
	return "."
}

// Delete implements store.Store. It also removes the folders that it left empty.
func (s *Store) Delete(ctx context.Context, key string) error {
	const op = "delete"
	if err := s.begin(ctx, op, key); err != nil {
		return err
	}
	info, err := s.lstat(ctx, key)
	if err == nil && info != nil {
		err = s.try(ctx, func(l *line) error { return l.client.Remove(s.file(key)) })
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		// Also where nothing was there: an earlier Delete may have failed here.
		err = s.tidy(ctx, parentOf(key))
	}
	return s.failedOrNil(ctx, op, key, err)
}

// tidy removes folder if it is empty, and so on upwards, but never Dir. A Put that is
// about to use such a folder makes it again.
func (s *Store) tidy(ctx context.Context, folder string) error {
	for ; folder != "."; folder = parentOf(folder) {
		err := s.try(ctx, func(l *line) error { return l.client.RemoveDirectory(s.file(folder)) })
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
		case answered(err):
			return nil // it holds something
		default:
			return err
		}
	}
	return nil
}
