package sftpstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/sftpstore"
	"github.com/pgmedic/pgmedic/internal/store/sftptest"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// options are those that reach a folder on the server.
func options(s *sftptest.Server, dir string) sftpstore.Options {
	return sftpstore.Options{User: s.User, Host: s.Host, Port: s.Port, Dir: dir, KnownHosts: s.KnownHosts, IdentityFile: s.IdentityFile}
}

// open returns the store of a new folder, changed by the functions.
func open(t *testing.T, server *sftptest.Server, change ...func(*sftpstore.Options)) (*sftpstore.Store, string) {
	t.Helper()
	o := options(server, t.TempDir())
	for _, f := range change {
		f(&o)
	}
	s, err := sftpstore.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, o.Dir
}

func TestConforms(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	storetest.Run(t, func(t *testing.T) store.Store {
		s, _ := open(t, server)
		return s
	})
}

// TestRacingWriters: of eight writers of one key one wins, and its bytes are there, a
// hundred times, whichever connections they use.
func TestRacingWriters(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	s, dir := open(t, server)
	other, _ := open(t, server, func(o *sftpstore.Options) { o.Dir = dir })
	for round := range 100 {
		key := fmt.Sprintf("race/%d", round)
		var errs [8]error
		var writers sync.WaitGroup
		start := make(chan struct{})
		for i := range errs {
			writers.Go(func() {
				<-start
				_, errs[i] = []*sftpstore.Store{s, other}[i%2].Put(t.Context(), key, strings.NewReader(strconv.Itoa(i)))
			})
		}
		close(start)
		writers.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case !errors.Is(err, store.ErrExists):
				t.Fatalf("round %d, writer %d of which %d won: %v", round, i, winner, err)
			}
		}
		if got, err := os.ReadFile(filepath.Join(dir, key)); err != nil || string(got) != strconv.Itoa(winner) {
			t.Fatalf("round %d: writer %d won, and %q is there (%v)", round, winner, got, err)
		}
	}
	if left := files(t, filepath.Join(dir, "race")); len(left) != 100 {
		t.Errorf("100 objects are %d files", len(left))
	}
}

