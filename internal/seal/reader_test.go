package seal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func TestRoundTrip(t *testing.T) {
	sizes := []int{0, 1, 2, 100, 4095, 4096, 4097, 128<<10 - 1, 128 << 10, 1<<20 + 1, 36 << 20}
	if testing.Short() {
		sizes = sizes[:len(sizes)-1]
	}
	each(t, func(t *testing.T, o seal.Options) {
		for _, size := range sizes {
			if size > 8<<20 && (o.Level != "" || o.Encryption != "" && o.Compression != seal.CompressionZstd) {
				continue
			}
			plain := rows(size, uint64(size))
			stored, sum := sealed(t, plain, o)
			if want := sha256.Sum256(stored); sum.SHA256 != hex.EncodeToString(want[:]) ||
				sum.StoredBytes != int64(len(stored)) || sum.PlainBytes != int64(size) {
				t.Fatalf("size %d: wrong sum %+v", size, sum)
			}
			got, err := unseal(t, bytes.NewReader(stored), sum, o)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("size %d: got %d bytes, %v", size, len(got), err)
			}
			if err := seal.CheckStored(bytes.NewReader(stored), sum); err != nil {
				t.Fatalf("size %d: CheckStored: %v", size, err)
			}
		}
	})
}

func TestReaderOddSources(t *testing.T) {
	plain := rows(50<<10, 1)
	each(t, func(t *testing.T, o seal.Options) {
		stored, sum := sealed(t, plain, o)
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"one byte":      iotest.OneByteReader,
			"half":          iotest.HalfReader,
			"data with EOF": iotest.DataErrReader,
		} {
			got, err := unseal(t, wrap(bytes.NewReader(stored)), sum, o)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
		r, err := seal.NewReader(bytes.NewReader(stored), sum, o)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := iotest.TestReader(r, plain); err != nil {
			t.Error(err)
		}
	})
}

// TestReaderSourceFails checks that a failure to read is passed on as what it
// is and never called corruption, wherever it strikes.
func TestReaderSourceFails(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	plain := rows(3000, 1)
	wrappedEOF := fmt.Errorf("connection: %w", io.EOF)
	eachMethod(t, func(t *testing.T, o seal.Options) {
		stored, sum := sealed(t, plain, o)
		for _, fail := range []error{net.ErrClosed, os.ErrPermission, io.ErrUnexpectedEOF, iotest.ErrTimeout, wrappedEOF} {
			want := fail
			if errors.Is(fail, wrappedEOF) {
				want = io.ErrUnexpectedEOF
			}
			for at := 0; at <= len(stored); at += 1 + len(stored)/200 {
				src := io.MultiReader(bytes.NewReader(stored[:at]), iotest.ErrReader(fail))
				_, err := unseal(t, src, sum, o)
				if !errors.Is(err, want) || errors.Is(err, io.EOF) || pgmedic.KindOf(err) == pgmedic.KindIntegrity {
					t.Fatalf("%v at byte %d became %v", fail, at, err)
				}
				src = io.MultiReader(bytes.NewReader(stored[:at]), iotest.ErrReader(fail))
				if err := seal.CheckStored(src, sum); !errors.Is(err, want) || pgmedic.KindOf(err) == pgmedic.KindIntegrity {
					t.Fatalf("CheckStored: %v at byte %d became %v", fail, at, err)
				}
			}
		}
		_, err := unseal(t, iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(stored))), sum, o)
		if !errors.Is(err, iotest.ErrTimeout) {
			t.Errorf("a timeout became %v", err)
		}
		_, err = unseal(t, io.MultiReader(bytes.NewReader(stored[:9]), stuckReader{}), sum, o)
		if !errors.Is(err, io.ErrNoProgress) || pgmedic.KindOf(err) == pgmedic.KindIntegrity {
			t.Errorf("a source that gives nothing became %v", err)
		}
	})
}

// stuckReader returns neither bytes nor an error.
type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestReaderEveryBitFlip(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	plain := rows(800, 1)
	eachMethod(t, func(t *testing.T, o seal.Options) {
		stored, sum := sealed(t, plain, o)
		for i := range stored {
			for _, mask := range []byte{0x01, 0x80, 0xff} {
				bad := bytes.Clone(stored)
				bad[i] ^= mask
				_, err := unseal(t, bytes.NewReader(bad), sum, o)
				wantCorrupt(t, fmt.Sprintf("byte %d xor %#x", i, mask), err)
				wantCorrupt(t, "CheckStored", seal.CheckStored(bytes.NewReader(bad), sum))
			}
		}
	})
}

func TestReaderEveryTruncation(t *testing.T) {
	plain := rows(800, 1)
	eachMethod(t, func(t *testing.T, o seal.Options) {
		stored, sum := sealed(t, plain, o)
		for n := range stored {
			_, err := unseal(t, bytes.NewReader(stored[:n]), sum, o)
			wantCorrupt(t, fmt.Sprintf("cut to %d of %d", n, len(stored)), err)
			wantCorrupt(t, "CheckStored", seal.CheckStored(bytes.NewReader(stored[:n]), sum))
		}
	})
}

