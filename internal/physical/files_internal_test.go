package physical

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// newTestRun is a run whose files come from the test.
func newTestRun(t *testing.T, s store.Store, workers int) *run {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.NewKey(identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	sealing := seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge, Key: key}
	r := &run{
		Options: Options{Workers: workers, Logger: slog.New(slog.DiscardHandler), Now: time.Now},
		layout:  replication.Layout{VersionNum: 150000, BlockBytes: 8192, SegmentBytes: 1 << 30, Checksums: true},
		objects: objects{store: s, seal: sealing, now: time.Now, manifest: &pgmedic.Backup{
			ID: "20261130T010000Z-abcdef", Server: pgmedic.Server{Name: "clinic", VersionNum: 150000},
			Seal:     pgmedic.Seal{Compression: "zstd", Encryption: "age"},
			Physical: &pgmedic.Physical{StartLSN: "0/1000028"},
		}},
	}
	return r
}

// synthetic is a server that sends files.
type synthetic struct {
	archive  func(w *tar.Writer) error
	manifest func(w io.Writer) error
}

// receive has the files of a synthetic server stored.
func receive(ctx context.Context, r *run, from synthetic) (*files, error) {
	f, _ := r.newFiles(ctx)
	f.begin(0)
	err := f.archive(0, piped(func(w io.Writer) error {
		t := tar.NewWriter(w)
		return errors.Join(from.archive(t), t.Close())
	}))
	if err == nil && from.manifest != nil {
		err = f.serverManifest(piped(from.manifest))
	}
	return f, f.finish(err)
}

func piped(write func(io.Writer) error) io.Reader {
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(w, 256<<10)
		w.CloseWithError(errors.Join(write(b), b.Flush()))
	}()
	return r
}

// manifestOf writes a server's manifest of files of the same content.
func manifestOf(w io.Writer, n int, name func(int) string, content func(int) []byte) error {
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	_, err := io.WriteString(out, "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n")
	for i := 0; i < n && err == nil; i++ {
		comma := ","
		if i == n-1 {
			comma = ""
		}
		b := content(i)
		crc := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		_, err = fmt.Fprintf(out, "{ \"Path\": %q, \"Size\": %d, \"Last-Modified\": \"2026-11-30 01:00:00 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"%02x%02x%02x%02x\" }%s\n",
			name(i), len(b), byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24), comma)
	}
	if err == nil {
		_, err = io.WriteString(out, "],\n\"WAL-Ranges\": [\n],\n")
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "\"Manifest-Checksum\": \"%s\"}\n", hex.EncodeToString(sum.Sum(nil)))
	}
	return err
}

