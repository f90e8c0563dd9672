package store_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// put stores an object and fails the test if that fails.
func put(t testing.TB, s store.Store, key, data string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, strings.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

// keys lists a store.
func keys(t testing.TB, s store.Store) []string {
	t.Helper()
	var keys []string
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// files lists everything below dir, folders with a slash behind them.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if d.IsDir() {
			rel += "/"
		}
		found = append(found, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestNewLocal(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    store.LocalOptions
		want pgmedic.Kind
	}{
		"no folder":           {store.LocalOptions{}, pgmedic.KindUsage},
		"a file":              {store.LocalOptions{Dir: file}, pgmedic.KindUnreachable},
		"below a file":        {store.LocalOptions{Dir: file + "/a/b"}, pgmedic.KindUnreachable},
		"missing":             {store.LocalOptions{Dir: base + "/missing", MustExist: true}, pgmedic.KindNotFound},
		"a file, must exist":  {store.LocalOptions{Dir: file, MustExist: true}, pgmedic.KindUnreachable},
		"mistyped, mustexist": {store.LocalOptions{Dir: base + "/x/y", MustExist: true}, pgmedic.KindNotFound},
	} {
		l, err := store.NewLocal(c.o)
		if l != nil || pgmedic.KindOf(err) != c.want || pgmedic.HintOf(err) == "" {
			t.Errorf("%s: %v (%v), hint %q", name, err, pgmedic.KindOf(err), pgmedic.HintOf(err))
		}
	}
	if got := files(t, base); !slices.Equal(got, []string{"file"}) {
		t.Errorf("refused stores left %q", got)
	}
	l := openLocal(t, base+"/made/with/parents")
	put(t, l, "a", "x")
	if got := l.String(); got != "folder "+base+"/made/with/parents" {
		t.Errorf("String is %q", got)
	}
	if err := os.Symlink(base+"/made/with/parents", base+"/link"); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, openLocal(t, base+"/link")); !slices.Equal(got, []string{"a"}) {
		t.Errorf("through a link to the folder: %q", got)
	}
}

