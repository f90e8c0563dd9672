package seal_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// codecs are the options that every promise is tested with.
func codecs() []seal.Options {
	key, err := seal.NewKey()
	if err != nil {
		panic(err)
	}
	return []seal.Options{
		{Compression: seal.CompressionNone, Encryption: seal.EncryptionAge, Key: key},
		{Compression: seal.CompressionGzip, Encryption: seal.EncryptionAge, Key: key},
		{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge, Key: key},
		{Compression: seal.CompressionNone},
		{Compression: seal.CompressionGzip},
		{Compression: seal.CompressionGzip, Level: seal.LevelDefault},
		{Compression: seal.CompressionGzip, Level: seal.LevelBetter},
		{Compression: seal.CompressionZstd},
		{Compression: seal.CompressionZstd, Level: seal.LevelDefault},
		{Compression: seal.CompressionZstd, Level: seal.LevelBetter},
	}
}

// each runs a test once for each codec.
func each(t *testing.T, f func(t *testing.T, o seal.Options)) {
	t.Helper()
	for _, o := range codecs() {
		t.Run(strings.Trim(fmt.Sprintf("%s-%s-%s", o.Compression, o.Level, o.Encryption), "-"), func(t *testing.T) { f(t, o) })
	}
}

// eachMethod runs a test once for each method of compression, at its default
// level: the level changes nothing about how a stream is checked.
func eachMethod(t *testing.T, f func(t *testing.T, o seal.Options)) {
	t.Helper()
	for _, o := range codecs() {
		if o.Level == "" {
			t.Run(strings.Trim(fmt.Sprintf("%s-%s", o.Compression, o.Encryption), "-"), func(t *testing.T) { f(t, o) })
		}
	}
}

// rows returns n bytes that look like COPY's text format: compressible, not
// trivially so, and the same for the same seed.
func rows(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "%d\t%x\t2026-11-%02d 02:00:%02d\tpatient %d\t\\N\n",
			r.IntN(1<<20), r.Uint32(), 1+r.IntN(28), r.IntN(60), r.IntN(999))
	}
	return b.Bytes()[:n]
}

// sealed returns plain, sealed, in pieces of a few sizes.
func sealed(t testing.TB, plain []byte, o seal.Options) ([]byte, seal.Sum) {
	t.Helper()
	var dst bytes.Buffer
	w, err := seal.NewWriter(&dst, o)
	if err != nil {
		t.Fatal(err)
	}
	return finish(t, w, &dst, plain)
}

// finish writes plain to w, which seals into dst, and closes it.
func finish(t testing.TB, w *seal.Writer, dst *bytes.Buffer, plain []byte) ([]byte, seal.Sum) {
	t.Helper()
	for step := 1; len(plain) > 0; step *= 3 {
		n, err := w.Write(plain[:min(step, len(plain))])
		if err != nil {
			t.Fatal(err)
		}
		plain = plain[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum, err := w.Sum()
	if err != nil {
		t.Fatal(err)
	}
	return dst.Bytes(), sum
}

// unseal reads everything that src gives.
func unseal(t testing.TB, src io.Reader, sum seal.Sum, o seal.Options) ([]byte, error) {
	t.Helper()
	r, err := seal.NewReader(src, sum, o)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		if _, again := r.Read(make([]byte, 1)); again == nil || again.Error() != err.Error() {
			t.Errorf("Read after %q returned %v", err, again)
		}
	}
	return got, err
}

// wantCorrupt fails the test unless err calls the bytes corrupt.
func wantCorrupt(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s was not noticed", what)
		return
	}
	if pgmedic.KindOf(err) != pgmedic.KindIntegrity || !strings.HasPrefix(err.Error(), "corrupt: ") {
		t.Errorf("%s: got %v (%v), want corrupt (integrity)", what, err, pgmedic.KindOf(err))
	}
	if pgmedic.HintOf(err) == "" {
		t.Errorf("%s: no hint", what)
	}
}
