package logfile_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic/internal/logfile"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// clock is a time that a test sets.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func morning() *clock { return &clock{time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)} }

func open(t *testing.T, o logfile.Options) *logfile.File {
	t.Helper()
	f, err := logfile.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func write(t *testing.T, f *logfile.File, line string) {
	t.Helper()
	if _, err := io.WriteString(f, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

// contents returns what the files of a folder hold, by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		file, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		r := io.Reader(file)
		if strings.HasSuffix(e.Name(), ".gz") {
			if r, err = gzip.NewReader(file); err != nil {
				t.Fatal(err)
			}
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
		_ = file.Close()
	}
	return all
}

func compare(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	got := contents(t, dir)
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s holds %q, want %q", name, got[name], text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("files %v", got)
	}
}

func TestRotatesAtSize(t *testing.T) {
	dir, c := t.TempDir(), morning()
	f := open(t, logfile.Options{Path: filepath.Join(dir, "log"), MaxBytes: 12, Now: c.now})
	for _, line := range []string{"first", "second", "third", "4", "a line that is longer than all"} {
		write(t, f, line)
	}
	compare(t, dir, map[string]string{
		"log.20261129T090000Z.gz": "first\n", "log.20261129T090000Z.2.gz": "second\n", "log.20261129T090000Z.3.gz": "third\n4\n",
		"log": "a line that is longer than all\n",
	})
}

// TestRotatesAtMidnight: a day's lines are in a file, whether the process goes on or a new
// one begins.
func TestRotatesAtMidnight(t *testing.T) {
	dir, c := t.TempDir(), morning()
	path := filepath.Join(dir, "log")
	f := open(t, logfile.Options{Path: path, Now: c.now})
	write(t, f, "monday")
	c.at = c.at.Add(14 * time.Hour)
	write(t, f, "late")
	c.at = c.at.Add(2 * time.Hour)
	write(t, f, "tuesday")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, c.at, c.at); err != nil {
		t.Fatal(err)
	}
	c.at = c.at.Add(24 * time.Hour)
	write(t, open(t, logfile.Options{Path: path, Now: c.now}), "wednesday")
	compare(t, dir, map[string]string{
		"log.20261130T010000Z.gz": "monday\nlate\n", "log.20261201T010000Z.gz": "tuesday\n", "log": "wednesday\n",
	})
	info, err := os.Stat(filepath.Join(dir, "log.20261201T010000Z.gz"))
	if err != nil || !info.ModTime().Equal(c.at.Add(-24*time.Hour)) || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// TestOthersFollow: of two that write to one log, what the one rotates the other leaves,
// no line is lost, and what somebody still has open is not compressed.
func TestOthersFollow(t *testing.T) {
	dir, c := t.TempDir(), morning()
	path := filepath.Join(dir, "log")
	one := open(t, logfile.Options{Path: path, MaxBytes: 10, Now: c.now})
	other := open(t, logfile.Options{Path: path, MaxBytes: 10, Now: c.now})
	write(t, one, "one")
	write(t, other, "other")
	write(t, one, "next") // rotates
	const rotated = "log.20261129T090000Z"
	compare(t, dir, map[string]string{rotated: "one\nother\n", "log": "next\n"})
	if err := logfile.Compress(filepath.Join(dir, rotated)); !errors.Is(err, logfile.ErrInUse) {
		t.Errorf("%v", err)
	}
	write(t, other, "more")
	compare(t, dir, map[string]string{rotated: "one\nother\n", "log": "next\nmore\n"})
	if err := logfile.Compress(filepath.Join(dir, rotated)); err != nil {
		t.Error(err)
	}
	compare(t, dir, map[string]string{rotated + ".gz": "one\nother\n", "log": "next\nmore\n"})
}

// TestNoLineIsLost has several write at once while the log is rotated again and again.
func TestNoLineIsLost(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	const writers, each = 4, 100
	var all sync.WaitGroup
	for w := range writers {
		f := open(t, logfile.Options{Path: path, MaxBytes: 500})
		all.Go(func() {
			for i := range each {
				if _, err := fmt.Fprintf(f, "%d-%d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var lines []string
	for _, text := range contents(t, dir) {
		lines = append(lines, strings.Fields(text)...)
	}
	slices.Sort(lines)
	if n := len(slices.Compact(lines)); n != writers*each || len(lines) != n {
		t.Errorf("%d lines, %d of them different", len(lines), n)
	}
}

// TestKeepsModeAndOwner: whoever could write to the log, or read it, still can when another
// user has rotated it.
func TestKeepsModeAndOwner(t *testing.T) {
	dir, c := t.TempDir(), morning()
	path := filepath.Join(dir, "log")
	f := open(t, logfile.Options{Path: path, MaxBytes: 5, Now: c.now})
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 12345, 12346
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	write(t, f, "one")
	write(t, f, "two")
	compare(t, dir, map[string]string{"log.20261129T090000Z.gz": "one\n", "log": "two\n"})
	for _, name := range []string{"log", "log.20261129T090000Z.gz"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		owner, _ := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != 0o664 || int(owner.Uid) != uid || int(owner.Gid) != gid {
			t.Errorf("%s: mode %v, owner %d:%d", name, info.Mode(), owner.Uid, owner.Gid)
		}
	}
}

// TestFolderLocked: who holds the lock of the folder stops the rotation and no line.
func TestFolderLocked(t *testing.T) {
	dir, c := t.TempDir(), morning()
	f := open(t, logfile.Options{Path: filepath.Join(dir, "log"), MaxBytes: 5, Now: c.now})
	folder, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	write(t, f, "one")
	write(t, f, "two")
	compare(t, dir, map[string]string{"log": "one\ntwo\n"})
	if err := folder.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, f, "three")
	compare(t, dir, map[string]string{"log.20261129T090000Z.gz": "one\ntwo\n", "log": "three\n"})
}

// TestCannotRotate: what can't be rotated is written to, and says so.
func TestCannotRotate(t *testing.T) {
	c := morning()
	t.Run("a link", func(t *testing.T) {
		dir := t.TempDir()
		path, target := filepath.Join(dir, "log"), filepath.Join(t.TempDir(), "elsewhere")
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		f := open(t, logfile.Options{Path: path, MaxBytes: 1, Now: c.now})
		write(t, f, "one")
		write(t, f, "two")
		compare(t, dir, map[string]string{"log": "one\ntwo\n"})
	})
	t.Run("no file", func(t *testing.T) {
		f := open(t, logfile.Options{Path: os.DevNull, MaxBytes: 1, Now: c.now})
		write(t, f, "one")
		write(t, f, "two")
	})
	t.Run("a folder of somebody else's", func(t *testing.T) {
		if os.Geteuid() == 0 {
			testkit.Elsewhere(t, "root may write to any folder")
		}
		dir := t.TempDir()
		f := open(t, logfile.Options{Path: filepath.Join(dir, "log"), MaxBytes: 1, Now: c.now})
		write(t, f, "one")
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
		write(t, f, "two")
		if got := contents(t, dir)["log"]; !strings.HasPrefix(got, "one\n") || !strings.Contains(got, "the log can't be rotated") || !strings.HasSuffix(got, "two\n") {
			t.Errorf("%q", got)
		}
	})
	t.Run("no folder", func(t *testing.T) {
		if _, err := logfile.Open(logfile.Options{Path: filepath.Join(t.TempDir(), "no", "log")}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v", err)
		}
	})
}

// TestCompressKeepsWhatIsThere: a name that is taken is not overwritten, and the log stays.
func TestCompressKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"log.20261129T090000Z", "log.20261129T090000Z.gz"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := logfile.Compress(filepath.Join(dir, "log.20261129T090000Z")); !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v %v", entries, err)
	}
	if err := os.Symlink("log.20261129T090000Z", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := logfile.Compress(filepath.Join(dir, "link")); err == nil {
		t.Error("a link was followed")
	}
}

func TestRotated(t *testing.T) {
	for name, want := range map[string]string{
		"a.log.20261129T090000Z": "2026-11-29 false", "a.log.20261129T090000Z.gz": "2026-11-29 true", "a.log.20261129T090000Z.2.gz": "2026-11-29 true",
		"a.log": "", "a.log.1": "", "b.log.20261129T090000Z": "", "a.log.20261329T090000Z": "", "a.log.20261129T090000Z.gz.part": "", "xa.log.20261129T090000Z": "", "a.log20261129T090000Z": "",
	} {
		got := ""
		if at, compressed, ok := logfile.Rotated("/var/log/a.log", name); ok {
			got = fmt.Sprintf("%s %t", at.Format(time.DateOnly), compressed)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
