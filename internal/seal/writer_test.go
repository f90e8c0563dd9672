package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func TestOptionsRefused(t *testing.T) {
	for name, o := range map[string]seal.Options{
		"zero":    {},
		"unknown": {Compression: "lzma"},
		"level":   {Compression: seal.CompressionGzip, Level: "11"},
		"cipher":  {Compression: seal.CompressionGzip, Encryption: "rot13"},
		"no key":  {Compression: seal.CompressionGzip, Encryption: seal.EncryptionAge},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := seal.NewWriter(io.Discard, o); pgmedic.KindOf(err) != pgmedic.KindUsage {
				t.Errorf("NewWriter: %v", err)
			}
			_, sum := sealed(t, nil, codecs()[0])
			if _, err := seal.NewReader(bytes.NewReader(nil), sum, o); pgmedic.KindOf(err) != pgmedic.KindUsage {
				t.Errorf("NewReader: %v", err)
			}
		})
	}
}

func TestSuffix(t *testing.T) {
	for c, want := range map[seal.Compression]string{
		seal.CompressionNone: "", seal.CompressionGzip: ".gz", seal.CompressionZstd: ".zst",
	} {
		if got := seal.Suffix(seal.Options{Compression: c}); got != want {
			t.Errorf("Suffix(%s) = %q", c, got)
		}
		if got := seal.Suffix(seal.Options{Compression: c, Encryption: seal.EncryptionAge}); got != want+".age" {
			t.Errorf("Suffix(%s, age) = %q", c, got)
		}
	}
}

// TestToolsRead checks that what a Writer makes is readable without pgmedic.
func TestToolsRead(t *testing.T) {
	plain := rows(1<<20, 1)
	each(t, func(t *testing.T, o seal.Options) {
		var pipeline [][]string
		if o.Encryption == seal.EncryptionAge {
			pipeline = append(pipeline, []string{"age", "-d", "-i", keyFile(t, o.Key)})
		}
		switch o.Compression {
		case seal.CompressionGzip:
			pipeline = append(pipeline, []string{"gzip", "-dc"})
		case seal.CompressionZstd:
			pipeline = append(pipeline, []string{"zstd", "-dcq"})
		case seal.CompressionNone:
		}
		for _, plain := range [][]byte{nil, plain[:1], plain} {
			got, _ := sealed(t, plain, o)
			for _, tool := range pipeline {
				got = filter(t, got, tool...)
			}
			if !bytes.Equal(got, plain) {
				t.Fatalf("%v: %d of %d bytes", pipeline, len(got), len(plain))
			}
		}
	})
}

// filter returns what a program makes of its input.
func filter(t *testing.T, in []byte, command ...string) []byte {
	t.Helper()
	path, err := exec.LookPath(command[0])
	if err != nil {
		testkit.Missing(t, fmt.Sprintf("%v: scripts/setup.sh installs it", err))
	}
	cmd := exec.CommandContext(t.Context(), path, command[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%q: %v: %s", command, err, exit.Stderr)
		}
		t.Fatal(err)
	}
	return out
}

