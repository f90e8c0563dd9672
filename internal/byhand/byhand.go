// Package byhand has what the guides and scripts of all backups need by which they come back
// without pgmedic.
package byhand

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Opening says how stored bytes become plain ones. It is meant to be embedded in what a
// template is filled with.
type Opening struct {
	// Age, OpenSSL and PostQuantum say how the backup is encrypted.
	Age, OpenSSL, PostQuantum bool
	// Programs have to be there, and Needs says so to people.
	Programs, Needs []string
	// Unseal is a pipe for a script, and UnsealWords the same for people.
	Unseal, UnsealWords string
	// Option is the argument that gives the script the key.
	Option string
}

// NewOpening describes how objects that are sealed in this way are opened. Key and passphrase
// are the words of the script for the files that have them.
func NewOpening(encryption, compression string, postQuantum bool, key, passphrase string) (o Opening) {
	o.Age, o.OpenSSL = encryption == string(seal.EncryptionAge), encryption == string(seal.EncryptionAES256CBC)
	o.PostQuantum = o.Age && postQuantum
	var steps, shown []string
	add := func(program, need, step, words string) {
		o.Programs, o.Needs = append(o.Programs, program), append(o.Needs, need)
		steps, shown = append(steps, step), append(shown, words)
	}
	switch {
	case o.Age:
		need := "age (https://age-encryption.org), 1.0 or later"
		if o.PostQuantum {
			need = "age (https://age-encryption.org), 1.3 or later: the key is a post-quantum one"
		}
		add("age", need, "age -d -i "+key, "age -d -i key.txt")
		o.Option = "--identity identity.txt "
	case o.OpenSSL:
		const enc = "openssl enc -d -aes-256-cbc -pbkdf2 -iter 600000 -md sha256 -pass "
		add("openssl", "openssl 1.1.1 or later", enc+passphrase, enc+"file:passphrase.txt")
		o.Option = "--passphrase passphrase.txt "
	}
	switch seal.Compression(compression) {
	case seal.CompressionGzip:
		add("gzip", "gzip", "gzip -dc", "gzip -dc")
	case seal.CompressionZstd:
		add("zstd", "zstd", "zstd -dcq", "zstd -dc")
	case seal.CompressionNone:
	}
	if len(steps) == 0 {
		steps, shown = []string{"cat"}, []string{"cat"}
	}
	o.Unseal, o.UnsealWords = strings.Join(steps, " | "), strings.Join(shown, " | ")
	return o
}

// Render fills a template. In it q makes any text one word of bash, and clean makes it fit to
// be read by people.
func Render(name, text string, with any) (string, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"q": quote, "clean": words.Clean}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("read the template of %s: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, with); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return b.String(), nil
}

// quote makes any text one word of bash. Between single quotes nothing has a meaning but the
// quote itself; bash knows no zero byte, nor does PostgreSQL.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