func local(t *testing.T) store.Store {
	t.Helper()
	s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestManifestDiffers: a file that did not arrive as the server's manifest has it, is missing
// there or here, or comes in another order.
func TestManifestDiffers(t *testing.T) {
	name := func(i int) string { return fmt.Sprintf("base/5/t%d", i) }
	content := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, i*100) }
	const n = 20
	send := func(w *tar.Writer) error {
		for i := range n {
			b := content(i)
			if err := w.WriteHeader(&tar.Header{Name: name(i), Typeflag: tar.TypeReg, Size: int64(len(b)), Mode: 0o600}); err != nil {
				return err
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
	for what, test := range map[string]struct {
		n       int
		name    func(int) string
		content func(int) []byte
		right   bool
	}{
		"the same":         {n, name, content, true},
		"in another order": {n, func(i int) string { return name(n - 1 - i) }, func(i int) []byte { return content(n - 1 - i) }, true},
		"one byte": {n, name, func(i int) []byte {
			b := content(i)
			if i == 7 {
				b[3]++
			}
			return b
		}, false},
		"one size": {n, name, func(i int) []byte {
			b := content(i)
			if i == 7 {
				return b[1:]
			}
			return b
		}, false},
		"one that is not sent":   {n + 1, name, content, false},
		"one that is not listed": {n - 1, name, content, false},
		"one twice":              {n, func(i int) string { return name(min(i, n-2)) }, func(i int) []byte { return content(min(i, n-2)) }, false},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := receive(t.Context(), newTestRun(t, local(t), 2), synthetic{send, func(w io.Writer) error { return manifestOf(w, test.n, test.name, test.content) }})
			if test.right != (err == nil) || err != nil && pgmedic.KindOf(err) != pgmedic.KindIntegrity {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestHoles: long runs of zeros are not stored, wherever they are, and pages in them count.
func TestHoles(t *testing.T) {
	content := make([]byte, 5*HoleBytes+8192)
	for i := 2 * HoleBytes; i < 3*HoleBytes; i++ {
		content[i] = byte(i)
	}
	r := newTestRun(t, local(t), 1)
	r.layout.Checksums = false
	f, err := receive(t.Context(), r, synthetic{archive: func(w *tar.Writer) error {
		if err := w.WriteHeader(&tar.Header{Name: "base/5/16384", Typeflag: tar.TypeReg, Size: int64(len(content)), Mode: 0o600}); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(len(content) / 8192); f.pages.checked != want || f.bytes != int64(len(content)) {
		t.Errorf("%d pages of %d, %d bytes of %d", f.pages.checked, want, f.bytes, len(content))
	}
	b := r.manifest
	b.Physical.Files, b.Physical.PlainBytes = f.listed, f.bytes
	list, opened, err := Source{Store: r.store, Backup: b, Key: r.seal.Key}.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	var extents []Extent
	for {
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.File != nil {
			extents = e.File.Extents
		}
	}
	if got, want := fmt.Sprint(extents), fmt.Sprintf("[{-1 0 %d} {0 0 %d} {-1 0 %d} {0 %d 8192}]", 2*HoleBytes, HoleBytes, 2*HoleBytes, HoleBytes); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestStoreFails: a store that takes no more ends the backup with its error.
func TestStoreFails(t *testing.T) {
	full := errors.New("the disk is full")
	_, err := receive(t.Context(), newTestRun(t, failingStore{local(t), full}, 2), synthetic{archive: func(w *tar.Writer) error {
		for i := range 100 {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("base/5/%d", i), Typeflag: tar.TypeReg, Size: 1 << 20, Mode: 0o600}); err != nil {
				return err
			}
			if _, err := w.Write(bytes.Repeat([]byte{byte(i), 1}, 1<<19)); err != nil {
				return err
			}
		}
		return nil
	}})
	if !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

// failingStore takes no packs.
type failingStore struct {
	store.Store
	err error
}

func (s failingStore) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	if strings.Contains(key, "/pack-") {
		_, _ = io.CopyN(io.Discard, r, 1<<20)
		return store.Object{}, s.err
	}
	return s.Store.Put(ctx, key, r)
}

// TestMillionFiles: memory does not grow with the number of files beyond what is kept of each
// to compare it with the server's manifest.
func TestMillionFiles(t *testing.T) {
	testkit.OnlyAll(t, "a million files")
	const mark = "PGMEDIC_TEST_MILLION_FILES"
	if os.Getenv(mark) == "" {
		// In a process of its own, whose memory is that of nothing else.
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMillionFiles$", "-test.v")
		cmd.Env = append(os.Environ(), mark+"=1")
		out, err := cmd.CombinedOutput()
		m := regexp.MustCompile(`peak (\d+) kB`).FindSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if kilobytes, err := strconv.Atoi(string(m[1])); err != nil || kilobytes > 256<<10 {
			t.Errorf("%d kB resident at most, want 256 MiB", kilobytes)
		} else {
			t.Logf("%d kB resident at most", kilobytes)
		}
		return
	}
	name := func(i int) string { return fmt.Sprintf("base/%d/%d", 5+i/10000, 16384+i%10000) }
	page := make([]byte, 8192)
	page[14], page[15] = 0, 0x1f // an upper bound that is not zero
	page[0] = 0xff               // and a position that is later than the backup's beginning
	content := func(int) []byte { return page }
	const n = 1_000_000
	r := newTestRun(t, local(t), 2)
	f, err := receive(t.Context(), r, synthetic{
		archive: func(w *tar.Writer) error {
			for i := range n {
				if err := w.WriteHeader(&tar.Header{Name: name(i), Typeflag: tar.TypeReg, Size: int64(len(page)), Mode: 0o600}); err != nil {
					return err
				}
				if _, err := w.Write(page); err != nil {
					return err
				}
			}
			return nil
		},
		manifest: func(w io.Writer) error { return manifestOf(w, n, name, content) },
	})
	if err != nil || f.listed != n || f.pages.checked != n || f.pages.bad != 0 {
		t.Fatalf("%d files, %d pages, %d of them bad, %v", f.listed, f.pages.checked, f.pages.bad, err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		testkit.Elsewhere(t, "the kernel does not say how much memory was used")
	}
	fmt.Printf("peak %s kB\n", regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(status)[1])
}
