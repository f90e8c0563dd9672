package seal_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// way is one way to open a backup.
type way struct {
	to   age.Recipient
	with age.Identity
}

// ways returns a fresh way of each kind.
func ways(t testing.TB) map[string]way {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	x, err := age.GenerateX25519Identity()
	must(err)
	h, err := age.GenerateHybridIdentity()
	must(err)
	text := "correct horse " + hex.EncodeToString([]byte(x.String()[20:24]))
	with, err := seal.PassphraseIdentity(text)
	must(err)
	return map[string]way{"X25519": {x.Recipient(), x}, "hybrid": {h.Recipient(), h}, "passphrase": {cheapRecipient(t, text), with}}
}

// cheapRecipient is seal.PassphraseRecipient at a cost that a test can pay often.
func cheapRecipient(t testing.TB, text string) age.Recipient {
	t.Helper()
	to, err := age.NewScryptRecipient(text)
	if err != nil {
		t.Fatal(err)
	}
	to.SetWorkFactor(2)
	return to
}

// TestPassphraseWork pays the full price once: what a passphrase costs to guess is what
// the format's page promises, and it opens again.
func TestPassphraseWork(t *testing.T) {
	to, err := seal.PassphraseRecipient(phrase)
	if err != nil {
		t.Fatal(err)
	}
	with, err := seal.PassphraseIdentity(phrase)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, to)
	wrapped, err := key.Wrap(to)
	if err != nil {
		t.Fatal(err)
	}
	if stanza := strings.Split(string(wrapped), "\n")[1]; !strings.HasPrefix(stanza, "-> scrypt ") || !strings.HasSuffix(stanza, " 16") {
		t.Errorf("a wrap begins with %q, want scrypt of 2^16", stanza)
	}
	got, err := seal.OpenKey(wrapped, []age.Identity{with})
	if err != nil || mac(t, got, "x") != mac(t, key, "x") {
		t.Errorf("another key came out, or none: %v", err)
	}

	full, err := seal.PassphraseKey(phrase)
	if err != nil {
		t.Fatal(err)
	}
	salt, code, _ := strings.Cut(mac(t, full, "manifest"), ":")
	raw, err := hex.DecodeString(salt)
	if err != nil {
		t.Fatal(err)
	}
	derived, err := pbkdf2.Key(sha256.New, phrase, raw, 600_000, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	want := hmac.New(sha256.New, derived)
	want.Write([]byte("manifest"))
	if hex.EncodeToString(want.Sum(nil)) != code {
		t.Error("a manifest's code is not of a key by 600,000 rounds of PBKDF2")
	}
	if full.CheckMAC([]byte("manifest"), mac(t, seal.CheapPassphraseKey(phrase), "manifest")) == nil {
		t.Error("a code of fewer rounds passes")
	}
}

func newKey(t testing.TB, to ...age.Recipient) *seal.Key {
	t.Helper()
	key, err := seal.NewKey(to...)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mac(t testing.TB, key *seal.Key, data string) string {
	t.Helper()
	code, err := key.MAC([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestWrapAndOpen(t *testing.T) {
	for name, w := range ways(t) {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, w.to)
			if key.PostQuantum() != (name == "hybrid") {
				t.Errorf("post-quantum: %v", key.PostQuantum())
			}
			wrapped, err := key.Wrap(w.to)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]seal.WrapKind{
				"X25519": seal.WrapX25519, "hybrid": seal.WrapPostQuantum, "passphrase": seal.WrapPassphrase,
			}[name]
			if got := seal.KindOfWrap(wrapped); got != want {
				t.Errorf("kind %q, want %q", got, want)
			}
			if got := seal.KindOfWrap(wrapped[1:]); got != seal.WrapUnknown {
				t.Errorf("kind %q of what is no wrap", got)
			}
			others := ways(t)
			for other := range others {
				if _, err := seal.OpenKey(wrapped, []age.Identity{others[other].with}); !errors.Is(err, seal.ErrNotForUs) {
					t.Errorf("with another %s: %v", other, err)
				}
			}
			got, err := seal.OpenKey(wrapped, []age.Identity{others["X25519"].with, w.with, others["hybrid"].with})
			if err != nil {
				t.Fatal(err)
			}
			if mac(t, got, "x") != mac(t, key, "x") || got.PostQuantum() != key.PostQuantum() {
				t.Error("another key came out")
			}
			o := seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge, Key: key}
			stored, sum := sealed(t, rows(100<<10, 1), o)
			o.Key = got
			if plain, err := unseal(t, bytes.NewReader(stored), sum, o); err != nil || !bytes.Equal(plain, rows(100<<10, 1)) {
				t.Errorf("read with the opened key: %d bytes, %v", len(plain), err)
			}
		})
	}
}

