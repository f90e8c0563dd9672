package seal_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/seal"
)

// TestOpenSSLDerivations: each reads what openssl wrote with its arguments, and none
// reads what another one wrote.
func TestOpenSSLDerivations(t *testing.T) {
	plain := []byte("-- PostgreSQL database dump\n" + strings.Repeat("row after row\n", 20_000))
	known := []seal.OpenSSLDerivation{{Digest: "sha256", Iterations: 600_000}, {Digest: "sha256", Iterations: 10_000}, {Digest: "sha256"}, {Digest: "md5"}}
	if got := seal.OpenSSLDerivations(); !slices.Equal(got, known) {
		t.Errorf("derivations %v, want %v", got, known)
	}
	// TestCBCWithOpenSSL goes all of the 600,000 rounds; here 600 stand for them.
	known[0].Iterations = 600
	all := slices.Concat(known, []seal.OpenSSLDerivation{{Digest: "sha256", Iterations: 77}})
	for i, d := range all {
		t.Run(d.String(), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "passphrase")
			if err := os.WriteFile(file, []byte("correct horse\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			stored := filter(t, plain, append([]string{"openssl", "enc", "-aes-256-cbc", "-pass", "file:" + file}, strings.Fields(d.String())...)...)
			for j, other := range all {
				head, err := other.Head("correct horse", stored[:100])
				if err != nil {
					t.Fatal(err)
				}
				if got := bytes.HasPrefix(plain, head); got != (i == j) {
					t.Errorf("%s reads the head: %v", other, got)
				}
			}
			r, err := d.NewReader(bytes.NewReader(stored), "correct horse")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			cut, err := d.NewReader(bytes.NewReader(stored[:len(stored)-16]), "correct horse")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(cut); !seal.IsNotOpenSSL(err) {
				t.Errorf("a cut file: %v", err)
			}
			broken := errors.New("the disk is gone")
			r, err = d.NewReader(io.MultiReader(bytes.NewReader(stored[:1000]), &failing{broken}), "correct horse")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(r); !errors.Is(err, broken) {
				t.Errorf("a failed read: %v", err)
			}
		})
	}
	for name, head := range map[string]string{"short": "Salted__1234", "other": "-- PostgreSQL database dump"} {
		if _, err := all[0].Head("x", []byte(head)); !seal.IsNotOpenSSL(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := all[0].NewReader(strings.NewReader("Salted__12345678"), ""); err == nil {
		t.Error("an empty passphrase is one")
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }
