package secret_test

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"math/big"
	"net/http"
	"strings"
)

// keyManager is one manager of keys as it was recorded, with an Ed25519 key that really
// signs.
type keyManager struct {
	ref, place, permission, making string
	environ                        map[string]string
	// asksPublic tells the two requests apart, and checks what both must have.
	asksPublic func(r *http.Request) (bool, error)
	// message is what a request wants signed.
	message func(body []byte) ([]byte, error)
	public  func(key ed25519.PublicKey) string
	signed  func(signature []byte) string
	// missing, forbidden and broken answer either request; others has answers to the
	// request for the public key that are about keys of other kinds, and damage answers that
	// are none, with what is said of each.
	missing, forbidden, broken recorded
	others                     map[string]told
	damage                     map[string]told
}

type told struct {
	answer recorded
	words  string
	// signs is true where it answers the request to sign.
	signs bool
}

func der(key any) []byte {
	data, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return data
}

// rsaModulus is of no key: nothing here signs with RSA.
func rsaModulus() *big.Int { return new(big.Int).SetBit(big.NewInt(1), 2047, 1) }

func b64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

func castagnoli(data []byte) uint32 {
	return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
}

func keyManagers(key ed25519.PrivateKey) map[string]keyManager {
	public := key.Public().(ed25519.PublicKey) //nolint:forcetypeassert // its own
	return map[string]keyManager{"AWS": awsKeys(public), "Google": googleKeys(public), "Vault": transitKeys(public)}
}

func awsKeys(public ed25519.PublicKey) keyManager {
	const arn = `"KeyId":"arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"`
	kind := func(spec, usage, algorithm string, key []byte) recorded {
		return recorded{200, fmt.Sprintf(`{%s,"CustomerMasterKeySpec":%q,"KeySpec":%q,"KeyUsage":%q,"PublicKey":%q,"SigningAlgorithms":[%s]}`, arn, spec, spec, usage, b64(key), algorithm)}
	}
	return keyManager{
		ref: "aws-kms://eu-central-1/alias/" + canary, place: "aws-kms (eu-central-1)", permission: "kms:Sign", making: "aws kms create-key",
		environ: map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"},
		asksPublic: func(r *http.Request) (bool, error) {
			if r.Host != "kms.eu-central-1.amazonaws.com" || !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/kms/") {
				return false, fmt.Errorf("%s %s", r.Host, r.Header)
			}
			return r.Header.Get("X-Amz-Target") == "TrentService.GetPublicKey", nil
		},
		message: func(body []byte) ([]byte, error) {
			var in struct {
				KeyID                         string `json:"KeyId"`
				MessageType, SigningAlgorithm string
				Message                       []byte
			}
			if err := json.Unmarshal(body, &in); err != nil || in.KeyID != "alias/"+canary || in.MessageType != "RAW" || in.SigningAlgorithm != "ED25519_SHA_512" {
				return nil, fmt.Errorf("%s, %w", body, err)
			}
			return in.Message, nil
		},
		public: func(key ed25519.PublicKey) string {
			return kind("ECC_NIST_EDWARDS25519", "SIGN_VERIFY", `"ED25519_SHA_512","ED25519_PH_SHA_512"`, der(key)).body
		},
		signed: func(s []byte) string {
			return fmt.Sprintf(`{%s,"Signature":%q,"SigningAlgorithm":"ED25519_SHA_512"}`, arn, b64(s))
		},
		missing:   recorded{400, `{"__type":"NotFoundException","message":"Alias arn:aws:kms:eu-central-1:123456789012:alias/` + canary + ` is not found."}`},
		forbidden: recorded{400, `{"__type":"AccessDeniedException","Message":"User: arn:aws:iam::123456789012:user/x is not authorized to perform: kms:Sign on resource: ` + canary + `"}`},
		broken:    recorded{500, `{"__type":"KMSInternalException","message":"x"}`},
		others: map[string]told{
			"RSA":          {kind("RSA_2048", "SIGN_VERIFY", `"RSASSA_PSS_SHA_256"`, der(&rsa.PublicKey{N: rsaModulus(), E: 65537})), "is of the kind RSA_2048, not ECC_NIST_EDWARDS25519", false},
			"agreement":    {kind("ECC_NIST_EDWARDS25519", "KEY_AGREEMENT", ``, der(public)), "is not for signing with ED25519_SHA_512", false},
			"symmetric":    {recorded{400, `{"__type":"UnsupportedOperationException","message":"` + canary + `"}`}, "is not for signing", false},
			"disabled":     {recorded{400, `{"__type":"DisabledException","message":"arn:` + canary + ` is disabled."}`}, "is disabled, or marked for deletion", false},
			"deleted":      {recorded{400, `{"__type":"KMSInvalidStateException","message":"arn:` + canary + ` is pending deletion."}`}, "is disabled, or marked for deletion", true},
			"another kind": {recorded{400, `{"__type":"InvalidKeyUsageException","message":"` + canary + `"}`}, "is not for signing", true},
		},
		damage: map[string]told{
			"no key":   {kind("ECC_NIST_EDWARDS25519", "SIGN_VERIFY", `"ED25519_SHA_512"`, []byte("x")), "has no public key that can be read", false},
			"no JSON":  {recorded{200, "<html>" + canary}, "", true},
			"overload": {recorded{400, `{"__type":"ThrottlingException","message":"` + canary + `"}`}, "ThrottlingException", true},
		},
	}
}