// TestMixedKinds holds that one classic recipient can't quietly make a
// post-quantum backup as weak as itself, nor be promised what it is not.
func TestMixedKinds(t *testing.T) {
	w := ways(t)
	x, h, p := w["X25519"].to, w["hybrid"].to, w["passphrase"].to
	for _, to := range [][]age.Recipient{{x, h}, {h, x}, {h, p, x}} {
		if _, err := seal.NewKey(to...); pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
			t.Errorf("NewKey(%T): %v", to, err)
		}
	}
	for _, c := range []struct {
		key  *seal.Key
		to   age.Recipient
		want bool
	}{
		{newKey(t, h), x, false}, {newKey(t, x), h, false}, {newKey(t), h, false},
		{newKey(t, h), p, true}, {newKey(t, x, p), p, true}, {newKey(t, p, h), h, true},
	} {
		_, err := c.key.Wrap(c.to)
		if (err == nil) != c.want || err != nil && pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("Wrap(%T) of a key that is post-quantum %v: %v", c.to, c.key.PostQuantum(), err)
		}
	}
}

// TestDamagedWrap changes every byte of a wrap in several ways and cuts it
// everywhere: no change may give a key.
func TestDamagedWrap(t *testing.T) {
	w := ways(t)
	for name, w := range w {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, w.to)
			wrapped, err := key.Wrap(w.to)
			if err != nil {
				t.Fatal(err)
			}
			refused := func(what string, bad []byte) {
				got, err := seal.OpenKey(bad, []age.Identity{w.with})
				if err == nil || got != nil {
					t.Fatalf("%s: a key came out", what)
				}
				if !errors.Is(err, seal.ErrNotForUs) && pgmedic.KindOf(err) != pgmedic.KindIntegrity {
					t.Fatalf("%s: %v (%s)", what, err, pgmedic.KindOf(err))
				}
				if strings.Contains(err.Error(), "AGE-SECRET") {
					t.Fatalf("%s: the error holds a key", what)
				}
			}
			for i := range wrapped {
				masks := []byte{0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80}
				if name == "hybrid" {
					masks = masks[i%8 : i%8+1] // it is long, and slow with the race detector
				}
				for _, mask := range masks {
					bad := bytes.Clone(wrapped)
					bad[i] ^= mask
					refused(fmt.Sprintf("byte %d xor %#x", i, mask), bad)
				}
				if name != "hybrid" || i%8 == 0 {
					refused(fmt.Sprintf("cut to %d", i), wrapped[:i])
				}
			}
			refused("a byte more", append(bytes.Clone(wrapped), 0))
			refused("twice", append(bytes.Clone(wrapped), wrapped...))
		})
	}
}

// TestWrapOfNoKey opens wraps that hold something else.
func TestWrapOfNoKey(t *testing.T) {
	w := ways(t)["X25519"]
	for _, text := range []string{"", "hunter2", "AGE-SECRET-KEY-1hunter2", "age1hunter2"} {
		var b bytes.Buffer
		e, err := age.Encrypt(&b, w.to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = seal.OpenKey(b.Bytes(), []age.Identity{w.with})
		wantCorrupt(t, "a wrap of "+text, err)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes what the wrap holds: %v", err)
		}
	}
}

