package signature_test

import (
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func newKey(t *testing.T) *signature.Key {
	t.Helper()
	key, err := signature.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustSign(t *testing.T, key *signature.Key, data []byte, comment string) []byte {
	t.Helper()
	signed, err := key.Sign(t.Context(), data, comment)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func file(t *testing.T, key *signature.Key) string {
	t.Helper()
	data, err := key.File()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestVerifies: a signature is that of one key over one text, and of nothing else.
func TestVerifies(t *testing.T) {
	key, other := newKey(t), newKey(t)
	again, err := signature.ParseKey([]byte(file(t, key)))
	if err != nil {
		t.Fatal(err)
	}
	signed := mustSign(t, again, []byte("manifest"), "a comment")
	trusted := signature.Signers{other.Public(), key.Public()}
	if !trusted.Verifies([]byte("manifest"), signed) {
		t.Error("a trusted key's signature is refused")
	}
	changed := strings.Replace(string(signed), "a comment", "b comment", 1)
	for name, accepted := range map[string]bool{
		"another text":    trusted.Verifies([]byte("Manifest"), signed),
		"another key":     signature.Signers{other.Public()}.Verifies([]byte("manifest"), signed),
		"nobody trusted":  signature.Signers{}.Verifies([]byte("manifest"), signed),
		"a changed text":  trusted.Verifies([]byte("manifest"), []byte(changed)),
		"no signature":    trusted.Verifies([]byte("manifest"), nil),
		"half of one":     trusted.Verifies([]byte("manifest"), signed[:len(signed)/2]),
		"the text itself": trusted.Verifies([]byte("manifest"), []byte("manifest")),
	} {
		if accepted {
			t.Errorf("%s is accepted", name)
		}
	}
	if ids := (signature.Signers{key.Public(), other.Public(), key.Public()}).IDs(); len(ids) != 2 || ids[0] != key.ID() || len(ids[0]) != 16 {
		t.Errorf("ids %v", ids)
	}
}

// TestParseKey: what is not a secret key is refused, in words that do not repeat it.
func TestParseKey(t *testing.T) {
	text := file(t, newKey(t))
	head, body, _ := strings.Cut(strings.TrimSpace(text), "\n")
	edit := func(change func(b []byte)) string {
		b, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		change(b)
		return head + "\n" + base64.StdEncoding.EncodeToString(b) + "\n"
	}
	for name, test := range map[string]struct{ text, words string }{
		"empty":             {"", "not a secret key"},
		"a public key":      {newKey(t).Public().String(), "not a secret key"},
		"a passphrase":      {edit(func(b []byte) { b[2], b[3] = 'S', 'c' }), "protected with a passphrase"},
		"halves of two":     {edit(func(b []byte) { b[62+40] ^= 1 }), "not a secret key"},
		"another algorithm": {edit(func(b []byte) { b[0] = 'X' }), "not a secret key"},
		"cut":               {head + "\n" + body[:100], "not a secret key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := signature.ParseKey([]byte(test.text))
			if pgmedic.KindOf(err) != pgmedic.KindUsage || err == nil || !strings.Contains(err.Error(), test.words) || pgmedic.HintOf(err) == "" {
				t.Fatalf("%v", err)
			}
			if len(body) > 60 && strings.Contains(err.Error()+pgmedic.HintOf(err), body[60:80]) {
				t.Errorf("the error has a part of the key: %v", err)
			}
		})
	}
}

// TestParseSigner: a public key in one line or as its file; a secret key in its place is
// said to be one, and not repeated.
func TestParseSigner(t *testing.T) {
	key := newKey(t)
	public := key.Public().String()
	for name, text := range map[string]string{"a line": public, "a file": "untrusted comment: minisign public key\n" + public + "\n"} {
		if s, err := signature.ParseSigner(text); err != nil || s.String() != public || s.ID() != key.ID() {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	secret := file(t, key)
	for name, test := range map[string]struct{ text, words string }{
		"empty": {"", "not a public key"}, "a word": {"RWnonsense", "not a public key"}, "a secret key": {secret, "a secret key stands"},
		"a bare secret key": {strings.Split(secret, "\n")[1], "a secret key stands"},
	} {
		_, err := signature.ParseSigner(test.text)
		if pgmedic.KindOf(err) != pgmedic.KindUsage || err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(err.Error()+pgmedic.HintOf(err), strings.Split(secret, "\n")[1][70:90]) {
			t.Errorf("%s: the error has a part of the key", name)
		}
	}
}

// TestMinisign: minisign itself checks what is signed here, and its own keys and
// signatures are read here.
func TestMinisign(t *testing.T) {
	if _, err := exec.LookPath("minisign"); errors.Is(err, exec.ErrNotFound) {
		testkit.Missing(t, "minisign is not installed: scripts/setup.sh does that")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte) {
		if err := os.WriteFile(path(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	minisign := func(args ...string) error {
		cmd := exec.Command("minisign", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("minisign %s: %s", strings.Join(args, " "), out)
		}
		return err
	}
	for kept, key := range map[string]*signature.Key{"here": newKey(t), "elsewhere": remoteKey(t, newKeeper(t))} {
		write("manifest.json", []byte("{}\n"))
		write("ours.minisig", mustSign(t, key, []byte("{}\n"), "of a test"))
		if err := minisign("-Vm", "manifest.json", "-x", "ours.minisig", "-P", key.Public().String()); err != nil {
			t.Errorf("minisign refuses our signature by a key that is kept %s", kept)
		}
		write("manifest.json", []byte("{ }\n"))
		if err := minisign("-Vm", "manifest.json", "-x", "ours.minisig", "-P", key.Public().String()); err == nil {
			t.Error("minisign accepts our signature of another file")
		}
	}
	if err := minisign("-GW", "-p", "its.pub", "-s", "its.key"); err != nil {
		t.Fatal(err)
	}
	if err := minisign("-Sm", "manifest.json", "-x", "its.minisig", "-s", "its.key"); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(path(name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	its, err := signature.ParseSigner(string(read("its.pub")))
	if err != nil {
		t.Fatal(err)
	}
	if !(signature.Signers{its}).Verifies([]byte("{ }\n"), read("its.minisig")) {
		t.Error("minisign's signature is refused")
	}
	secret, err := signature.ParseKey(read("its.key"))
	if err != nil {
		t.Fatal(err)
	}
	if secret.Public().String() != its.String() {
		t.Errorf("the public half of minisign's key is %s, read as %s", its, secret.Public())
	}
}
