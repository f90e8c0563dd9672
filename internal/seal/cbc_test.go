package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
)

const phrase = "correct horse, 'battery' staple ü"

// cbc are options whose key is derived in a few rounds.
func cbc(c seal.Compression, passphrase string) seal.Options {
	return seal.Options{Compression: c, Encryption: seal.EncryptionAES256CBC, Key: seal.CheapPassphraseKey(passphrase)}
}

// TestCBCWithOpenSSL has openssl decrypt what a Writer made: all kinds of ends at the
// rounds of tests, and one stream by the arguments that the format is defined by.
func TestCBCWithOpenSSL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "phrase")
	if err := os.WriteFile(file, []byte(phrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	decrypted := func(stored []byte, rounds string) []byte {
		return filter(t, stored, "openssl", "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-iter", rounds, "-md", "sha256", "-pass", "file:"+file)
	}
	o := cbc(seal.CompressionNone, phrase)
	for _, size := range []int{0, 15, 16, 64<<10 + 1} {
		plain := rows(size, 1)
		stored, sum := sealed(t, plain, o)
		if got := decrypted(stored, strconv.Itoa(seal.TestRounds)); !bytes.Equal(got, plain) {
			t.Errorf("size %d: openssl made %d bytes of it", size, len(got))
		}
		if got, err := unseal(t, bytes.NewReader(stored), sum, o); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("size %d: %d bytes, %v", size, len(got), err)
		}
		if err := seal.CheckStored(bytes.NewReader(stored), sum); err != nil {
			t.Errorf("size %d: CheckStored: %v", size, err)
		}
	}
	key, err := seal.PassphraseKey(phrase)
	if err != nil {
		t.Fatal(err)
	}
	o = seal.Options{Compression: seal.CompressionGzip, Encryption: seal.EncryptionAES256CBC, Key: key}
	stored, _ := sealed(t, rows(300<<10, 2), o)
	got := filter(t, decrypted(stored, "600000"), "gzip", "-dc")
	if !bytes.Equal(got, rows(300<<10, 2)) || seal.Suffix(o) != ".gz.enc" {
		t.Errorf("gzip: %d bytes, %s", len(got), seal.Suffix(o))
	}
}

// TestCBCDamage changes bytes all over a stream whose recorded hash is that of
// the changed one, and holds that nothing comes out: neither of the salt, of the rows, nor of the end.
func TestCBCDamage(t *testing.T) {
	o := cbc(seal.CompressionNone, phrase)
	plain := rows(200, 1)
	stored, sum := sealed(t, plain, o)
	refused := func(what string, bad []byte, sum seal.Sum, o seal.Options) {
		sum.StoredBytes, sum.SHA256 = int64(len(bad)), hashOf(bad)
		got, err := unseal(t, bytes.NewReader(bad), sum, o)
		wantCorrupt(t, what, err)
		if len(got) > 0 {
			t.Errorf("%s: %d plain bytes came out", what, len(got))
		}
	}
	for i := range stored {
		bad := bytes.Clone(stored)
		bad[i] ^= 1
		refused(fmt.Sprintf("byte %d", i), bad, sum, o)
	}
	for n := range stored {
		refused(fmt.Sprintf("cut to %d", n), stored[:n], sum, o)
	}
	refused("a block more", append(bytes.Clone(stored), stored[16:32]...), sum, o)
	refused("another passphrase", stored, sum, cbc(seal.CompressionNone, "other"))
	_, other := sealed(t, plain, o)
	for name, text := range map[string]string{
		"another's code": other.HMAC, "no code": "", "no salt": sum.HMAC[33:], "half a code": sum.HMAC[:60], "not hex": strings.Repeat("x", 97),
	} {
		bad := sum
		bad.HMAC = text
		refused(name, stored, bad, o)
	}
	// With the recorded hash the damage is found by that.
	bad := bytes.Clone(stored)
	bad[40] ^= 1
	got, err := unseal(t, bytes.NewReader(bad), sum, o)
	wantCorrupt(t, "damage", err)
	if len(got) > 0 {
		t.Errorf("%d plain bytes came out", len(got))
	}
}

// TestCBCSource holds that failing to read is not called corruption.
func TestCBCSource(t *testing.T) {
	o := cbc(seal.CompressionNone, phrase)
	stored, sum := sealed(t, rows(1000, 1), o)
	_, err := unseal(t, io.MultiReader(bytes.NewReader(stored)), sum, o)
	if err == nil || pgmedic.KindOf(err) == pgmedic.KindIntegrity {
		t.Errorf("a source that can't be read twice: %v", err)
	}
	for _, at := range []int{0, 500, len(stored)} {
		for _, again := range []bool{false, true} {
			src := &failingSeeker{data: stored, at: at, again: again}
			_, err := unseal(t, src, sum, o)
			if !errors.Is(err, iotest.ErrTimeout) || pgmedic.KindOf(err) == pgmedic.KindIntegrity {
				t.Errorf("failing at %d, the second time %v: %v", at, again, err)
			}
		}
	}
}

// failingSeeker fails at a byte, the first or the second time.
type failingSeeker struct {
	data  []byte
	at    int
	again bool
	pos   int
}

func (f *failingSeeker) Read(p []byte) (int, error) {
	if !f.again && f.pos >= f.at {
		return 0, iotest.ErrTimeout
	}
	if f.pos == len(f.data) {
		return 0, io.EOF
	}
	end := len(f.data)
	if !f.again {
		end = f.at
	}
	n := copy(p, f.data[f.pos:end])
	f.pos += n
	return n, nil
}

func (f *failingSeeker) Seek(int64, int) (int64, error) {
	f.pos, f.again = 0, false
	return 0, nil
}

func TestCBCOptions(t *testing.T) {
	if _, err := seal.PassphraseKey(""); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("an empty passphrase: %v", err)
	}
	o := cbc(seal.CompressionGzip, phrase)
	for name, o := range map[string]seal.Options{
		"no key":                 {Compression: o.Compression, Encryption: o.Encryption},
		"age's key":              {Compression: o.Compression, Encryption: o.Encryption, Key: newKey(t)},
		"a passphrase for age's": {Compression: o.Compression, Encryption: seal.EncryptionAge, Key: o.Key},
	} {
		if _, err := seal.NewWriter(io.Discard, o); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
	code, err := o.Key.MAC([]byte("manifest"))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Key.CheckMAC([]byte("manifest"), code+"\n"); err != nil {
		t.Error(err)
	}
	wantCorrupt(t, "another manifest", o.Key.CheckMAC([]byte("manifesto"), code))
	wantCorrupt(t, "another passphrase", cbc(o.Compression, "x").Key.CheckMAC([]byte("manifest"), code))
	wantCorrupt(t, "no code", o.Key.CheckMAC([]byte("manifest"), ""))
	if _, err := o.Key.Wrap(ways(t)["X25519"].to); err == nil {
		t.Error("a passphrase was wrapped")
	}
}