// TestCostlyWrap holds that a wrap can't make its reader spend without bound.
func TestCostlyWrap(t *testing.T) {
	with, err := seal.PassphraseIdentity("x")
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := newKey(t).Wrap(cheapRecipient(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	line, rest, _ := bytes.Cut(wrapped, []byte(" 2\n"))
	costly := slices.Concat(line, []byte(" 30\n"), rest)
	if _, err := seal.OpenKey(costly, []age.Identity{with}); err == nil {
		t.Error("a wrap that asks for a TiB was opened")
	}
	if _, err := seal.PassphraseRecipient(""); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("an empty passphrase: %v", err)
	}
}

// TestManifestMAC changes every byte of a manifest, and uses the key of another
// backup, which is what comes out where wraps were swapped between folders.
func TestManifestMAC(t *testing.T) {
	key, other := newKey(t), newKey(t)
	manifest := `{"id": "20261122T020000Z-7f3a9c", "chunks": [{"pack": "pack-0001", "offset": 0}]}`
	code := mac(t, key, manifest)
	if err := key.CheckMAC([]byte(manifest), code+"\n"); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, k *seal.Key, data, code string) {
		wantCorrupt(t, what, k.CheckMAC([]byte(data), code))
	}
	for i := range manifest {
		bad := []byte(manifest)
		bad[i] ^= 1
		refused(fmt.Sprintf("byte %d", i), key, string(bad), code)
		refused(fmt.Sprintf("cut to %d", i), key, manifest[:i], code)
	}
	refused("a byte more", key, manifest+" ", code)
	refused("the other's", key, manifest, mac(t, other, manifest))
	refused("no code", key, manifest, "")
	refused("half a code", key, manifest, code[:32])

	w := ways(t)["X25519"]
	swapped, err := other.Wrap(w.to)
	if err != nil {
		t.Fatal(err)
	}
	got, err := seal.OpenKey(swapped, []age.Identity{w.with})
	if err != nil {
		t.Fatal(err)
	}
	refused("the wrap of another backup", got, manifest, code)
}

func hashOf(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

// TestChunkOfAnotherBackup reads bytes that are whole and have the recorded
// hash, and were encrypted to another key.
func TestChunkOfAnotherBackup(t *testing.T) {
	eachMethod(t, func(t *testing.T, o seal.Options) {
		if o.Encryption != seal.EncryptionAge {
			return
		}
		stored, sum := sealed(t, rows(1000, 1), o)
		o.Key = newKey(t)
		plain, err := unseal(t, bytes.NewReader(stored), sum, o)
		wantCorrupt(t, "another backup's chunk", err)
		if len(plain) > 0 {
			t.Errorf("%d bytes came out", len(plain))
		}
	})
}

// TestEncryptedStreamWhole gives the Reader streams whose recorded hash is
// right and whose parts are wrong: what somebody would try who can write hashes
// but has no key. age's parts are 64 KiB and carry a tag each.
func TestEncryptedStreamWhole(t *testing.T) {
	const part, tag = 64 << 10, 16
	o := seal.Options{Compression: seal.CompressionNone, Encryption: seal.EncryptionAge, Key: newKey(t)}
	plain := rows(3*part+1000, 1)
	stored, _ := sealed(t, plain, o)
	header := bytes.Index(stored, []byte("\n--- "))
	header += 1 + bytes.IndexByte(stored[header+1:], '\n') + 1
	start := header + 16 // a nonce
	piece := func(i int) []byte { return stored[start+i*(part+tag) : min(start+(i+1)*(part+tag), len(stored))] }
	whole, _ := sealed(t, rows(part, 2), o)
	for name, c := range map[string]struct {
		bad   []byte
		plain int
	}{
		"nothing":                    {nil, 0},
		"only the header":            {stored[:header], 0},
		"no parts":                   {stored[:start], 0},
		"cut after the first part":   {stored[:start+part+tag], part},
		"the last part dropped":      {stored[:start+3*(part+tag)], 3 * part},
		"cut within the last tag":    {stored[:len(stored)-1], len(plain)},
		"two parts in another order": {slices.Concat(stored[:start], piece(1), piece(0), piece(2), piece(3)), len(plain)},
		"a part twice":               {slices.Concat(stored[:start], piece(0), piece(0), piece(1), piece(2), piece(3)), len(plain) + part},
		"a part left out":            {slices.Concat(stored[:start], piece(0), piece(2), piece(3)), len(plain) - part},
		"the last part twice":        {slices.Concat(stored, piece(3)), len(plain) + 1000},
		"a byte more":                {slices.Concat(stored, []byte{0}), len(plain)},
		"a stream more":              {slices.Concat(stored, whole), len(plain) + part},
		"a full last part and more":  {slices.Concat(whole, []byte("junk")), part},
		"the parts of another":       {slices.Concat(whole[:len(whole)-part-tag], piece(0)), part},
	} {
		t.Run(name, func(t *testing.T) {
			sum := seal.Sum{StoredBytes: int64(len(c.bad)), SHA256: hashOf(c.bad), PlainBytes: int64(c.plain)}
			_, err := unseal(t, bytes.NewReader(c.bad), sum, o)
			wantCorrupt(t, name, err)
		})
	}
}
