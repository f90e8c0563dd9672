package scratch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
)

const (
	folderPrefix = "pgmedic-scratch-"
	ownerName    = "owner"
	logName      = "server.log"
	dataName     = "data"
	socketName   = "socket"
	// tablespacesName is the folder of the tablespaces' folders.
	tablespacesName = "tablespaces"
)

// account is who runs a server: another user if we are root, else ourselves.
type account struct {
	name     string
	uid, gid int
	// other is true if the account is not ours.
	other bool
	// claim keeps other drills from an id that is the server's alone, and is nil
	// for an account that the system knows.
	claim io.Closer
}

// release gives up the claim to an id.
func (a account) release() {
	if a.claim != nil {
		_ = a.claim.Close()
	}
}

// serverAccount returns the account that runs the server. The name counts only
// if we are root.
func serverAccount(name string) (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	names := []string{name}
	if name == "" {
		names = []string{"postgres", "nobody"}
	}
	for _, name := range names {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(found.Uid)
		if err != nil {
			return account{}, fmt.Errorf("read the id of user %s: %w", name, err)
		}
		gid, err := strconv.Atoi(found.Gid)
		if err != nil {
			return account{}, fmt.Errorf("read the group of user %s: %w", name, err)
		}
		if uid == 0 {
			return account{}, pgmedic.Errorf(pgmedic.KindUsage, "name an unprivileged user",
				"PostgreSQL doesn't run as root, and user %s is root", name)
		}
		return account{name: name, uid: uid, gid: gid, other: true}, nil
	}
	return account{}, pgmedic.Errorf(pgmedic.KindUsage,
		"make the user, or run pgmedic as an ordinary user",
		"there is no user %s to run a server as, and PostgreSQL doesn't run as root",
		strings.Join(names, " or "))
}

// chooseParent returns the absolute path of the folder to work in, which both
// accounts must reach.
func chooseParent(wanted string, who, caged account) (string, error) {
	if wanted == "" {
		parent, err := filepath.Abs(os.TempDir())
		if err == nil && socketFits(parent) && reachable(parent, who) && reachable(parent, caged) {
			return parent, nil
		}
		return "/tmp", nil
	}
	parent, err := filepath.Abs(wanted)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", wanted, err)
	}
	if !socketFits(parent) {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "choose a folder with a short path and no comma in it",
			"the path of a socket in %s would be too long, or be taken for a list", parent)
	}
	if caged.claim != nil && !reachable(parent, caged) {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "let every user pass to it (chmod o+x), or name another folder with --scratch-dir",
			"the server of a drill has a user id of its own, which can't pass to %s", parent)
	}
	return parent, nil
}

// socketFits reports whether the path of a socket below parent fits into a
// socket address, and is one path to libpq, which splits hosts at commas.
func socketFits(parent string) bool {
	// The random part of a folder's name has at most ten digits.
	path := filepath.Join(parent, folderPrefix+"0123456789", socketName, ".s.PGSQL.65535")
	return len(path) < len(syscall.RawSockaddrUnix{}.Path) && !strings.Contains(path, ",")
}

// reachable reports whether an account may pass through all folders of a path,
// as far as their modes tell.
func reachable(path string, who account) bool {
	if !who.other {
		return true
	}
	for {
		info, err := os.Stat(path)
		if err != nil {
			return false
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		needed := fs.FileMode(0o001)
		switch {
		case !ok:
			return false
		case int(owner.Uid) == who.uid:
			needed = 0o100
		case int(owner.Gid) == who.gid:
			needed = 0o010
		}
		if info.Mode()&needed == 0 {
			return false
		}
		if path == filepath.Dir(path) {
			return true
		}
		path = filepath.Dir(path)
	}
}

// folder is a server's own folder and the lock that says that we live.
type folder struct {
	path string
	// root is how we work inside: the folder belongs to the server's user,
	// who must not be able to lead us elsewhere by a symbolic link.
	root  *os.Root
	owner *os.File
	log   *os.File
	who   account
}

// makeFolder makes the 0700 folder of a new server, with the owner file, the
// log and the folders for data and socket in it. On error nothing is left.
func makeFolder(parent string, who account) (_ *folder, err error) {
	path, err := os.MkdirTemp(parent, folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a folder for a scratch server: %w", err)
	}
	f := &folder{path: path, who: who}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("prepare %s: %w", path, err), f.remove())
		}
	}()
	if f.root, err = os.OpenRoot(path); err != nil {
		return nil, err
	}
	if f.owner, err = lockOwner(f.root); err != nil {
		return nil, err
	}
	if f.log, err = f.root.OpenFile(logName, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	for _, name := range []string{dataName, socketName, tablespacesName} {
		if err := f.mkdir(name); err != nil {
			return nil, err
		}
	}
	// Last: until here only we could put anything inside.
	return f, f.giveAway(".")
}

