package audit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/durable"
	"github.com/pgmedic/pgmedic/internal/owner"
)

// keyBytes is the size of a key.
const keyBytes = 32

// keyPrefix begins the one line of a key file.
const keyPrefix = "pgmedic-audit-key-1 "

// Key authenticates records and anchors. The zero Key authenticates nothing.
type Key struct{ secret [keyBytes]byte }

// String names the key without showing it.
func (k Key) String() string { return "audit key " + k.ID() }

// GoString keeps the key out of %#v.
func (k Key) GoString() string { return k.String() }

// ID tells keys apart and reveals nothing of them: 16 hexadecimal digits.
func (k Key) ID() string { return k.mac("key id")[:16] }

// mac is the HMAC-SHA256 of a text, in hexadecimal digits.
func (k Key) mac(text string) string {
	m := hmac.New(sha256.New, k.secret[:])
	_, _ = m.Write([]byte(text)) // never fails
	return hex.EncodeToString(m.Sum(nil))
}

// ReadKey reads the key of a log. A file that is not there is an error for which
// errors.Is finds fs.ErrNotExist; one that other users can read or write is refused.
func ReadKey(path string) (Key, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Key{}, pgmedic.Errorf(pgmedic.KindUsage, "name it with audit.key_file, or restore it from a copy", "open the key of the audit log: %w", err)
	case err != nil:
		return Key{}, pgmedic.Errorf(pgmedic.KindUnreachable, "run it as the user whose log that is", "open the key of the audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return Key{}, fmt.Errorf("open the key of the audit log: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return Key{}, pgmedic.Errorf(pgmedic.KindUsage, "chmod 600 "+path,
			"%s, the key of the audit log, can be read or changed by other users (mode %s)", path, strconv.FormatUint(uint64(mode), 8))
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return Key{}, fmt.Errorf("read the key of the audit log: %w", err)
	}
	digits, ok := strings.CutPrefix(strings.TrimRight(string(text), "\n"), keyPrefix)
	secret, err := hex.DecodeString(digits)
	if !ok || err != nil || len(secret) != keyBytes {
		return Key{}, badKey(path)
	}
	return Key{secret: [keyBytes]byte(secret)}, nil
}

func badKey(path string) error {
	return pgmedic.Errorf(pgmedic.KindUsage, "restore the file from a copy, or set audit.key_file", "%s is not the key of an audit log", path)
}

// makeKey makes a key and writes it durably, and never over another file.
func makeKey(path string) (Key, error) {
	var k Key
	_, _ = rand.Read(k.secret[:]) // never fails: it would end the program instead
	if err := owner.MakeFolder(filepath.Dir(path)); err != nil {
		return Key{}, fmt.Errorf("make the folder of the audit log's key: %w", err)
	}
	f, err := owner.Create(path, os.O_WRONLY)
	if err != nil {
		return Key{}, fmt.Errorf("write the key of the audit log: %w", err)
	}
	_, err = f.WriteString(keyPrefix + hex.EncodeToString(k.secret[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = durable.Folder(filepath.Dir(path))
	}
	if err != nil {
		return Key{}, errors.Join(fmt.Errorf("write the key of the audit log: %w", err), os.Remove(path))
	}
	return k, nil
}

// openKey reads the key, and makes one for a log that does not exist yet. A log whose key
// is gone gets no other: that would hide that it was replaced.
func openKey(path string, begun bool) (Key, error) {
	k, err := ReadKey(path)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return k, err
	case begun:
		return k, pgmedic.Errorf(pgmedic.KindUsage, "restore the key from a copy; docs/audit.md says how to begin another log",
			"the audit log is there and its key %s is gone", path)
	}
	return makeKey(path)
}
