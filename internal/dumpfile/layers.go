package dumpfile

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// maxLayers bounds the layers around a dump. A script compresses and encrypts once.
	maxLayers = 4
	// headBytes is how much of a stream is enough to say what it is: a header of tar.
	headBytes = 512
	// maxWindow bounds what a zstd frame may have decoded at once: that of zstd --long.
	maxWindow = 128 << 20
	// maxScrypt is the work factor that the age program writes, as a power of two. It
	// takes 256 MiB and a second.
	maxScrypt = 18
	layerRoom = 64 << 10
)

// kind is what a stream is by its first bytes.
type kind int

const (
	unknown kind = iota
	ageFile
	ageArmor
	openssl
	opensslBase64
	gzipped
	zstandard
	bzipped
	// What is named and not read.
	xz
	lz4
	zip
	pgp
	sevenZip
	databasus
	utf16
	mysql
	// Dumps.
	plainSQL
	clusterSQL
	archive
	tarArchive
)

// magics are what streams begin with.
func magics() []struct {
	kind  kind
	magic string
} {
	return []struct {
		kind  kind
		magic string
	}{
		{ageFile, "age-encryption.org/v1\n"}, {ageArmor, armor.Header}, {openssl, seal.OpenSSLHeader},
		{opensslBase64, "U2FsdGVkX1"}, // the same in base64
		{gzipped, "\x1f\x8b\x08"}, {zstandard, "\x28\xb5\x2f\xfd"},
		{xz, "\xfd7zXZ\x00"}, {lz4, "\x04\x22\x4d\x18"}, {zip, "PK\x03\x04"}, {sevenZip, "7z\xbc\xaf\x27\x1c"},
		{databasus, "PGRSUS01"},
		{pgp, "-----BEGIN PGP MESSAGE-----"}, {utf16, "\xff\xfe"}, {utf16, "\xfe\xff"},
		{mysql, "-- MySQL dump"}, {mysql, "-- MariaDB dump"}, {mysql, "/*M!999999"},
		{plainSQL, "--\n-- PostgreSQL database dump\n"}, {plainSQL, "--\r\n-- PostgreSQL database dump\r\n"},
		{clusterSQL, "--\n-- PostgreSQL database cluster dump\n"}, {clusterSQL, "--\r\n-- PostgreSQL database cluster dump\r\n"},
		{archive, archiveMagic},
	}
}

// recognise says what a stream is that begins with head.
func recognise(head []byte) kind {
	for _, m := range magics() {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.kind
		}
	}
	switch {
	case len(head) >= 10 && string(head[:3]) == "BZh" && head[3] >= '1' && head[3] <= '9' && string(head[4:10]) == "\x31\x41\x59\x26\x53\x59":
		return bzipped
	case isTar(head):
		return tarArchive
	// A packet of OpenPGP: a session key that is encrypted to a public key, or to a
	// passphrase.
	case len(head) > 3 && (head[0] == 0x85 && head[3] == 3 || head[0] == 0x84 && head[2] == 3 || head[0] == 0x8c && head[2] == 4):
		return pgp
	}
	return unknown
}

// convincing reports whether something is recognised by enough bytes that chance does
// not make them: what a key is judged by.
func (k kind) convincing() bool { return k != unknown && k != utf16 && k != pgp }

// refusals are what is recognised and not read, with what to do.
func (k kind) refusal() (what, hint string) {
	switch k {
	case xz:
		return "is compressed with xz, which pgmedic does not read", "unpack it on the way: xz -dc FILE | pgmedic restore --file -"
	case lz4:
		return "is compressed with lz4, which pgmedic does not read", "unpack it on the way: lz4 -dc FILE | pgmedic restore --file -"
	case zip:
		return "is a zip archive, which pgmedic does not read", "take the dump out of it: unzip -p FILE | pgmedic restore --file -"
	case sevenZip:
		return "is a 7z archive, which pgmedic does not read", "take the dump out of it: 7z x -so FILE | pgmedic restore --file -"
	case pgp:
		return "is encrypted with PGP, which pgmedic does not read", "decrypt it on the way: gpg -d FILE | pgmedic restore --file -"
	case databasus:
		return "is encrypted by Databasus in a format of its own, which pgmedic does not read", "download it in Databasus, which decrypts it"
	case utf16:
		return "is text in UTF-16, which PowerShell makes of a dump with >", "make the dump again with pg_dump --file, which writes bytes as they are"
	case mysql:
		return "is a dump of MySQL or MariaDB", "pgmedic restores dumps of PostgreSQL only"
	}
	return "is not a dump of PostgreSQL in a format that pgmedic knows", "it reads what pg_dump and pg_dumpall write, in gzip, zstd, bzip2, age and openssl enc (AES-256-CBC); docs/restore.md says more"
}