// keyFile writes a backup's key to a file, as somebody who has an identity gets
// it with age alone.
func keyFile(t *testing.T, key *seal.Key) string {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := key.Wrap(identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	mine, opened := filepath.Join(t.TempDir(), "mine"), filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(mine, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(opened, filter(t, wrapped, "age", "-d", "-i", mine), 0o600); err != nil {
		t.Fatal(err)
	}
	return opened
}

func TestWriterReset(t *testing.T) {
	each(t, func(t *testing.T, o seal.Options) {
		var dst bytes.Buffer
		w, err := seal.NewWriter(&dst, o)
		if err != nil {
			t.Fatal(err)
		}
		for i, size := range []int{100 << 10, 0, 7, 300 << 10} {
			want, wantSum := sealed(t, rows(size, uint64(i)), o)
			dst.Reset()
			if err := w.Reset(&dst); err != nil {
				t.Fatal(err)
			}
			got, sum := finish(t, w, &dst, rows(size, uint64(i)))
			if o.Encryption == seal.EncryptionAge { // differs each time
				plain, err := unseal(t, bytes.NewReader(got), sum, o)
				if err != nil || !bytes.Equal(plain, rows(size, uint64(i))) || len(got) != len(want) {
					t.Errorf("stream %d after Reset: %d bytes, %v", i, len(plain), err)
				}
			} else if sum != wantSum || !bytes.Equal(got, want) {
				t.Errorf("stream %d after Reset differs from that of a new Writer", i)
			}
			// The next stream follows one that was given up halfway.
			w.Reset(&limitedWriter{left: 1000, err: errFull})
			w.Write(rows(200<<10, 9))
		}
	})
}

var errFull = errors.New("disk full")

// limitedWriter takes left bytes, then fails; with a nil err it writes short
// without saying so.
type limitedWriter struct {
	left int
	err  error
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) <= l.left {
		l.left -= len(p)
		return len(p), nil
	}
	n := l.left
	l.left = 0
	return n, l.err
}

func TestWriterFailingDestination(t *testing.T) {
	plain := rows(400<<10, 3)
	each(t, func(t *testing.T, o seal.Options) {
		stored, _ := sealed(t, plain, o)
		for _, limit := range []int{0, 1, 5, 100, len(stored) / 2, len(stored) - 1} {
			for name, want := range map[string]error{"error": errFull, "short write": io.ErrShortWrite} {
				dst := &limitedWriter{left: limit}
				if errors.Is(want, errFull) {
					dst.err = errFull
				}
				// age writes a header at once.
				w, err := seal.NewWriter(dst, o)
				if err != nil && (o.Encryption == "" || !errors.Is(err, want)) {
					t.Fatal(err)
				}
				w.Write(plain)
				if err := w.Close(); !errors.Is(err, want) {
					t.Errorf("%s after %d bytes: Close returned %v", name, limit, err)
				}
				if err := w.Close(); !errors.Is(err, want) {
					t.Errorf("%s after %d bytes: second Close returned %v", name, limit, err)
				}
				if _, err := w.Write(plain); !errors.Is(err, want) {
					t.Errorf("%s after %d bytes: Write after Close returned %v", name, limit, err)
				}
				if sum, err := w.Sum(); !errors.Is(err, want) || sum != (seal.Sum{}) {
					t.Errorf("%s after %d bytes: Sum returned %v, %v", name, limit, sum, err)
				}
			}
		}
	})
}

func TestWriterOrder(t *testing.T) {
	each(t, func(t *testing.T, o seal.Options) {
		var dst bytes.Buffer
		w, err := seal.NewWriter(&dst, o)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte("hello"))
		if _, err := w.Sum(); err == nil {
			t.Error("Sum before Close succeeded")
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		size := dst.Len()
		if err := w.Close(); err != nil || dst.Len() != size {
			t.Errorf("second Close: %v, wrote %d bytes", err, dst.Len()-size)
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("Write after Close succeeded")
		}
		if sum, err := w.Sum(); err != nil || sum.PlainBytes != 5 || sum.StoredBytes != int64(size) {
			t.Errorf("Sum: %v, %v", sum, err)
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	plain := rows(32<<20, 1)
	for _, o := range codecs() {
		b.Run(string(o.Compression)+"-"+string(o.Level), func(b *testing.B) {
			w, err := seal.NewWriter(io.Discard, o)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				w.Reset(io.Discard)
				for rest := plain; len(rest) > 0; {
					n, err := w.Write(rest[:min(64<<10, len(rest))])
					if err != nil {
						b.Fatal(err)
					}
					rest = rest[n:]
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
			sum, err := w.Sum()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(sum.PlainBytes)/float64(sum.StoredBytes), "ratio")
		})
	}
}
