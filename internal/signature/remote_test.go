package signature_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
)

// keeper keeps an Ed25519 key, as a key manager does.
type keeper struct {
	secret ed25519.PrivateKey
	public ed25519.PublicKey
	// spoil changes the n-th signature, from 1, or fails.
	spoil func(n int, signed []byte) ([]byte, error)
	signs int
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &keeper{secret: secret, public: public}
}

func (k *keeper) Public(context.Context) (ed25519.PublicKey, error) { return k.public, nil }

func (k *keeper) Sign(_ context.Context, message []byte) ([]byte, error) {
	k.signs++
	signed := ed25519.Sign(k.secret, message)
	if k.spoil != nil {
		return k.spoil(k.signs, signed)
	}
	return signed, nil
}

func (*keeper) String() string { return "a keeper" }

func remoteKey(t *testing.T, r signature.Remote) *signature.Key {
	t.Helper()
	key, err := signature.NewRemoteKey(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRemoteKey: a key that stays elsewhere signs as one that is here, with an id that its
// public half alone says.
func TestRemoteKey(t *testing.T) {
	k := newKeeper(t)
	key := remoteKey(t, k)
	sum := sha256.Sum256(k.public)
	if want := fmt.Sprintf("%X", sum[:8]); key.ID() != want || key.Public().ID() != want || remoteKey(t, k).Public().String() != key.Public().String() {
		t.Errorf("its id is %s, want %s", key.ID(), want)
	}
	again, err := signature.ParseSigner(key.Public().String())
	if err != nil || again.ID() != key.ID() {
		t.Errorf("its public key is read as %s, %v", again, err)
	}
	signed := mustSign(t, key, []byte("manifest"), "a comment")
	trusted := signature.Signers{again}
	if k.signs != 2 || !trusted.Verifies([]byte("manifest"), signed) || trusted.Verifies([]byte("Manifest"), signed) {
		t.Errorf("%d calls made\n%s", k.signs, signed)
	}
	if trusted.Verifies([]byte("manifest"), bytes.Replace(signed, []byte("a comment"), []byte("b comment"), 1)) {
		t.Error("the comment is not signed")
	}
	if _, err := key.File(); err == nil {
		t.Error("it was written to a file")
	}
	if key.Kept() != "a keeper" {
		t.Error(key.Kept())
	}
}

// TestRemoteKeyFails: what was not signed, or not by this key, is an error of the right
// kind, and no signature.
func TestRemoteKeyFails(t *testing.T) {
	away := pgmedic.Errorf(pgmedic.KindUnreachable, "", "away")
	other := newKeeper(t)
	for name, test := range map[string]struct {
		spoil func(n int, signed []byte) ([]byte, error)
		kind  pgmedic.Kind
		words string
	}{
		"away":               {func(int, []byte) ([]byte, error) { return nil, away }, pgmedic.KindUnreachable, "away"},
		"away in the middle": {func(n int, s []byte) ([]byte, error) { return s, map[bool]error{true: away}[n == 2] }, pgmedic.KindUnreachable, "away"},
		"a bit changed":      {func(_ int, s []byte) ([]byte, error) { s[3] ^= 1; return s, nil }, pgmedic.KindIntegrity, "a keeper made a signature that its public key"},
		"the second changed": {func(n int, s []byte) ([]byte, error) { s[3] ^= byte(n - 1); return s, nil }, pgmedic.KindIntegrity, "does not verify"},
		"of another key":     {func(int, []byte) ([]byte, error) { return ed25519.Sign(other.secret, []byte("x")), nil }, pgmedic.KindIntegrity, "does not verify"},
		"too short":          {func(_ int, s []byte) ([]byte, error) { return s[:63], nil }, pgmedic.KindIntegrity, "answered with 63 bytes"},
		"DER":                {func(_ int, s []byte) ([]byte, error) { return append([]byte{0x30}, s...), nil }, pgmedic.KindIntegrity, "answered with 65 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper(t)
			k.spoil = test.spoil
			signed, err := remoteKey(t, k).Sign(t.Context(), []byte("manifest"), "a comment")
			var sign *signature.SignError
			if signed != nil || !errors.As(err, &sign) || pgmedic.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.words) {
				t.Errorf("%q, %v (%v)", signed, err, pgmedic.KindOf(err))
			}
		})
	}
	k := newKeeper(t)
	k.public = k.public[:31]
	if _, err := signature.NewRemoteKey(t.Context(), k); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Error(err)
	}
}

// TestAddUsesNoKeyTwice: a signature that fits is left as it is, without another one being
// made; and where the key can't sign nothing is stored.
func TestAddUsesNoKeyTwice(t *testing.T) {
	s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := newKeeper(t)
	key := remoteKey(t, k)
	m := signature.Manifest{Store: s, Folder: "a/b/c", ID: "c", Data: []byte("{}\n")}
	k.spoil = func(int, []byte) ([]byte, error) { return nil, errors.New("refused") }
	var sign *signature.SignError
	if added, err := m.Add(t.Context(), key); added || !errors.As(err, &sign) {
		t.Errorf("%v, %v", added, err)
	}
	if err := m.Put(t.Context(), key); !errors.As(err, &sign) {
		t.Error(err)
	}
	if signing, err := m.Signing(t.Context(), signature.Signers{key.Public()}); err != nil || signing.Stored != 0 {
		t.Errorf("%+v, %v", signing, err)
	}
	k.spoil, k.signs = nil, 0
	for _, want := range []bool{true, false} {
		if added, err := m.Add(t.Context(), key); err != nil || added != want {
			t.Errorf("%v, %v, want %v", added, err, want)
		}
	}
	if signing, err := m.Signing(t.Context(), signature.Signers{key.Public()}); err != nil || signing.State != signature.Trusted || k.signs != 2 {
		t.Errorf("%+v, %v; signed %d times", signing, err, k.signs)
	}
}
