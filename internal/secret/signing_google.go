package secret

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

const (
	// googleKeys is where Cloud KMS is
	// (https://docs.cloud.google.com/kms/docs/reference/rest).
	googleKeys = "https://cloudkms.googleapis.com"
	// googleEd25519 is what it calls Ed25519.
	googleEd25519 = "EC_SIGN_ED25519"
)

// googleKey is a version of a key of Google Cloud KMS:
// gcp-kms://project/location/ring/key/version. Credentials are the application default
// ones.
type googleKey struct {
	o       Options
	project string
	// name is the resource's, escaped.
	name string
}

func newGoogleKey(o Options, rest string) (*googleKey, error) {
	parts := strings.Split(rest, "/")
	k := &googleKey{o: o}
	if len(parts) != 5 {
		return k, errors.New("is not complete")
	}
	for i, part := range parts {
		if part == "" {
			return k, errors.New("is not complete")
		}
		if part == ".." || strings.ContainsAny(part, " \t\r\n?#\\@") || i > 0 && strings.Contains(part, ":") {
			return k, errors.New("has characters that do not belong there")
		}
	}
	k.project = parts[0]
	for i, kind := range []string{"projects", "locations", "keyRings", "cryptoKeys", "cryptoKeyVersions"} {
		k.name += "/" + kind + "/" + url.PathEscape(parts[i])
	}
	k.name = strings.TrimPrefix(k.name, "/")
	return k, nil
}

func (k *googleKey) place() string { return k.project }
func (*googleKey) form() string    { return "gcp-kms://project/location/ring/key/version" }
func (*googleKey) permission() string {
	return "give the account the role roles/cloudkms.signer and roles/cloudkms.publicKeyViewer on the key, and enable the Cloud KMS API in the project"
}
func (*googleKey) making() string {
	return "gcloud kms keys create --purpose asymmetric-signing --default-algorithm ec-sign-ed25519"
}

func (k *googleKey) public(ctx context.Context) (ed25519.PublicKey, error) {
	var out struct {
		PEM       string `json:"pem"`
		Algorithm string `json:"algorithm"`
		Name      string `json:"name"`
		CRC       *int64 `json:"pemCrc32c,string"`
	}
	if err := k.o.google(ctx, http.MethodGet, googleKeys+"/v1/"+k.name+"/publicKey", nil, &out); err != nil {
		return nil, googleKeyProblem(err)
	}
	switch {
	case out.Algorithm != googleEd25519:
		return nil, &problem{what: malformed, detail: "is of the kind " + identifier(out.Algorithm) + ", not " + googleEd25519}
	case !k.same(out.Name):
		return nil, &problem{what: damaged, detail: "the answer is about another key"}
	case out.CRC == nil || *out.CRC != checksum([]byte(out.PEM)):
		return nil, &problem{what: damaged, detail: "the answer was damaged on the way"}
	}
	block, _ := pem.Decode([]byte(out.PEM))
	if block == nil {
		return nil, &problem{what: damaged, detail: "the answer has no public key that can be read"}
	}
	return parsePublic(block.Bytes)
}

func (k *googleKey) sign(ctx context.Context, message []byte) ([]byte, error) {
	type request struct {
		Data []byte `json:"data"`
		CRC  int64  `json:"dataCrc32c,string"`
	}
	var out struct {
		Signature string `json:"signature"`
		Name      string `json:"name"`
		CRC       *int64 `json:"signatureCrc32c,string"`
		Verified  bool   `json:"verifiedDataCrc32c"`
	}
	if err := k.o.google(ctx, http.MethodPost, googleKeys+"/v1/"+k.name+":asymmetricSign", request{message, checksum(message)}, &out); err != nil {
		return nil, googleKeyProblem(err)
	}
	signed, err := base64.StdEncoding.DecodeString(out.Signature)
	switch {
	case !k.same(out.Name):
		return nil, &problem{what: damaged, detail: "the answer is about another key"}
	case !out.Verified:
		return nil, &problem{what: damaged, detail: "the request was damaged on the way"}
	case err != nil || out.CRC == nil || *out.CRC != checksum(signed):
		return nil, &problem{what: damaged, detail: "the answer was damaged on the way"}
	}
	return signed, nil
}

// same reports whether an answer is about this key. It may have the project's number where
// the reference has its id.
func (k *googleKey) same(name string) bool {
	_, ours, _ := strings.Cut(k.name, "/locations/")
	_, theirs, found := strings.Cut(name, "/locations/")
	return found && theirs == ours
}

// googleKeyProblem is googleProblem for a key: what a request has wrong is the key.
func googleKeyProblem(err error) error {
	err = googleProblem(err)
	var p *problem
	if errors.As(err, &p) && p.detail == googleDisabled {
		return &problem{what: malformed, detail: "is disabled or destroyed, or not for signing", hint: "enable the version, or name another one"}
	}
	return err
}
