package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// TestPassphraseCost: what the program seals with a passphrase of the configuration costs
// what docs/keys.md says to guess, however cheap passphrases are in the tests of seal.
func TestPassphraseCost(t *testing.T) {
	const phrase = "correct horse, 'battery' staple"
	sealing := func(environ ...string) sealing {
		t.Helper()
		cfg, err := config.Load(config.Options{Dir: t.TempDir(), Environ: append(environ, "BACKUP_ENCRYPTION_KEY="+phrase)})
		if err != nil {
			t.Fatal(err)
		}
		how, err := keyring{job{env: &env{}, cfg: cfg}}.sealing(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return how
	}

	how := sealing()
	if len(how.wraps) != 1 {
		t.Fatalf("%d ways to open a backup, want the passphrase", len(how.wraps))
	}
	key, err := seal.NewKey(how.wraps[0].To)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := key.Wrap(how.wraps[0].To)
	if err != nil {
		t.Fatal(err)
	}
	if stanza := strings.Split(string(wrapped), "\n")[1]; !strings.HasPrefix(stanza, "-> scrypt ") || !strings.HasSuffix(stanza, " 16") {
		t.Errorf("a wrap begins with %q, want scrypt of 2^16", stanza)
	}

	how = sealing("BACKUP_ENCRYPTION=aes-256-cbc")
	var stored bytes.Buffer
	w, err := seal.NewWriter(&stored, seal.Options{Compression: seal.CompressionNone, Encryption: how.options.Encryption, Key: how.options.Key})
	if err == nil {
		_, err = io.WriteString(w, "rows")
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := seal.OpenSSLDerivation{Digest: "sha256", Iterations: 600_000}.NewReader(bytes.NewReader(stored.Bytes()), phrase)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(plain); err != nil || string(got) != "rows" {
		t.Errorf("openssl's -iter 600000 reads %d bytes, %v", len(got), err)
	}
	sum, err := w.Sum()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := how.options.Key.MAC([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for what, made := range map[string]struct {
		code string
		of   []byte
	}{"a stream's": {sum.HMAC, stored.Bytes()}, "a manifest's": {manifest, []byte("{}")}} {
		salt, _, _ := strings.Cut(made.code, ":")
		raw, err := hex.DecodeString(salt)
		if err != nil {
			t.Fatal(err)
		}
		derived, err := pbkdf2.Key(sha256.New, phrase, raw, 600_000, sha256.Size)
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, derived)
		mac.Write(made.of)
		if want := salt + ":" + hex.EncodeToString(mac.Sum(nil)); made.code != want {
			t.Errorf("%s code is not of a key by 600,000 rounds of PBKDF2", what)
		}
	}
}