// files are the names below a folder, folders with a slash behind them.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		name, err = filepath.Rel(dir, name)
		if d.IsDir() {
			name += "/"
		}
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func put(t *testing.T, s store.Store, key, data string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, strings.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s store.Store, key string) string {
	t.Helper()
	r, err := s.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestModes: what is made is closed to others, and nothing is left of what failed.
func TestModes(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	made := filepath.Join(t.TempDir(), "made/with/parents")
	s, dir := open(t, server, func(o *sftpstore.Options) { o.Dir = made })
	put(t, s, "a/b/c", "x")
	for name, want := range map[string]fs.FileMode{"": 0o700, "a": 0o700, "a/b": 0o700, "a/b/c": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
	broken := errors.New("broken")
	for _, key := range []string{"a/b/c", "a/b/d", "e/f/g"} {
		r := io.MultiReader(bytes.NewReader(make([]byte, 3<<20)), iotest.ErrReader(broken))
		if _, err := s.Put(t.Context(), key, r); !errors.Is(err, broken) && !errors.Is(err, store.ErrExists) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if got := files(t, dir); !slices.Equal(got, []string{"a/", "a/b/", "a/b/c"}) {
		t.Errorf("Puts that failed left %q", got)
	}
	// Links and special files are no objects.
	for link, to := range map[string]string{"link": "a/b/c", "folder": "a"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Stat(t.Context(), "link"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a link is an object: %v", err)
	}
	for o, err := range s.List(t.Context(), "folder/") {
		t.Errorf("through a link to a folder: %+v, %v", o, err)
	}
}

// TestLostConnections: what may be repeated is, on new connections; a Put that was on
// its way fails, and leaves nothing that is listed.
func TestLostConnections(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	s, dir := open(t, server)
	put(t, s, "a/key", "x")
	large := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	put(t, s, "a/large", large)
	for what, f := range map[string]func() error{
		"stat":   func() error { _, err := s.Stat(t.Context(), "a/key"); return err },
		"put":    func() error { _, err := s.Put(t.Context(), "a/new", strings.NewReader("y")); return err },
		"delete": func() error { return s.Delete(t.Context(), "a/none") },
		"list": func() error {
			for _, err := range s.List(t.Context(), "") {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		server.Drop()
		if err := f(); err != nil {
			t.Errorf("%s after the connections were cut: %v", what, err)
		}
	}
	r, err := s.Open(t.Context(), "a/large", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	server.Drop()
	rest, err := io.ReadAll(r)
	if err != nil || string(head)+string(rest) != large {
		t.Errorf("cut off while it was read: %d bytes, %v", len(head)+len(rest), err)
	}
	// The data of a Put can't be had again.
	cut := iotest.DataErrReader(strings.NewReader(large))
	n := 0
	_, err = s.Put(t.Context(), "a/cut", readerFunc(func(p []byte) (int, error) {
		if n++; n == 3 {
			server.Drop()
		}
		return cut.Read(p[:min(len(p), 1<<19)])
	}))
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || pgmedic.HintOf(err) == "" {
		t.Errorf("a Put that was cut off: %v", err)
	}
	if _, err := s.Stat(t.Context(), "a/cut"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a Put that was cut off left: %v", err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"a/", "a/key", "a/large", "a/new"}) {
		t.Errorf("%q", got)
	}
	server.Stop()
	if _, err := s.Stat(t.Context(), "a/key"); pgmedic.KindOf(err) != pgmedic.KindUnreachable {
		t.Errorf("no server: %v", err)
	}
	server.Restart()
	if got := read(t, s, "a/key"); got != "x" {
		t.Errorf("after the server came back: %q", got)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestLostAnswer: the answer to the request that makes an object is lost. What Put says
// is true all the same.
func TestLostAnswer(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	s, dir := open(t, server)
	for n := 1; n <= 3; n++ {
		key := fmt.Sprintf("a/%d", n)
		server.CutAfter("hardlink@openssh.com", n)
		if o, err := s.Put(t.Context(), key, strings.NewReader("mine")); err != nil || o.SizeBytes != 4 {
			t.Errorf("%d answers were lost, and the object is there: %+v, %v", n, o, err)
		}
		if info, err := os.Stat(filepath.Join(dir, key)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	// A rival's object of the same name, put before ours could be, is not ours.
	for _, key := range []string{"b/rival", "b/readonly"} {
		server.CutAfter("hardlink@openssh.com", 1)
		r := readerFunc(func([]byte) (int, error) {
			if err := os.WriteFile(filepath.Join(dir, key), []byte("theirs"), 0o400); err != nil {
				t.Error(err)
			}
			return 0, io.EOF
		})
		if _, err := s.Put(t.Context(), key, r); !errors.Is(err, store.ErrExists) {
			t.Errorf("a rival was faster: %v", err)
		}
		if got := read(t, s, key); got != "theirs" {
			t.Errorf("the rival's object is %q", got)
		}
	}
	if got := files(t, dir); len(got) != 7 {
		t.Errorf("left: %q", got)
	}
	// A lost answer to the flush fails the Put: nothing says that the data is durable.
	server.CutAfter("fsync@openssh.com", 1)
	if _, err := s.Put(t.Context(), "c", strings.NewReader("x")); pgmedic.KindOf(err) != pgmedic.KindUnreachable {
		t.Errorf("the answer to the flush was lost: %v", err)
	}
	if _, err := s.Stat(t.Context(), "c"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

// TestSilence: a network that went away says nothing, and a connection on which nothing
// comes back is given up.
func TestSilence(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	proxy := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "sftp", "127.0.0.1:0", net.JoinHostPort(server.Host, strconv.Itoa(server.Port)))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	defer proxy.Stop()
	_, port, err := net.SplitHostPort(proxy.Listen)
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(t.TempDir(), "known")
	line := strings.Replace(server.HostKeyLine(), strconv.Itoa(server.Port), port, 1)
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := open(t, server, func(o *sftpstore.Options) {
		o.KnownHosts = known
		if o.Port, err = strconv.Atoi(port); err != nil {
			t.Fatal(err)
		}
		o.AskEvery(20*time.Millisecond, 2*time.Second)
	})
	put(t, s, "key", "x")
	if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(`{"type":"timeout","stream":"downstream","attributes":{"timeout":0}}`)); err != nil {
		t.Fatal(err)
	}
	healed := make(chan struct{})
	go func() {
		defer close(healed)
		for server.Opened() < 2 { // it gave the first up
			<-time.After(5 * time.Millisecond) // between two looks
		}
		if err := proxy.Toxics.RemoveToxic(t.Context(), "timeout_downstream"); err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.Stat(t.Context(), "key"); err != nil {
		t.Errorf("after the network came back: %v", err)
	}
	<-healed
}

// TestSweepTemp removes what dead runs left, by the server's clock.
func TestSweepTemp(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	s, dir := open(t, server)
	put(t, s, "a/object", "x")
	old := time.Now().Add(-48 * time.Hour)
	for name, at := range map[string]time.Time{"a/.pgmedic-tmp-old": old, "b/.pgmedic-tmp-old": old, "a/.pgmedic-tmp-new": time.Now(), "a/object": old} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.SweepTemp(t.Context(), 24*time.Hour); n != 2 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"a/", "a/.pgmedic-tmp-new", "a/object"}) {
		t.Errorf("%q", got)
	}
}

// TestGone: a folder that is gone is no empty store.
func TestGone(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	s, dir := open(t, server)
	put(t, s, "key", "x")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	_, statErr := s.Stat(t.Context(), "key")
	_, putErr := s.Put(t.Context(), "a/other", strings.NewReader("x"))
	var listErr error
	for _, err := range s.List(t.Context(), "") {
		listErr = err
	}
	for what, err := range map[string]error{"stat": statErr, "put": putErr, "list": listErr} {
		if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(pgmedic.HintOf(err), "mounted") {
			t.Errorf("%s: %v, hint %q", what, err, pgmedic.HintOf(err))
		}
	}
	// Nor is one that never was there, unless it may be made.
	o := options(server, filepath.Join(dir, "mistyped"))
	o.MustExist = true
	none, err := sftpstore.New(t.Context(), o)
	if none != nil || pgmedic.KindOf(err) != pgmedic.KindNotFound {
		t.Errorf("%v, %v", none, err)
	}
}

// TestFolders finds folders without the keys in them, as many as hold one.
func TestFolders(t *testing.T) {
	server := sftptest.Start(t, sftptest.Options{})
	s, dir := open(t, server)
	for _, key := range []string{"a/b/c", "a/b/d", "a/bc/d/e", "a!/x", "f", "x../y"} {
		put(t, s, key, "x")
	}
	if err := os.MkdirAll(filepath.Join(dir, "empty/folders"), 0o700); err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string][]string{
		"": {"a!/", "a/", "x../"}, "a/": {"a/b/", "a/bc/"}, "a/b/": {}, "f/": {}, "none/": {}, "empty/": {},
	} {
		got := []string{}
		for found, err := range s.Folders(t.Context(), folder) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, found)
		}
		if !slices.Equal(got, want) {
			t.Errorf("below %q: %q, want %q", folder, got, want)
		}
	}
	for found := range s.Folders(t.Context(), "") { // it can be stopped
		if found != "a!/" {
			t.Errorf("first %q", found)
		}
		break
	}
	for _, folder := range []string{"a", "/", "../", "a//", "a\x00/"} {
		for found, err := range s.Folders(t.Context(), folder) {
			if found != "" || pgmedic.KindOf(err) != pgmedic.KindUsage {
				t.Errorf("below %q: %q, %v", folder, found, err)
			}
		}
	}
}