func TestReaderOtherBytes(t *testing.T) {
	plain := rows(5000, 1)
	each(t, func(t *testing.T, o seal.Options) {
		stored, sum := sealed(t, plain, o)
		other, otherSum := sealed(t, rows(5000, 2), o)
		empty, _ := sealed(t, nil, o)
		for name, bad := range map[string][]byte{
			"a byte more":           append(bytes.Clone(stored), 0),
			"an empty stream more":  append(bytes.Clone(stored), append(empty, 0)...),
			"the stream twice":      append(bytes.Clone(stored), stored...),
			"another stream":        other,
			"another stream before": append(bytes.Clone(other), stored...),
			"nothing":               nil,
		} {
			_, err := unseal(t, bytes.NewReader(bad), sum, o)
			wantCorrupt(t, name, err)
			wantCorrupt(t, name, seal.CheckStored(bytes.NewReader(bad), sum))
		}
		// A Sum whose fields are of two streams.
		for name, bad := range map[string]seal.Sum{
			"other hash":      {StoredBytes: sum.StoredBytes, SHA256: otherSum.SHA256, PlainBytes: sum.PlainBytes},
			"plain too few":   {StoredBytes: sum.StoredBytes, SHA256: sum.SHA256, PlainBytes: sum.PlainBytes - 1},
			"plain too many":  {StoredBytes: sum.StoredBytes, SHA256: sum.SHA256, PlainBytes: sum.PlainBytes + 1},
			"stored too few":  {StoredBytes: sum.StoredBytes - 1, SHA256: sum.SHA256, PlainBytes: sum.PlainBytes},
			"stored too many": {StoredBytes: sum.StoredBytes + 1, SHA256: sum.SHA256, PlainBytes: sum.PlainBytes},
			"no hash":         {StoredBytes: sum.StoredBytes, PlainBytes: sum.PlainBytes},
			"upper-case":      {StoredBytes: sum.StoredBytes, SHA256: strings.Repeat("AB", 32), PlainBytes: sum.PlainBytes},
			"negative":        {StoredBytes: -1, SHA256: sum.SHA256, PlainBytes: sum.PlainBytes},
		} {
			_, err := unseal(t, bytes.NewReader(stored), bad, o)
			wantCorrupt(t, name, err)
		}
	})
}

// TestReaderTrailing gives the Reader streams whose recorded hash is right but
// that no Writer made: the hash alone doesn't make a stream whole.
func TestReaderTrailing(t *testing.T) {
	sumOf := func(stored []byte, plain int) seal.Sum {
		h := sha256.Sum256(stored)
		return seal.Sum{StoredBytes: int64(len(stored)), SHA256: hex.EncodeToString(h[:]), PlainBytes: int64(plain)}
	}
	gz, _ := sealed(t, []byte("hello"), seal.Options{Compression: seal.CompressionGzip})
	zst, _ := sealed(t, []byte("hello"), seal.Options{Compression: seal.CompressionZstd})
	for name, c := range map[string]struct {
		o      seal.Options
		stored []byte
		plain  int
	}{
		"gzip, junk":         {seal.Options{Compression: seal.CompressionGzip}, append(bytes.Clone(gz), "junk"...), 5},
		"gzip, two members":  {seal.Options{Compression: seal.CompressionGzip}, append(bytes.Clone(gz), gz...), 10},
		"gzip, second of it": {seal.Options{Compression: seal.CompressionGzip}, append(bytes.Clone(gz), gz...), 5},
		"gzip, cut":          {seal.Options{Compression: seal.CompressionGzip}, gz[:len(gz)-1], 5},
		"gzip, empty":        {seal.Options{Compression: seal.CompressionGzip}, nil, 0},
		"zstd, junk":         {seal.Options{Compression: seal.CompressionZstd}, append(bytes.Clone(zst), "junk"...), 5},
		"zstd, second frame": {seal.Options{Compression: seal.CompressionZstd}, append(bytes.Clone(zst), zst...), 5},
		"zstd, cut":          {seal.Options{Compression: seal.CompressionZstd}, zst[:len(zst)-1], 5},
		"zstd, empty":        {seal.Options{Compression: seal.CompressionZstd}, nil, 0},
		"none, short plain":  {seal.Options{Compression: seal.CompressionNone}, []byte("hello"), 4},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unseal(t, bytes.NewReader(c.stored), sumOf(c.stored, c.plain), c.o)
			wantCorrupt(t, name, err)
		})
	}
}