// peel takes a stream's layers off, and returns what is inside and what that is. It
// notes the layers when they are met for the first time.
func (f *File) peel(src io.Reader) (*bufio.Reader, kind, error) {
	var layers []string
	r := bufio.NewReaderSize(src, layerRoom)
	for {
		head, err := r.Peek(headBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, unknown, err
		}
		if len(head) == 0 {
			return nil, unknown, f.damaged("it is empty")
		}
		k := recognise(head)
		if k == unknown && len(layers) > 0 { // or a layer is damaged, which its end says
			if _, err := io.Copy(io.Discard, &limited{f: f, r: r, left: f.maxBytes()}); err != nil {
				return nil, k, err
			}
		}
		if k >= xz && k <= mysql || k == unknown {
			what, hint := k.refusal()
			if len(layers) > 0 {
				// What is damaged may look like anything: its layer knows, at the end.
				if _, err := io.Copy(io.Discard, io.LimitReader(r, f.maxBytes())); err != nil {
					return nil, k, err
				}
				what = "inside of " + strings.Join(layers, ", ") + ": " + what
			}
			return nil, k, pgmedic.Errorf(pgmedic.KindUsage, hint, "%s %s", f.o.Path, what)
		}
		if k >= plainSQL {
			f.Layers = layers
			return r, k, nil
		}
		if len(layers) == maxLayers {
			return nil, k, f.damaged("it has more than %d layers of compression and encryption", maxLayers)
		}
		name, inner, err := f.layer(k, r)
		if err != nil {
			return nil, k, err
		}
		layers = append(layers, name)
		r = bufio.NewReaderSize(&layer{f, name, inner}, layerRoom)
	}
}

// layer takes one layer off.
func (f *File) layer(k kind, r *bufio.Reader) (name string, inner io.Reader, err error) {
	switch k {
	case gzipped:
		name = "gzip"
		inner, err = gzip.NewReader(r)
	case zstandard:
		name = "zstd"
		inner, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	case bzipped:
		name, inner = "bzip2", bzip2.NewReader(r)
	case ageArmor:
		name, inner = "age's ASCII armor", armor.NewReader(r)
	case opensslBase64:
		name, inner = "base64", base64.NewDecoder(base64.StdEncoding, r)
	case ageFile:
		name = "age"
		f.Encrypted = true
		inner, err = f.openAge(r)
	case openssl:
		return f.openOpenSSL(r)
	}
	if err != nil {
		return name, nil, f.layerError(name, err)
	}
	return name, inner, nil
}

// layer is a layer being read.
type layer struct {
	file *File
	name string
	r    io.Reader
}

// Read implements io.Reader. An error that is not of the disk is damage.
func (l *layer) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = l.file.layerError(l.name, err)
	}
	return n, err
}

// layerError makes of a layer's error the damage that it is, unless what is below it
// has said what happened.
func (f *File) layerError(name string, err error) error {
	var known *pgmedic.Error
	switch {
	case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return pgmedic.Errorf(pgmedic.KindUsage, "unpack it on the way: zstd -dc --long=31 FILE | pgmedic restore --file -",
			"%s: its zstd frame asks for more than %s of memory", f.o.Path, words.Size(maxWindow))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return f.damaged("cut short: the %s layer ends in the middle", name)
	case seal.IsNotOpenSSL(err):
		return f.damaged("cut short or damaged: the openssl layer does not end as it should")
	}
	return f.damaged("damaged: the %s layer can't be read: %w", name, err)
}