// lockOwner makes the owner file, locked for as long as we live. It gets its
// name only once it is locked, so that a sweep never sees it without. The
// kernel drops the lock with the process; children don't inherit the file,
// since Go opens everything close-on-exec.
func lockOwner(root *os.Root) (*os.File, error) {
	const unlocked = ownerName + ".new"
	file, err := root.OpenFile(unlocked, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the owner file: %w", err), file.Close())
	}
	if _, err := fmt.Fprintf(file, "%d\n", os.Getpid()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := root.Rename(unlocked, ownerName); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// mkdir makes a folder inside that belongs to the server's user.
func (f *folder) mkdir(name string) error {
	if err := f.root.Mkdir(name, 0o700); err != nil {
		return err
	}
	return f.giveAway(name)
}

// giveAway gives what was just made to the server's user. It goes by a handle:
// in a folder of that user the name may mean something else by now.
func (f *folder) giveAway(name string) error {
	if !f.who.other {
		return nil
	}
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && !info.IsDir() && links(info) != 1 {
		err = fmt.Errorf("%s has another name elsewhere", name)
	}
	if err == nil {
		err = file.Chown(f.who.uid, f.who.gid)
	}
	return errors.Join(err, file.Close())
}

// handOver gives everything inside to the account that runs the server in a
// cage. The folder itself stays ours where the account is another: nothing in it
// can be replaced then. It is called before anything hostile runs.
func (f *folder) handOver(to account) error {
	f.who = to
	if !to.other {
		return nil
	}
	err := fs.WalkDir(f.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." || name == ownerName || name == logName {
			return err
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			return f.root.Lchown(name, to.uid, to.gid)
		}
		return f.giveAway(name)
	})
	if err != nil {
		return err
	}
	return f.keep(".")
}

// closeSocketFolder keeps the server's user from replacing the socket, by which
// we would be led to another server.
func (f *folder) closeSocketFolder() error {
	if !f.who.other {
		return nil
	}
	return f.keep(socketName)
}

// keep makes a folder ours that the server's user may only pass.
func (f *folder) keep(name string) error {
	dir, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = dir.Chown(os.Geteuid(), f.who.gid)
	if err == nil {
		err = dir.Chmod(0o710)
	}
	return errors.Join(err, dir.Close())
}

// links is how many names a file has.
func links(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink) //nolint:unconvert // its type differs between systems
	}
	return 0
}

// remove removes the folder and closes what is open in it. It may be called
// again.
func (f *folder) remove() error {
	err := removeAll(f.path)
	// The owner file last: the lock guards the folder until it is gone.
	if f.log != nil {
		_ = f.log.Close()
	}
	if f.root != nil {
		_ = f.root.Close()
	}
	if f.owner != nil {
		_ = f.owner.Close()
	}
	f.who.release()
	return err
}

// removeAll is os.RemoveAll, again for a while if the folder fills up
// meanwhile: a server process that was killed may take a moment to be gone.
func removeAll(path string) error {
	const tries = 50
	for try := 1; ; try++ {
		err := os.RemoveAll(path)
		if err == nil {
			return nil
		}
		if try == tries || !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("remove the scratch server's folder: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// logTail returns the last lines of the server's log.
func (f *folder) logTail() string {
	const most = 4096
	info, err := f.log.Stat()
	if err != nil {
		return ""
	}
	start := max(0, info.Size()-most)
	text := make([]byte, info.Size()-start)
	if n, err := f.log.ReadAt(text, start); err != nil {
		text = text[:n]
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
