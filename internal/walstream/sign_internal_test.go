package walstream

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// keyElsewhere is a signing key that may be away.
type keyElsewhere struct {
	secret ed25519.PrivateKey
	public ed25519.PublicKey
	away   bool
}

func (k *keyElsewhere) Public(context.Context) (ed25519.PublicKey, error) { return k.public, nil }
func (*keyElsewhere) String() string                                      { return "elsewhere" }

func (k *keyElsewhere) Sign(_ context.Context, message []byte) ([]byte, error) {
	if k.away {
		return nil, errors.New("away")
	}
	return ed25519.Sign(k.secret, message), nil
}

// TestEpochUnsigned: a stream goes on with an old epoch where the next one can't be signed,
// and begins none where it has none.
func TestEpochUnsigned(t *testing.T) {
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k := &keyElsewhere{secret: secret, public: public, away: true}
	signer, err := signature.NewRemoteKey(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	var logs bytes.Buffer
	r, err := newRunner(Options{
		Slot: "ours", MaxDelay: time.Hour, Logger: slog.New(slog.NewTextHandler(&logs, nil)), Now: func() time.Time { return now },
		Signer: signer, Seal: seal.Options{Compression: seal.CompressionZstd},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := archive.New(s, "clinic", 1)
	begin := func() error {
		return r.beginEpoch(t.Context(), a, replication.System{Identifier: 1, SegmentSize: wal.MinSegmentSize}, archive.Resume{Timeline: 1, From: 0x1000000})
	}
	var sign *signature.SignError
	if err := begin(); !errors.As(err, &sign) || r.epoch != nil {
		t.Fatalf("the first epoch: %v", err)
	}
	k.away = false
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	first := r.epoch.ID()
	k.away, now = true, now.Add(epochAge)
	if err := begin(); err != nil || r.epoch.ID() != first || strings.Count(logs.String(), "can't be signed") != 1 {
		t.Errorf("away: %v\n%s", err, logs.String())
	}
	k.away, now = false, now.Add(signAgain-time.Second)
	if err := begin(); err != nil || r.epoch.ID() != first {
		t.Errorf("before it is tried again: %v", err)
	}
	now = now.Add(time.Second)
	if err := begin(); err != nil || r.epoch.ID() == first {
		t.Errorf("tried again: %v", err)
	}
	if signing, err := a.Signing(t.Context(), r.epoch.ID(), signature.Signers{signer.Public()}); err != nil || signing.State != signature.Trusted {
		t.Errorf("%+v, %v", signing, err)
	}
}