// openAge opens an age file with the keys that there are.
func (f *File) openAge(r io.Reader) (io.Reader, error) {
	if f.identities == nil {
		f.identities = slices.Clone(f.o.Identities)
		if f.o.Passphrase != "" {
			phrase, err := age.NewScryptIdentity(f.o.Passphrase)
			if err != nil {
				return nil, err
			}
			phrase.SetMaxWorkFactor(maxScrypt)
			f.identities = append(f.identities, phrase)
		}
	}
	if len(f.identities) == 0 {
		return nil, f.noKey("age", "set backup.identity_files (PGMEDIC_IDENTITY_FILES) for a file that is encrypted to a public key, or BACKUP_ENCRYPTION_KEY, --passphrase-file or --password-secret for one with a passphrase")
	}
	inner, err := age.Decrypt(r, f.identities...)
	var none *age.NoIdentityMatchError
	switch {
	case !errors.As(err, &none):
		return inner, err
	case slices.Contains(none.StanzaTypes, "scrypt") && f.o.Passphrase != "":
		return nil, errWrongPassphrase(f.o.Path)
	case slices.Contains(none.StanzaTypes, "scrypt"):
		return nil, f.noKey("age, with a passphrase", "set BACKUP_ENCRYPTION_KEY, --passphrase-file or --password-secret")
	}
	return nil, pgmedic.Errorf(pgmedic.KindUsage, "name the file of the secret key that it was made for in backup.identity_files (PGMEDIC_IDENTITY_FILES)",
		"%s: none of the keys on this host opens it", f.o.Path)
}

func (f *File) noKey(with, hint string) error {
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "%s is encrypted with %s, and this host has no key for it", f.o.Path, with)
}

// errWrongPassphrase is what a wrong passphrase and a damaged beginning look like.
func errWrongPassphrase(path string) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "check BACKUP_ENCRYPTION_KEY, --passphrase-file or --password-secret; for openssl enc with another -iter, add --openssl-iter N",
		"%s: wrong passphrase, or damaged", path)
}

// openOpenSSL finds out how the key was made: only the right key shows something that
// is known inside.
func (f *File) openOpenSSL(r *bufio.Reader) (name string, inner io.Reader, err error) {
	f.Encrypted, f.Authenticated = true, false
	if f.o.Passphrase == "" {
		return "", nil, f.noKey("openssl", "set BACKUP_ENCRYPTION_KEY, --passphrase-file or --password-secret")
	}
	if f.derivation == nil {
		head, err := r.Peek(headBytes + 32) // with the salt before it
		if err != nil && !errors.Is(err, io.EOF) {
			return "", nil, err
		}
		tried := seal.OpenSSLDerivations()
		if f.o.Iterations > 0 {
			tried = append(tried, seal.OpenSSLDerivation{Digest: "sha256", Iterations: f.o.Iterations})
		}
		i := slices.IndexFunc(tried, func(d seal.OpenSSLDerivation) bool {
			plain, err := d.Head(f.o.Passphrase, head)
			return err == nil && recognise(plain).convincing()
		})
		if i < 0 {
			return "", nil, errWrongPassphrase(f.o.Path)
		}
		f.derivation = &tried[i]
	}
	inner, err = f.derivation.NewReader(r, f.o.Passphrase)
	return "openssl enc -aes-256-cbc " + f.derivation.String(), inner, err
}

// openFile peels a file and reads what the dump says of itself.
func (f *File) openFile(ctx context.Context) error {
	s, err := f.openStored()
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // only read
	r, k, err := f.peel(&cancelled{ctx, s})
	if err != nil {
		return err
	}
	switch k {
	case plainSQL:
		f.Format = FormatPlain
		f.readComments(r)
		return nil
	case clusterSQL:
		f.Format = FormatCluster
		return nil
	case archive:
		f.Format = FormatCustom
		_, err := f.readHeader(r)
		return err
	}
	return f.openTar(r)
}

// major is the number at the beginning of a version, or zero.
func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(strings.TrimRight(first, "abcdefghijklmnopqrstuvwxyz")) // 19devel
	return n
}
