// Package hooksign signs webhooks as version 1 of Standard Webhooks says,
// https://www.standardwebhooks.com: by HMAC-SHA256 over the id, the time and the body.
package hooksign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// leastSecret is how many characters a secret has at least that is not base64. This
// threshold is our choice.
const leastSecret = 16

// Sign adds to the header of a request what shows who sent its body: the id, which is the
// same each time that it is sent, the time, and a signature by each secret. Without a secret
// it adds nothing. Its error is the rest of a sentence about a secret, and holds none.
func Sign(header http.Header, secrets []string, id string, at time.Time, body []byte) error {
	if len(secrets) == 0 {
		return nil
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	var signatures []string
	for _, secret := range secrets {
		key, err := keyOf(secret)
		if err != nil {
			return err
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.", id, timestamp)
		mac.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", timestamp)
	header.Set("Webhook-Signature", strings.Join(signatures, " "))
	return nil
}

// keyOf is a secret's key: base64 after whsec_, or else the characters themselves.
func keyOf(secret string) ([]byte, error) {
	if encoded, is := strings.CutPrefix(secret, "whsec_"); is {
		key, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(key) == 0 {
			return nil, errors.New("is not base64 after whsec_")
		}
		return key, nil
	}
	if len(secret) < leastSecret {
		return nil, fmt.Errorf("has fewer than %d characters", leastSecret)
	}
	return []byte(secret), nil
}
