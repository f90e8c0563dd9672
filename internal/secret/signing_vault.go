package secret

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

// transitKey is a key of the transit engine of HashiCorp Vault or OpenBao:
// vault-transit://mount/key (https://developer.hashicorp.com/vault/api-docs/secret/transit).
// It is asked as a vault:// secret is.
type transitKey struct {
	vault     *vaultSource
	mount, of string

	mu sync.Mutex
	// version is that of the public key that was given, or zero: a key that is rotated
	// meanwhile goes on signing with it.
	version int
}

func newTransitKey(v *vaultSource, rest string) (*transitKey, error) {
	k := &transitKey{vault: v}
	if _, err := named(rest, false); err != nil || strings.Contains(rest, "#") {
		if err == nil {
			err = errors.New("has characters that do not belong there")
		}
		return k, err
	}
	segments := strings.Split(rest, "/") // a mount can have several
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	last := len(segments) - 1
	k.mount, k.of = strings.Join(segments[:last], "/"), segments[last]
	return k, nil
}

func (*transitKey) place() string { return "" }
func (*transitKey) form() string  { return "vault-transit://mount/key" }
func (*transitKey) permission() string {
	return "let a policy of the token or role read the key and sign with it (path \"MOUNT/keys/KEY\" { capabilities = [\"read\"] }, path \"MOUNT/sign/KEY\" { capabilities = [\"update\"] }), and see that it has not expired"
}
func (*transitKey) making() string { return "vault write MOUNT/keys/KEY type=ed25519" }

func (k *transitKey) public(ctx context.Context) (ed25519.PublicKey, error) {
	var answer struct {
		Data struct {
			Type    string                     `json:"type"`
			Derived bool                       `json:"derived"`
			Latest  int                        `json:"latest_version"`
			Keys    map[string]json.RawMessage `json:"keys"`
		} `json:"data"`
	}
	if err := k.vault.ask(ctx, http.MethodGet, k.mount+"/keys/"+k.of, nil, &answer); err != nil {
		return nil, err
	}
	var version struct {
		PublicKey string `json:"public_key"`
	}
	switch d := answer.Data; {
	case d.Type != "ed25519":
		return nil, &problem{what: malformed, detail: "is of the kind " + identifier(d.Type) + ", not ed25519"}
	case d.Derived:
		return nil, &problem{what: malformed, detail: "is derived: it has no public key of its own"}
	case json.Unmarshal(d.Keys[strconv.Itoa(d.Latest)], &version) != nil:
		return nil, &problem{what: damaged, detail: "the answer has no public key of the newest version"}
	}
	public, err := base64.StdEncoding.DecodeString(version.PublicKey)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return nil, &problem{what: damaged, detail: "the answer has no public key that can be read"}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version = answer.Data.Latest
	return public, nil
}

func (k *transitKey) sign(ctx context.Context, message []byte) ([]byte, error) {
	k.mu.Lock()
	version := k.version
	k.mu.Unlock()
	type request struct {
		Input   []byte `json:"input"`
		Version int    `json:"key_version,omitempty"`
	}
	var answer struct {
		Data struct {
			Signature string `json:"signature"`
		} `json:"data"`
	}
	if err := k.vault.ask(ctx, http.MethodPost, k.mount+"/sign/"+k.of, request{message, version}, &answer); err != nil {
		return nil, err
	}
	// vault:v3:base64
	parts := strings.SplitN(answer.Data.Signature, ":", 3)
	if len(parts) != 3 || parts[0] != "vault" {
		return nil, &problem{what: damaged, detail: "the answer has no signature that can be read"}
	}
	if version != 0 && parts[1] != "v"+strconv.Itoa(version) {
		return nil, &problem{what: damaged, detail: "the answer is by another version of the key than version " + strconv.Itoa(version)}
	}
	signed, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, &problem{what: damaged, detail: "the answer has no signature that can be read"}
	}
	return signed, nil
}
