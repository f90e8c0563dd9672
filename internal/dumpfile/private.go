package dumpfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
)

// othersWrite is the permission to write of the group and of all others. With an access
// control list the group's bits are its mask, so they show that others may write, too.
const othersWrite = 0o022

// changeable reports whether another user than root and the one who runs this process could
// change the folder of a dump, a file in it, or which folder its path leads to. Such a user
// could put a link into the place of a file after it was checked, and have pg_restore read
// what this process may read.
func changeable(path string) (bool, error) {
	path, err := filepath.Abs(path)
	if err == nil {
		path, err = filepath.EvalSymlinks(path) // a link on the way is followed once, here
	}
	if err != nil {
		return true, fmt.Errorf("find the dump's folder: %w", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return true, fmt.Errorf("read the dump's folder: %w", err)
	}
	for _, e := range entries {
		if theirs(filepath.Join(path, e.Name()), false) {
			return true, nil
		}
	}
	if theirs(path, false) {
		return true, nil
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if theirs(dir, true) {
			return true, nil
		}
		if dir == filepath.Dir(dir) {
			return false, nil
		}
	}
}

// theirs reports whether another user may change a file or a folder. In a folder above the
// dump with the sticky bit, as /tmp has it, others can't rename what is not theirs.
func theirs(path string, above bool) bool {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return true
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return true
	}
	return st.Mode&othersWrite != 0 && (!above || st.Mode&unix.S_ISVTX == 0)
}

// takePrivate copies the folder of a dump into a private one, and returns that. Files are
// opened below the folder's descriptor and no link is followed, so that nothing that happens
// to the folder meanwhile has another file read.
func (f *File) takePrivate(ctx context.Context) (dir string, err error) {
	if f.o.Staging == nil {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "copy it into a folder that only you can write to", "other users can change the dump in %s", f.o.Path)
	}
	folder, err := os.Open(f.o.Path)
	if err != nil {
		return "", f.unreadable(err)
	}
	defer func() { _ = folder.Close() }() // only read
	dir, remove, err := f.o.Staging()
	if err != nil {
		return "", err
	}
	f.remove = remove
	// The staging folder has a file of its own.
	dir = filepath.Join(dir, "dump")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for the dump: %w", err)
	}
	members := 0
	for {
		names, err := folder.Readdirnames(1000)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", f.unreadable(err)
		}
		for _, name := range names {
			if members++; members > maxMembers {
				return "", f.damaged("the folder has more files than a dump of pg_dump -Fd")
			}
			if err := f.takeMember(ctx, folder, dir, name); err != nil {
				return "", err
			}
		}
		if len(names) == 0 {
			return dir, nil
		}
	}
}

// takeMember copies one file. One that does not belong to a dump stays empty in the copy:
// checkFolder refuses it by its name.
func (f *File) takeMember(ctx context.Context, folder *os.File, dir, name string) error {
	if !isMember(name) {
		return writeMember(filepath.Join(dir, filepath.Base(name)), &cancelled{ctx, eof{}})
	}
	// A pipe would not be waited for, and is refused.
	fd, err := unix.Openat(int(folder.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return f.notRegular(name)
	}
	if err != nil {
		return f.unreadable(&os.PathError{Op: "open", Path: filepath.Join(f.o.Path, name), Err: err})
	}
	in := os.NewFile(uintptr(fd), name)
	defer func() { _ = in.Close() }() // only read
	info, err := in.Stat()
	if err != nil {
		return f.unreadable(err)
	}
	if !info.Mode().IsRegular() {
		return f.notRegular(name)
	}
	if err := refuseFull(dir, info.Size()); err != nil {
		return fmt.Errorf("copy %s, which other users can change, into a private folder: %w", f.o.Path, err)
	}
	// Not more than was asked for, should it grow meanwhile.
	return writeMember(filepath.Join(dir, name), &cancelled{ctx, io.LimitReader(in, info.Size())})
}

func (f *File) notRegular(name string) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "copy the dump with its files", "%s holds %s, which is not a regular file", f.o.Path, name)
}

// eof is a file without content.
type eof struct{}

// Read implements io.Reader.
func (eof) Read([]byte) (int, error) { return 0, io.EOF }