func TestLocalWarnsOfOpenFolder(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	for mode, warns := range map[fs.FileMode]bool{0o700: false, 0o750: false, 0o755: true} {
		log.Reset()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		l, err := store.NewLocal(store.LocalOptions{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if (log.Len() > 0) != warns {
			t.Errorf("mode %v: log %q", mode, &log)
		}
	}
}

// TestLocalLeavesNothing checks that neither a Put that failed nor a Delete
// leaves a temporary file or a folder.
func TestLocalLeavesNothing(t *testing.T) {
	l, dir := newLocal(t)
	put(t, l, "kept/object", "x")
	want := []string{"kept/", "kept/object"}
	broken := errors.New("broken")
	for _, key := range []string{"a/b/c/d", "kept/other", "e"} {
		r := io.MultiReader(bytes.NewReader(make([]byte, 2<<20)), iotest.ErrReader(broken))
		if _, err := l.Put(t.Context(), key, r); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if _, err := l.Put(t.Context(), "kept/object", strings.NewReader("y")); !errors.Is(err, store.ErrExists) {
			t.Fatal(err)
		}
		if got := files(t, dir); !slices.Equal(got, want) {
			t.Errorf("a failed Put of %s left %q", key, got)
		}
		put(t, l, key, "z")
		if err := l.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if got := files(t, dir); !slices.Equal(got, want) {
			t.Errorf("Delete of %s left %q", key, got)
		}
	}
}

func TestLocalSweepTemp(t *testing.T) {
	l, dir := newLocal(t)
	put(t, l, "a/object", "x")
	for name, age := range map[string]time.Duration{
		"a/.pgmedic-tmp-old":   48 * time.Hour,
		"b/c/.pgmedic-tmp-old": 25 * time.Hour,
		".pgmedic-tmp-old":     25 * time.Hour,
		".pgmedic-tmp-new":     time.Hour,
		"b/old":                1000 * time.Hour,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(t, l); !slices.Equal(got, []string{"a/object", "b/old"}) {
		t.Errorf("List shows %q", got)
	}
	for _, want := range []int{3, 0} {
		if n, err := l.SweepTemp(t.Context(), 24*time.Hour); n != want || err != nil {
			t.Errorf("SweepTemp removed %d, %v; want %d", n, err, want)
		}
	}
	if got, want := files(t, dir), []string{".pgmedic-tmp-new", "a/", "a/object", "b/", "b/old"}; !slices.Equal(got, want) {
		t.Errorf("SweepTemp left %q, want %q", got, want)
	}
}

// TestLocalPutSwept checks that a Put whose temporary file was swept fails.
func TestLocalPutSwept(t *testing.T) {
	l, _ := newLocal(t)
	r := io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), &onRead{f: func() {
		if n, err := l.SweepTemp(t.Context(), -time.Hour); n != 1 || err != nil {
			t.Errorf("swept %d, %v", n, err)
		}
	}})
	if _, err := l.Put(t.Context(), "a/b", r); err == nil {
		t.Error("Put succeeded without its file")
	}
	if got := keys(t, l); len(got) != 0 {
		t.Errorf("List shows %q", got)
	}
}

// onRead calls f at the first Read, and has ended.
type onRead struct{ f func() }

func (o *onRead) Read([]byte) (int, error) {
	if o.f != nil {
		o.f()
	}
	o.f = nil
	return 0, io.EOF
}

// TestLocalForeign checks what of others lies in the folder is listed.
func TestLocalForeign(t *testing.T) {
	l, dir := newLocal(t)
	put(t, l, "a/b", "x")
	for _, name := range []string{"notes.txt", "a/.nfs0001", "lost+found/#123", "sub/lost+found/x", "new\nline", "bad\\slash/x", ".pgmedic-tmp-dir/x"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := keys(t, l), []string{"a/.nfs0001", "a/b", "notes.txt", "sub/lost+found/x"}; !slices.Equal(got, want) {
		t.Errorf("List shows %q, want %q", got, want)
	}
}

// TestLocalSymlinks checks that nothing reaches outside of the folder through a
// symbolic link, and that links are no objects.
func TestLocalSymlinks(t *testing.T) {
	l, dir := newLocal(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, l, "real/object", "x")
	for link, target := range map[string]string{
		"out": outside, "file": secret, "in": "real", "alias": "real/object", "dangling": "nowhere", "loop": "loop", "up": "..", "real/up": "../..",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(t, l); !slices.Equal(got, []string{"real/object"}) {
		t.Errorf("List shows %q", got)
	}
	for _, key := range []string{"out/secret", "file", "alias", "dangling", "loop", "up/x", "real/up/x", "out/new", "loop/x"} {
		if _, err := l.Stat(t.Context(), key); err == nil {
			t.Errorf("Stat %s succeeded", key)
		}
		if r, err := l.Open(t.Context(), key, 0, -1); err == nil {
			t.Errorf("Open %s succeeded", key)
			r.Close()
		}
		if _, err := l.Put(t.Context(), key, strings.NewReader("y")); err == nil {
			t.Errorf("Put %s succeeded", key)
		}
		l.Delete(t.Context(), key)
	}
	for _, prefix := range []string{"out", "out/", "up/", "real/up/"} {
		for o, err := range l.List(t.Context(), prefix) {
			if err == nil {
				t.Errorf("List %s shows %s", prefix, o.Key)
			}
		}
	}
	if got := files(t, outside); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("outside there is now %q", got)
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the file outside holds %q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "file")); err != nil {
		t.Errorf("Delete removed a link: %v", err)
	}
}

// TestLocalShrinkingFile checks that being cut off is not taken for the end.
func TestLocalShrinkingFile(t *testing.T) {
	l, dir := newLocal(t)
	put(t, l, "key", strings.Repeat("x", 1<<20))
	for _, length := range []int64{-1, 900_000} {
		r, err := l.Open(t.Context(), "key", 0, length)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := os.Truncate(filepath.Join(dir, "key"), 1<<20-200_000); err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, r)
		if !errors.Is(err, io.ErrUnexpectedEOF) || pgmedic.KindOf(err) != pgmedic.KindUnreachable {
			t.Errorf("a file cut short ended after %d bytes with %v (%v)", n, err, pgmedic.KindOf(err))
		}
		if err := os.Truncate(filepath.Join(dir, "key"), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkLocalPut(b *testing.B) {
	l, _ := newLocal(b)
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := l.Put(b.Context(), "a/b", bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
		if err := l.Delete(b.Context(), "a/b"); err != nil {
			b.Fatal(err)
		}
	}
}
