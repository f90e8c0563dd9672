package pgdata

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strconv"
)

// ManifestFile is a file as the server's manifest has it.
type ManifestFile struct {
	// Path is relative to the data directory.
	Path      string
	SizeBytes int64
	// CRC32C is that of the content.
	CRC32C uint32
}

// ErrManifest is found in the errors of a manifest that is not one, or that does not have
// its own checksum.
var ErrManifest = errors.New("the server's manifest of the backup is damaged")

// ReadManifest reads the manifest that a server sends behind a base backup, of version 1 or 2,
// with checksums by CRC32C: it calls f for each file, and returns the hash of the whole. It
// needs little memory, however many files there are. Its own checksum must be right, which is
// known at the end.
func ReadManifest(manifest io.Reader, f func(ManifestFile) error) (sum string, err error) {
	whole := sha256.New()
	own := &tailHash{hash: sha256.New()}
	manifest = &shortLines{r: manifest}
	r := &manifestReader{json: json.NewDecoder(io.TeeReader(manifest, io.MultiWriter(whole, own))), f: f}
	if err := r.read(); err != nil {
		return "", err
	}
	// What a decoder has buffered was hashed as well; here is what comes behind it.
	if _, err := io.Copy(io.MultiWriter(whole, own), manifest); err != nil {
		return "", err
	}
	if !own.matches() {
		return "", fmt.Errorf("%w: it does not have its own checksum", ErrManifest)
	}
	return hex.EncodeToString(whole.Sum(nil)), nil
}

// manifestReader decodes a manifest.
type manifestReader struct {
	json *json.Decoder
	f    func(ManifestFile) error
}

func (r *manifestReader) read() error {
	if err := r.token(json.Delim('{')); err != nil {
		return err
	}
	for r.json.More() {
		key, err := r.json.Token()
		if err != nil {
			return r.odd(err)
		}
		switch key {
		case "PostgreSQL-Backup-Manifest-Version":
			var version int
			if err := r.json.Decode(&version); err != nil {
				return r.odd(err)
			}
			if version < 1 || version > 2 {
				return fmt.Errorf("%w: version %d is not known", ErrManifest, version)
			}
		case "Files":
			err = r.files()
		default:
			err = r.skip()
		}
		if err != nil {
			return err
		}
	}
	return r.token(json.Delim('}'))
}

func (r *manifestReader) files() error {
	if err := r.token(json.Delim('[')); err != nil {
		return err
	}
	for r.json.More() {
		var raw struct {
			Path        *string `json:"Path"`
			EncodedPath string  `json:"Encoded-Path"`
			Size        int64   `json:"Size"`
			Algorithm   string  `json:"Checksum-Algorithm"`
			Checksum    string  `json:"Checksum"`
		}
		if err := r.json.Decode(&raw); err != nil {
			return r.odd(err)
		}
		file := ManifestFile{SizeBytes: raw.Size}
		if raw.Path != nil {
			file.Path = *raw.Path
		} else {
			path, err := hex.DecodeString(raw.EncodedPath)
			if err != nil {
				return fmt.Errorf("%w: a path is not one", ErrManifest)
			}
			file.Path = string(path)
		}
		crc, err := hex.DecodeString(raw.Checksum)
		if err != nil || len(crc) != 4 || raw.Algorithm != "CRC32C" || raw.Size < 0 {
			return fmt.Errorf("%w: %.80q has no CRC32C", ErrManifest, file.Path)
		}
		// The bytes are as they are in the server's memory.
		file.CRC32C = uint32(crc[0]) | uint32(crc[1])<<8 | uint32(crc[2])<<16 | uint32(crc[3])<<24
		if err := r.f(file); err != nil {
			return err
		}
	}
	return r.token(json.Delim(']'))
}

func (r *manifestReader) token(want json.Delim) error {
	got, err := r.json.Token()
	if err != nil {
		return r.odd(err)
	}
	if got != want {
		return fmt.Errorf("%w: %v in place of %v", ErrManifest, got, want)
	}
	return nil
}

// maxDepth is more than how deep the parts of a manifest lie.
const maxDepth = 8

// skip passes over a value, without holding it.
func (r *manifestReader) skip() error {
	for depth := 0; ; {
		token, err := r.json.Token()
		if err != nil {
			return r.odd(err)
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > maxDepth {
			return fmt.Errorf("%w: it is nested deeper than one", ErrManifest)
		}
		if depth <= 0 {
			return nil
		}
	}
}

// maxManifestLine is more than a server writes in a line, of which each file has one: a path
// of 4,096 bytes, twice as long in hexadecimal digits.
const maxManifestLine = 64 << 10

// shortLines refuses what has longer lines, which a decoder would hold in memory.
type shortLines struct {
	r io.Reader
	n int // bytes since the last newline
}

func (s *shortLines) Read(p []byte) (int, error) {
	n, err := s.r.Read(p[:min(len(p), maxManifestLine)])
	if last := bytes.LastIndexByte(p[:n], '\n'); last >= 0 {
		s.n = n - last - 1
	} else {
		s.n += n
	}
	if s.n > maxManifestLine {
		return 0, fmt.Errorf("%w: a line is longer than %d bytes", ErrManifest, maxManifestLine)
	}
	return n, err
}

// odd is an error of decoding: that of the connection stays what it is.
func (r *manifestReader) odd(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is not JSON of a manifest", ErrManifest)
	}
	return err
}

// tailHash hashes everything but the last line, which holds the hash.
type tailHash struct {
	hash hash.Hash
	tail []byte
}

// keptBytes is more than the last line has.
const keptBytes = 512

func (t *tailHash) Write(p []byte) (int, error) {
	t.tail = append(t.tail, p...)
	if over := len(t.tail) - keptBytes; over > 0 {
		t.hash.Write(t.tail[:over])
		t.tail = append(t.tail[:0], t.tail[over:]...)
	}
	return len(p), nil
}

var checksumLine = regexp.MustCompile(`^"Manifest-Checksum": ("[0-9a-f]{64}")\}\n$`)

// matches reports whether the last line has the hash of what comes before it.
func (t *tailHash) matches() bool {
	last := bytes.LastIndexByte(bytes.TrimSuffix(t.tail, []byte("\n")), '\n') + 1
	m := checksumLine.FindSubmatch(t.tail[last:])
	if m == nil {
		return false
	}
	want, err := strconv.Unquote(string(m[1]))
	t.hash.Write(t.tail[:last])
	return err == nil && want == hex.EncodeToString(t.hash.Sum(nil))
}
