package seal_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// TestUnrecorded: a stream without a Sum is read whole, and one that was changed, cut off,
// extended, or is larger than it may be is an error, wherever that is.
func TestUnrecorded(t *testing.T) {
	key, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte("some WAL "), 30)
	for name, o := range map[string]seal.Options{
		"zstd and age": {Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge, Key: key},
		"gzip and age": {Compression: seal.CompressionGzip, Encryption: seal.EncryptionAge, Key: key},
		"age":          {Compression: seal.CompressionNone, Encryption: seal.EncryptionAge, Key: key},
		"zstd":         {Compression: seal.CompressionZstd},
	} {
		var stored bytes.Buffer
		w, err := seal.NewWriter(&stored, o)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(plain)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		read := func(b []byte, most int64, o seal.Options) ([]byte, error) {
			r, err := seal.NewUnrecordedReader(bytes.NewReader(b), most, o)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			return io.ReadAll(r)
		}
		if got, err := read(stored.Bytes(), int64(len(plain)), o); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		bad := func(what string, b []byte, most int64, o seal.Options) {
			if _, err := read(b, most, o); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		bad("too large", stored.Bytes(), int64(len(plain))-1, o)
		bad("empty", nil, int64(len(plain)), o)
		bad("more behind it", append(bytes.Clone(stored.Bytes()), 1), int64(len(plain)), o)
		for i := range stored.Len() {
			bad("cut off", stored.Bytes()[:i], int64(len(plain)), o)
			if o.Encryption == seal.EncryptionAge {
				changed := bytes.Clone(stored.Bytes())
				changed[i] ^= 4
				bad("changed", changed, int64(len(plain)), o)
			}
		}
		if o.Encryption == seal.EncryptionAge {
			o.Key = other
			bad("another key", stored.Bytes(), int64(len(plain)), o)
		}
	}
}
