package test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// keyServer is AWS KMS and Vault's transit engine as they were recorded, with a key that
// really signs.
type keyServer struct {
	secret ed25519.PrivateKey
	public ed25519.PublicKey

	mu sync.Mutex
	// kind is Vault's for the key. status answers requests to sign, if it is set, and wrong
	// changes signatures.
	kind   string
	status int
	wrong  bool
	// reads and signs count requests.
	reads, signs int
}

func (k *keyServer) set(change func(k *keyServer)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k)
}

func (k *keyServer) sign(w http.ResponseWriter, message []byte, answer func(signed []byte) string) {
	k.signs++
	signed := ed25519.Sign(k.secret, message)
	if k.wrong {
		signed[5] ^= 1
	}
	if k.status != 0 {
		w.WriteHeader(k.status)
		_, _ = fmt.Fprint(w, `{"errors":["canary"]}`)
		return
	}
	_, _ = fmt.Fprint(w, answer(signed))
}

func (k *keyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var in struct {
		Input, Message []byte
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	text := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return string(data)
	}
	switch what := r.Method + r.URL.Path + r.Header.Get("X-Amz-Target"); what {
	case "GET/v1/transit/keys/pgmedic":
		k.reads++
		_, _ = fmt.Fprintf(w, `{"data":{"type":%q,"latest_version":1,"keys":{"1":{"public_key":%s}}}}`, k.kind, text([]byte(k.public)))
	case "POST/v1/transit/sign/pgmedic":
		k.sign(w, in.Input, func(signed []byte) string {
			return `{"data":{"signature":"vault:v1:` + strings.Trim(text(signed), `"`) + `"}}`
		})
	case "POST/TrentService.GetPublicKey":
		k.reads++
		der, err := x509.MarshalPKIXPublicKey(k.public)
		if err != nil {
			panic(err)
		}
		_, _ = fmt.Fprintf(w, `{"KeySpec":"ECC_NIST_EDWARDS25519","KeyUsage":"SIGN_VERIFY","SigningAlgorithms":["ED25519_SHA_512"],"PublicKey":%s}`, text(der))
	case "POST/TrentService.Sign":
		k.sign(w, in.Message, func(signed []byte) string { return `{"Signature":` + text(signed) + `}` })
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// TestSigningByKMS: a key that stays in a key manager signs what one in a file does; and
// where it does not sign there is no backup.
func TestSigningByKMS(t *testing.T) {
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k := &keyServer{secret: secret, public: public, kind: "ed25519"}
	server := httptest.NewServer(k)
	defer server.Close()
	vault := []string{"PGMEDIC_SIGNING_KEY=vault-transit://transit/pgmedic", "VAULT_ADDR=" + server.URL, "VAULT_TOKEN=canary"}
	aws := []string{"PGMEDIC_SIGNING_KEY=aws-kms://eu-central-1/alias/pgmedic", "AWS_ENDPOINT_URL_KMS=" + server.URL, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=canary"}
	b := newBench(t, "CREATE TABLE patients (id int PRIMARY KEY)", "INSERT INTO patients SELECT generate_series(1, 100)")
	plain := b.env
	b.env = append(slices.Clone(plain), vault...)
	key := strings.TrimSpace(b.ok("keys", "public"))
	if !strings.HasPrefix(key, "RW") || !strings.Contains(b.ok("keys", "public", "--json"), `"public_key": "`+key+`"`) {
		t.Fatalf("the public key is %q", key)
	}
	plain = append(slices.Clone(plain), "PGMEDIC_TRUSTED_SIGNERS="+key)

	for name, settings := range map[string][]string{"vault-transit": vault, "aws-kms (eu-central-1)": aws} {
		b.env = append(slices.Clone(plain), settings...)
		out := b.ok("check")
		if !strings.Contains(out, "which is one of 1 trusted signer") || !strings.Contains(out, name+" gave the public key and signed in ") {
			t.Errorf("check says\n%s", out)
		}
		if out := b.ok("config"); !strings.Contains(out, strings.TrimPrefix(settings[0], "PGMEDIC_SIGNING_KEY=")) || strings.Contains(out, "canary") {
			t.Errorf("config shows\n%s", out)
		}
		id := strings.TrimSpace(b.ok("backup", "-q"))
		b.ok("verify", id)
		b.minisign(id, key)
	}
	b.ok("restore", "latest", "--swap", "--yes", "-q")
	if n := strings.Count(b.ok("list", "--json"), `"state": "signed"`); n != 3 {
		t.Errorf("%d backups are signed, want three with the safety backup", n)
	}
	b.failures(k, append(slices.Clone(plain), vault...))
	b.signsOld(k, plain, vault)
}

// minisign checks a backup with the program, where there is one.
func (b *bench) minisign(id, key string) {
	b.t.Helper()
	if _, err := exec.LookPath("minisign"); errors.Is(err, exec.ErrNotFound) {
		testkit.Missing(b.t, "minisign is not installed: scripts/setup.sh does that")
		return
	}
	files, err := filepath.Glob(filepath.Join(b.store, "*", "*", id, "signatures", "*.minisig"))
	if err != nil || len(files) != 1 {
		b.t.Fatalf("%q, %v", files, err)
	}
	manifest := filepath.Join(filepath.Dir(filepath.Dir(files[0])), "manifest.json")
	if out, err := exec.Command("minisign", "-Vm", manifest, "-x", files[0], "-P", key).CombinedOutput(); err != nil {
		b.t.Errorf("minisign refuses it: %v\n%s", err, out)
	}
}

// failures: a wrong setting is an error before anything is read, and a key that does not
// sign at the end leaves nothing that is listed.
func (b *bench) failures(k *keyServer, env []string) {
	b.t.Helper()
	before := b.manifests()
	// folders are those of backups, with a manifest or without one.
	folders := func() int {
		all, err := filepath.Glob(filepath.Join(b.store, "*", "*", "2*"))
		if err != nil {
			b.t.Fatal(err)
		}
		return len(all)
	}
	for name, test := range map[string]struct {
		env    []string
		change func(k *keyServer)
		code   int
		words  string
		// early is true where nothing may be read from the server.
		early bool
	}{
		"of another kind": {nil, func(k *keyServer) { k.kind = "aes256-gcm96" }, 2, "is of the kind aes256-gcm96, not ed25519", true},
		"no such key":     {[]string{"PGMEDIC_SIGNING_KEY=vault-transit://transit/canary"}, nil, 2, "vault-transit has no such key", true},
		"not trusted":     {[]string{"PGMEDIC_TRUSTED_SIGNERS=RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"}, nil, 2, "is not among backup.trusted_signers", true},
		"unreachable":     {[]string{"VAULT_ADDR=http://127.0.0.1:1"}, nil, 12, "vault-transit can't be reached", true},
		"no address":      {[]string{"VAULT_ADDR="}, nil, 2, "VAULT_ADDR is not set", true},
		"incomplete":      {[]string{"PGMEDIC_SIGNING_KEY=vault-transit://canary"}, nil, 2, "is not complete", true},
		"refuses to sign": {nil, func(k *keyServer) { k.status = http.StatusForbidden }, 12, "vault-transit refuses to sign", false},
		"away at the end": {nil, func(k *keyServer) { k.status = http.StatusServiceUnavailable }, 12, "vault-transit can't be reached", false},
		"signs wrongly":   {nil, func(k *keyServer) { k.wrong = true }, 11, "made a signature that its public key", false},
	} {
		b.t.Run(name, func(t *testing.T) {
			b.env = append(slices.Clone(env), test.env...)
			if test.change != nil {
				k.set(test.change)
			}
			there := folders()
			r := b.run("backup", "-q")
			if r.code != test.code || !strings.Contains(r.stderr, test.words) || !strings.Contains(r.stderr, "hint: ") || strings.Contains(r.stderr, "canary") {
				t.Errorf("exit code %d, want %d: %s", r.code, test.code, r.stderr)
			}
			if test.early && folders() != there {
				t.Error("rows were read before")
			}
			if r := b.run("check"); r.code != test.code || !strings.Contains(strings.Join(strings.Fields(r.stdout), " "), "failed signing") {
				t.Errorf("check: exit code %d: %s", r.code, r.stdout)
			}
			if got := b.manifests(); !slices.Equal(got, before) {
				t.Errorf("there is %q", got)
			}
			k.set(func(k *keyServer) { k.kind, k.status, k.wrong = "ed25519", 0, false })
		})
	}
}

// signsOld: keys sign uses the key for what it has not signed, and ends where it can't.
func (b *bench) signsOld(k *keyServer, plain, vault []string) {
	b.t.Helper()
	b.env = append(slices.Clone(plain), "PGMEDIC_ALLOW_UNSIGNED=true")
	for range 2 {
		b.ok("backup", "-q")
	}
	b.env = append(slices.Clone(plain), vault...)
	k.set(func(k *keyServer) { k.status, k.signs = http.StatusServiceUnavailable, 0 })
	if r := b.run("keys", "sign", "--all", "--yes"); r.code != 12 || strings.Count(r.stdout, "failed") != 1 {
		b.t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if k.set(func(k *keyServer) { k.status = 0 }); k.signs != 2 {
		b.t.Errorf("it was asked to sign %d times", k.signs)
	}
	k.signs = 0
	b.ok("keys", "sign", "--all", "--yes")
	if k.signs != 4 { // two backups, two signatures each
		b.t.Errorf("it was asked to sign %d times", k.signs)
	}
	b.ok("verify", "--all")
	if _, err := os.Stat(b.store); err != nil {
		b.t.Error(err)
	}
}

// TestPushSignedByKMS: a push calls the key manager for the epoch that it begins, and not
// for each segment; and a base backup of the cluster is signed by it, too.
func TestPushSignedByKMS(t *testing.T) {
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k := &keyServer{secret: secret, public: public, kind: "ed25519", status: http.StatusServiceUnavailable}
	server := httptest.NewServer(k)
	defer server.Close()
	b := newWALBench(t, 0)
	b.env = append(b.env, "PGMEDIC_SIGNING_KEY=vault-transit://transit/pgmedic", "VAULT_ADDR="+server.URL, "VAULT_TOKEN=canary")
	segment := func() string {
		b.sql("SELECT pg_logical_emit_message(true, 'a', 'b')")
		return filepath.Join(b.server.DataDir(), "pg_wal", b.ask("SELECT pg_walfile_name(pg_switch_wal())"))
	}
	first := segment()
	if r := b.run("wal", "push", first); r.code != 12 || !strings.Contains(r.stderr, "vault-transit can't be reached") || strings.Contains(r.stderr, "canary") {
		t.Errorf("away: exit code %d: %s", r.code, r.stderr)
	}
	k.set(func(k *keyServer) { k.status, k.reads, k.signs = 0, 0, 0 })
	b.ok("wal", "push", first)
	b.ok("wal", "push", segment())
	if k.set(func(*keyServer) {}); k.reads != 1 || k.signs != 2 {
		t.Errorf("two pushes read the public key %d times and signed %d times", k.reads, k.signs)
	}
	b.ok("backup", "--method", "physical", "-q")
	if n := strings.Count(b.ok("list", "--json"), `"stored": 1`); n != 1 {
		t.Errorf("%d base backups are signed", n)
	}
	server.Close()
	b.ok("wal", "push", segment())
}