func googleKeys(public ed25519.PublicKey) keyManager {
	const name = "projects/123456789012/locations/europe-west3/keyRings/backups/cryptoKeys/" + canary + "/cryptoKeyVersions/1"
	key := func(algorithm, name, text string, sum uint32) recorded {
		return recorded{200, fmt.Sprintf(`{"pem":%q,"algorithm":%q,"pemCrc32c":"%d","name":%q,"protectionLevel":"SOFTWARE"}`, text, algorithm, sum, name)}
	}
	text := func(key any) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der(key)}))
	}
	signed := func(s []byte, sum uint32, name string, verified bool) recorded {
		return recorded{200, fmt.Sprintf(`{"signature":%q,"signatureCrc32c":"%d","name":%q,"verifiedDataCrc32c":%t,"protectionLevel":"SOFTWARE"}`, b64(s), sum, name, verified)}
	}
	pemText, some := text(public), make([]byte, 64)
	return keyManager{
		ref: "gcp-kms://clinic-prod/europe-west3/backups/" + canary + "/1", place: "gcp-kms (clinic-prod)", permission: "roles/cloudkms.signer", making: "gcloud kms keys create",
		asksPublic: func(r *http.Request) (bool, error) {
			path := "/v1/projects/clinic-prod/locations/europe-west3/keyRings/backups/cryptoKeys/" + canary + "/cryptoKeyVersions/1"
			switch {
			case r.Host == "cloudkms.googleapis.com" && r.Method == http.MethodGet && r.URL.Path == path+"/publicKey":
				return true, nil
			case r.Host == "cloudkms.googleapis.com" && r.Method == http.MethodPost && r.URL.Path == path+":asymmetricSign":
				return false, nil
			}
			return false, fmt.Errorf("%s %s %s", r.Method, r.Host, r.URL)
		},
		message: func(body []byte) ([]byte, error) {
			var in struct {
				Data       []byte
				DataCrc32c uint32 `json:",string"`
			}
			if err := json.Unmarshal(body, &in); err != nil || castagnoli(in.Data) != in.DataCrc32c {
				return nil, fmt.Errorf("%s, %w", body, err)
			}
			return in.Data, nil
		},
		public: func(k ed25519.PublicKey) string {
			return key("EC_SIGN_ED25519", name, text(k), castagnoli([]byte(text(k)))).body
		},
		signed:    func(s []byte) string { return signed(s, castagnoli(s), name, true).body },
		missing:   recorded{404, `{"error":{"code":404,"message":"CryptoKeyVersion ` + canary + ` not found.","status":"NOT_FOUND"}}`},
		forbidden: recorded{403, `{"error":{"code":403,"message":"Permission 'cloudkms.cryptoKeyVersions.useToSign' denied on resource '` + canary + `'","status":"PERMISSION_DENIED"}}`},
		broken:    recorded{503, `{"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}`},
		others: map[string]told{
			"P-256":    {key("EC_SIGN_P256_SHA256", name, pemText, castagnoli([]byte(pemText))), "is of the kind EC_SIGN_P256_SHA256, not EC_SIGN_ED25519", false},
			"disabled": {recorded{400, `{"error":{"code":400,"message":"` + canary + ` is not enabled, current state is: DISABLED.","status":"FAILED_PRECONDITION"}}`}, "is disabled or destroyed", false},
			"for data": {recorded{400, `{"error":{"code":400,"message":"` + canary + `","status":"INVALID_ARGUMENT"}}`}, "is disabled or destroyed, or not for signing", true},
			"RSA":      {key("EC_SIGN_ED25519", name, text(&rsa.PublicKey{N: rsaModulus(), E: 65537}), castagnoli([]byte(text(&rsa.PublicKey{N: rsaModulus(), E: 65537})))), "is not one of Ed25519", false},
		},
		damage: map[string]told{
			"CRC of the key":       {key("EC_SIGN_ED25519", name, pemText, 1), "the answer was damaged on the way", false},
			"no CRC of the key":    {recorded{200, fmt.Sprintf(`{"pem":%q,"algorithm":"EC_SIGN_ED25519","name":%q}`, pemText, name)}, "the answer was damaged on the way", false},
			"no PEM":               {key("EC_SIGN_ED25519", name, canary, castagnoli([]byte(canary))), "has no public key that can be read", false},
			"another key":          {key("EC_SIGN_ED25519", strings.Replace(name, canary, "x", 1), pemText, castagnoli([]byte(pemText))), "about another key", false},
			"CRC of the signature": {signed(some, 1, name, true), "the answer was damaged on the way", true},
			"CRC of the data":      {signed(some, castagnoli(some), name, false), "the request was damaged on the way", true},
			"another signed":       {signed(some, castagnoli(some), strings.Replace(name, "Versions/1", "Versions/2", 1), true), "about another key", true},
			"no JSON":              {recorded{200, "<html>" + canary}, "not one of Google Cloud", true},
		},
	}
}