// TestReaderBomb checks that plain bytes beyond what is recorded are never
// returned, and that a window too large to hold is refused.
func TestReaderBomb(t *testing.T) {
	zeros := make([]byte, 8<<20)
	var gz, zst bytes.Buffer
	g, _ := gzip.NewWriterLevel(&gz, gzip.BestCompression)
	g.Write(zeros)
	g.Close()
	z, err := zstd.NewWriter(&zst, zstd.WithWindowSize(128<<20))
	if err != nil {
		t.Fatal(err)
	}
	z.Write(zeros)
	z.Close()
	for c, stored := range map[seal.Compression][]byte{seal.CompressionGzip: gz.Bytes(), seal.CompressionZstd: zst.Bytes()} {
		h := sha256.Sum256(stored)
		sum := seal.Sum{StoredBytes: int64(len(stored)), SHA256: hex.EncodeToString(h[:]), PlainBytes: 1000}
		got, err := unseal(t, bytes.NewReader(stored), sum, seal.Options{Compression: c})
		if len(got) > 1000 {
			t.Errorf("%s: %d plain bytes came out of 1000", c, len(got))
		}
		wantCorrupt(t, string(c), err)
		if c == seal.CompressionZstd {
			sum.PlainBytes = int64(len(zeros))
			_, err := unseal(t, bytes.NewReader(stored), sum, seal.Options{Compression: c})
			wantCorrupt(t, "a window of 128 MiB", err)
		}
	}
}

func TestReaderReset(t *testing.T) {
	each(t, func(t *testing.T, o seal.Options) {
		stored, sum := sealed(t, rows(200<<10, 1), o)
		r, err := seal.NewReader(bytes.NewReader(stored[:len(stored)/2]), sum, o)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, r)
		wantCorrupt(t, "half a stream", err)
		for i, size := range []int{0, 10, 300 << 10} {
			plain := rows(size, uint64(i))
			stored, sum := sealed(t, plain, o)
			if err := r.Reset(bytes.NewReader(stored), sum); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("stream %d after Reset: %d bytes, %v", i, len(got), err)
			}
		}
		if err := r.Reset(bytes.NewReader(nil), seal.Sum{}); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("Reset with a Sum of nothing: %v", err)
		}
		if _, err := r.Read(make([]byte, 1)); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("Read after a Reset that failed: %v", err)
		}
	})
}

func TestReaderClose(t *testing.T) {
	before := runtime.NumGoroutine()
	each(t, func(t *testing.T, o seal.Options) {
		stored, sum := sealed(t, rows(1<<20, 1), o)
		for _, read := range []int{-1, 0, 1, 200 << 10, 1 << 20, 2 << 20} {
			r, err := seal.NewReader(bytes.NewReader(stored), sum, o)
			if err != nil {
				t.Fatal(err)
			}
			if read >= 0 {
				io.ReadFull(r, make([]byte, read))
			}
			for range 2 {
				if err := r.Close(); err != nil {
					t.Errorf("Close after %d: %v", read, err)
				}
			}
			ended := read > 1<<20
			if _, err := r.Read(make([]byte, 1)); (err == io.EOF) != ended || err == nil {
				t.Errorf("Read after Close after %d bytes: %v", read, err)
			}
			if err := r.Reset(bytes.NewReader(stored), sum); err == nil {
				t.Error("Reset after Close succeeded")
			}
		}
	})
	// The goroutines of subtests need a moment to end.
	testkit.Eventually(t, time.Minute, fmt.Sprintf("no more than the %d goroutines of before are left", before), func() bool {
		return runtime.NumGoroutine() <= before
	})
}

// FuzzReader gives the Reader arbitrary bytes. It may end cleanly only if they
// have the recorded hash and size, and then returns the recorded plain size.
func FuzzReader(f *testing.F) {
	kinds := []seal.Compression{seal.CompressionNone, seal.CompressionGzip, seal.CompressionZstd}
	for i, c := range kinds {
		for _, plain := range [][]byte{nil, []byte("hello"), rows(3000, 1)} {
			stored, sum := sealed(f, plain, seal.Options{Compression: c})
			f.Add(byte(i), stored, sum.PlainBytes, true)
			f.Add(byte(i), stored, sum.PlainBytes, false)
			f.Add(byte(i), append(stored, stored...), 2*sum.PlainBytes, true)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, stored []byte, plain int64, honest bool) {
		hashed := stored
		if !honest {
			hashed = append([]byte("not "), stored...)
		}
		h := sha256.Sum256(hashed)
		sum := seal.Sum{StoredBytes: int64(len(stored)), SHA256: hex.EncodeToString(h[:]), PlainBytes: plain % (1 << 20)}
		got, err := unseal(t, bytes.NewReader(stored), sum, seal.Options{Compression: kinds[int(kind)%len(kinds)]})
		if err != nil {
			wantCorrupt(t, "arbitrary bytes", err)
		} else if !honest || int64(len(got)) != sum.PlainBytes {
			t.Errorf("a clean end after %d plain bytes, recorded are %d, the hash was right: %v", len(got), sum.PlainBytes, honest)
		}
		if int64(len(got)) > max(0, sum.PlainBytes) {
			t.Errorf("%d plain bytes came out, recorded are %d", len(got), sum.PlainBytes)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	plain := rows(32<<20, 1)
	for _, o := range codecs() {
		if o.Level != "" {
			continue
		}
		b.Run(string(o.Compression), func(b *testing.B) {
			stored, sum := sealed(b, plain, o)
			r, err := seal.NewReader(bytes.NewReader(stored), sum, o)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			buf := make([]byte, 64<<10)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Reset(bytes.NewReader(stored), sum); err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = r.Read(buf)
				}
				if err != io.EOF {
					b.Fatal(err)
				}
				err = nil
			}
		})
	}
}
