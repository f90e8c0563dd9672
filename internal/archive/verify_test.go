package archive_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// verify checks the archive with the key of the bench.
func (b *bench) verify(o archive.VerifyOptions) *archive.Verified {
	b.t.Helper()
	o.Open = func(_ context.Context, _ string, wraps []archive.StoredWrap) (*seal.Key, error) {
		for _, w := range wraps {
			return seal.OpenKey(w.Data, []age.Identity{b.identity})
		}
		return nil, nil
	}
	v, err := b.a.Verify(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// TestVerify: what is missing is found in the listing, and what is changed by opening it.
func TestVerify(t *testing.T) {
	b := newBench(t)
	signer, err := signature.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.a.Begin(t.Context(), archive.EpochOptions{
		Info:  archive.EpochInfo{StartedAt: b.began, SegmentBytes: int64(size), Timeline: 1, From: at(0)},
		Seal:  seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge},
		Wraps: []seal.Wrap{{Name: "one", To: b.identity.Recipient()}}, Signer: signer,
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range wal.LSN(4) {
		b.put(e, i)
	}
	b.tail(e, 4, 0, 1000)
	base := wal.Base{ID: "base", Timeline: 1, Start: at(1), Stop: at(3)}
	trusted := signature.Signers{signer.Public()}
	v := b.verify(archive.VerifyOptions{Deep: true, Bases: []wal.Base{base}, Trusted: trusted})
	if len(v.Problems) != 0 || v.Opened != 5 || v.Epochs != 1 || v.Signed != 1 {
		t.Errorf("%+v", v)
	}
	if v = b.verify(archive.VerifyOptions{Bases: []wal.Base{{ID: "late", Timeline: 1, Start: at(3), Stop: at(6)}}}); len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "base backup late") {
		t.Errorf("a base backup without its WAL: %+v", v)
	}
	files := map[string]string{}
	err = filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[filepath.Base(path)] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{name(2), "epoch.json", "one.age"} {
		for base, path := range files {
			if !strings.HasPrefix(base, part) {
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if v := b.verify(archive.VerifyOptions{}); len(v.Problems) == 0 {
				t.Errorf("without %s nothing is found: %+v", base, v)
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	other, err := signature.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if v = b.verify(archive.VerifyOptions{Trusted: signature.Signers{other.Public()}}); v.Signed != 0 || len(v.Problems) != 0 {
		t.Errorf("by another signer: %+v", v)
	}
	path := files["epoch.json"]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(content), `"host": ""`, `"host": "x"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if v = b.verify(archive.VerifyOptions{Trusted: trusted}); v.Signed != 0 || len(v.Problems) != 1 {
		t.Errorf("epoch.json was changed: %+v", v)
	}
}