func transitKeys(public ed25519.PublicKey) keyManager {
	key := func(kind string, derived bool, newest int, versions string) recorded {
		return recorded{200, fmt.Sprintf(`{"request_id":"1","data":{"type":%q,"derived":%t,"latest_version":%d,"min_decryption_version":1,"name":%q,"supports_signing":true,"keys":%s}}`,
			kind, derived, newest, canary, versions)}
	}
	version := func(n int, key []byte) string {
		return fmt.Sprintf(`"%d":{"certificate_chain":"","creation_time":"2026-11-01T00:00:00Z","name":"ed25519","public_key":%q}`, n, b64(key))
	}
	old := make([]byte, 32)
	return keyManager{
		ref: "vault-transit://team/transit/" + canary, place: "vault-transit", permission: "MOUNT/sign/KEY", making: "vault write MOUNT/keys/KEY type=ed25519",
		environ: map[string]string{"VAULT_ADDR": "https://vault.example:8200", "VAULT_TOKEN": "example", "VAULT_NAMESPACE": "ns"},
		asksPublic: func(r *http.Request) (bool, error) {
			if r.Host == "vault.example:8200" && r.Header.Get("X-Vault-Token") == "example" && r.Header.Get("X-Vault-Namespace") == "ns" {
				switch r.Method + r.URL.Path {
				case "GET/v1/team/transit/keys/" + canary:
					return true, nil
				case "POST/v1/team/transit/sign/" + canary:
					return false, nil
				}
			}
			return false, fmt.Errorf("%s %s %s", r.Method, r.URL, r.Header)
		},
		message: func(body []byte) ([]byte, error) {
			var in struct {
				Input   []byte `json:"input"`
				Version int    `json:"key_version"`
			}
			if err := json.Unmarshal(body, &in); err != nil || in.Version != 2 && in.Version != 0 {
				return nil, fmt.Errorf("%s, %w", body, err)
			}
			return in.Input, nil
		},
		public: func(k ed25519.PublicKey) string {
			return key("ed25519", false, 2, "{"+version(1, old)+","+version(2, k)+"}").body
		},
		signed: func(s []byte) string {
			return fmt.Sprintf(`{"request_id":"1","data":{"key_version":2,"signature":"vault:v2:%s"}}`, b64(s))
		},
		missing:   recorded{404, `{"errors":[]}`},
		forbidden: recorded{403, `{"errors":["1 error occurred:\n\t* permission denied ` + canary + `\n\n"]}`},
		broken:    recorded{503, `{"errors":["Vault is sealed"]}`},
		others: map[string]told{
			"symmetric": {key("aes256-gcm96", false, 1, `{"1":1442851412}`), "is of the kind aes256-gcm96, not ed25519", false},
			"odd":       {key("x\nAuthorization: "+canary, false, 1, `{}`), "is of the kind unknown", false},
			"derived":   {key("ed25519", true, 1, "{"+version(1, nil)+"}"), "is derived", false},
		},
		damage: map[string]told{
			"no version":      {key("ed25519", false, 3, "{"+version(2, public)+"}"), "has no public key of the newest version", false},
			"half a key":      {key("ed25519", false, 1, "{"+version(1, public[:16])+"}"), "has no public key that can be read", false},
			"another version": {recorded{200, `{"data":{"signature":"vault:v3:` + b64(make([]byte, 64)) + `"}}`}, "by another version of the key than version 2", true},
			"no signature":    {recorded{200, `{"data":{"signature":"` + canary + `"}}`}, "has no signature that can be read", true},
			"no base64":       {recorded{200, `{"data":{"signature":"vault:v2:%` + canary + `"}}`}, "has no signature that can be read", true},
			"no JSON":         {recorded{200, "<html>" + canary}, "does not answer as Vault does", true},
		},
	}
}
