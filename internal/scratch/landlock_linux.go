package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights of Landlock, by what they are for. Those of folders don't fit files.
const (
	readFile   = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	readFolder = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writeFile  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	// fileRights are all that a rule for a file may have.
	fileRights = readFile | writeFile | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// dataFolder is what PostgreSQL does in a cluster: tablespaces are symbolic
	// links.
	dataFolder = readFolder | writeFile | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER
	// socketFolder has no symbolic links, by which we would be led to another
	// server, and nothing is moved into it.
	socketFolder = unix.LANDLOCK_ACCESS_FS_READ_DIR | writeFile | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK
)

// landlockVersion asks for the version of Landlock's interface.
func landlockVersion() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// handled are the rights that a version of Landlock knows: what it knows is
// refused unless a rule grants it.
func handled(version int) unix.LandlockRulesetAttr {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_REFER - 1}
	for _, since := range []struct {
		version int
		right   uint64
	}{
		{2, unix.LANDLOCK_ACCESS_FS_REFER},
		{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE},
		{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
	} {
		if version >= since.version {
			attr.Handled_access_fs |= since.right
		}
	}
	if version >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= landlockScopes {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr
}

// grant is a rule: what may be done in a folder, or with a file.
type grant struct {
	path   string
	rights uint64
}

// grants are the rules for a server: its own folder, and what its programs are
// made of.
func (s *Server) grants() []grant {
	own := func(name string) string { return filepath.Join(s.folder.path, name) }
	all := []grant{
		{own(dataName), dataFolder},
		{own(tablespacesName), dataFolder &^ unix.LANDLOCK_ACCESS_FS_MAKE_SYM},
		{own(socketName), socketFolder},
		{own(walName), readFolder},
		{"/dev/null", writeFile},
		{"/dev/zero", unix.LANDLOCK_ACCESS_FS_READ_FILE},
		{"/dev/random", unix.LANDLOCK_ACCESS_FS_READ_FILE},
		{"/dev/urandom", unix.LANDLOCK_ACCESS_FS_READ_FILE},
	}
	for _, path := range s.readable() {
		all = append(all, grant{path, readFolder})
	}
	return all
}

// readable are the files and folders from which programs are run and read. Of
// /usr/local and /etc only what belongs to programs, and not their settings.
func (s *Server) readable() []string {
	paths := []string{
		"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
		"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/share",
		"/usr/local/bin", "/usr/local/lib", "/usr/local/lib64", "/usr/local/share",
		"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/localtime",
		// What libraries read when they begin.
		"/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf", "/etc/crypto-policies", "/etc/gai.conf", "/etc/perl",
		// Debian's dictionaries for text search, to which links in /usr/share lead.
		"/var/cache/postgresql/dicts",
	}
	if s.installation.BinDir != "" {
		paths = append(paths, packaged(s.installation.BinDir)...)
	}
	if program, err := filepath.EvalSymlinks(filepath.Join(s.installation.BinDir, "postgres")); err == nil && filepath.IsAbs(program) {
		paths = append(paths, packaged(filepath.Dir(program))...)
	}
	for _, name := range []string{"LD_LIBRARY_PATH", "LOCPATH", "ICU_DATA"} {
		for _, path := range filepath.SplitList(os.Getenv(name)) {
			if filepath.IsAbs(path) {
				paths = append(paths, path)
			}
		}
	}
	return append(paths, s.cage.Readable...)
}

// packaged are the folders of an installation: the programs' and beside it those
// of libraries and shared files. What else is beside them may be a home.
func packaged(binDir string) []string {
	for _, packages := range []string{"/nix/store", "/gnu/store"} {
		if strings.HasPrefix(binDir, packages+"/") {
			return []string{packages}
		}
	}
	paths := []string{binDir}
	if filepath.Base(binDir) == "bin" {
		for _, name := range []string{"lib", "lib64", "share"} {
			paths = append(paths, filepath.Join(filepath.Dir(binDir), name))
		}
	}
	return paths
}

// landlock makes the rules that a thread can then restrict itself by. A path that
// is not there needs none.
func landlock(version int, grants []grant) (ruleset *os.File, err error) {
	attr := handled(version)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0) //nolint:gosec // the kernel reads it before the call returns
	if errno != 0 {
		return nil, fmt.Errorf("make the rules of Landlock: %w", errno)
	}
	ruleset = os.NewFile(fd, "landlock")
	for _, g := range grants {
		if err := addRule(ruleset, attr.Handled_access_fs, g); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("allow %s: %w", g.path, err), ruleset.Close())
		}
	}
	return ruleset, nil
}

func addRule(ruleset *os.File, known uint64, g grant) error {
	fd, err := unix.Open(g.path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return err
	}
	rights := g.rights & known
	if info.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset.Fd(), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0) //nolint:gosec // the kernel reads it before the call returns
	if errno != 0 {
		return errno
	}
	return nil
}

// restrictTo restricts the calling thread, and what it starts, for ever.
func restrictTo(ruleset *os.File) error {
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset.Fd(), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
