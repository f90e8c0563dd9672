package store

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pgmedic/pgmedic"
)

const (
	// MaxKeyBytes is the longest key, the limit of S3 and GCS.
	MaxKeyBytes = 1024
	// MaxSegmentBytes is the longest part of a key between slashes, the limit
	// of file names.
	MaxSegmentBytes = 255
	// TempPrefix is what the names of unfinished files begin with. No segment
	// of a key may begin with it.
	TempPrefix = ".pgmedic-tmp-"
)

// CheckKey returns nil if key can be that of an object in every kind of Store,
// else a pgmedic.KindUsage error that says why not. A key is 1 to 1024 bytes of
// valid UTF-8 without control characters or backslashes, made of segments with
// one slash between each two; no segment is empty, ".", "..", longer than 255
// bytes, or begins with TempPrefix.
func CheckKey(key string) error {
	return check("key", key, false)
}

// CheckPrefix returns nil if keys can begin with prefix, else a
// pgmedic.KindUsage error. The empty prefix is one. Its last segment may be
// the beginning of one.
func CheckPrefix(prefix string) error {
	return check("prefix", prefix, true)
}

// CheckFolder returns nil if folder is empty, or a prefix that ends in a slash;
// else a pgmedic.KindUsage error.
func CheckFolder(folder string) error {
	if folder == "" {
		return nil
	}
	key, slash := strings.CutSuffix(folder, "/")
	if !slash {
		return pgmedic.Errorf(pgmedic.KindUsage, "", "folder %.100q does not end in a slash", folder)
	}
	return check("folder", key, false)
}

func check(what, key string, partial bool) error {
	bad := func(why string) error {
		shown := key
		if len(shown) > 100 {
			shown = strings.ToValidUTF8(shown[:100], "") + "…"
		}
		return pgmedic.Errorf(pgmedic.KindUsage, "", "%s %q %s", what, shown, why)
	}
	switch {
	case len(key) > MaxKeyBytes:
		return bad("is longer than 1024 bytes")
	case !utf8.ValidString(key):
		return bad("is not valid UTF-8")
	case strings.ContainsRune(key, '\\'):
		return bad("holds a backslash")
	case strings.ContainsFunc(key, unicode.IsControl):
		return bad("holds a control character")
	}
	for rest, more := key, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		last := partial && !more
		switch {
		case segment == "" && !last:
			return bad("has an empty segment")
		case (segment == "." || segment == "..") && !last:
			return bad("has a segment of dots")
		case len(segment) > MaxSegmentBytes:
			return bad("has a segment longer than 255 bytes")
		case strings.HasPrefix(segment, TempPrefix):
			return bad("has a segment that begins with " + TempPrefix)
		}
	}
	return nil
}
