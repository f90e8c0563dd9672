package config

import (
	"fmt"
	"regexp"
	"strings"
)

// Place is where backups are: a folder, or a bucket.
type Place struct {
	// Dir is the folder, or empty.
	Dir string
	// Bucket and Prefix are those of S3, or empty.
	Bucket, Prefix string
}

// Place returns where backups are.
func (b Backup) Place() Place {
	if b.Store != "" {
		return placeOf(b.Store)
	}
	return Place{Dir: b.Dir}
}

// placeOf is the place of what checkStore returned.
func placeOf(store string) Place {
	if rest, isS3 := strings.CutPrefix(store, s3Scheme); isS3 {
		bucket, prefix, _ := strings.Cut(rest, "/")
		return Place{Bucket: bucket, Prefix: strings.TrimSuffix(prefix, "/")}
	}
	return Place{Dir: store}
}

const s3Scheme = "s3://"

// isBareWord reports whether text is one word without a separator: the name of a
// copy, perhaps misspelt, more likely than a folder to make.
func isBareWord(text string) bool {
	return !strings.ContainsAny(text, `/\`) && text != "." && text != ".." && text != "~" && !strings.ContainsAny(text, "\n\r\x00")
}

// urlLike reports whether text begins with a scheme, as a URL with a slash too few
// does. One letter is a drive of Windows.
func urlLike(text string) bool {
	return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+:`).MatchString(text)
}

// checkStore returns a store as it is kept: a URL as it is, a folder absolute.
func checkStore(text, base string) (store, hint string, err error) {
	const form = "write s3://bucket/prefix"
	switch {
	case strings.Contains(text, "://"):
	case urlLike(text):
		return "", form + ", or a folder", fmt.Errorf("begins like a URL and is not one")
	case isBareWord(text):
		return "", "write ./NAME for a folder here, or s3://bucket/prefix", fmt.Errorf("must be a path, a URL, or the name of a configured copy, and is a single word that names none")
	default:
		return absolute(text, base)
	}
	rest, isS3 := strings.CutPrefix(text, s3Scheme)
	bucket, prefix, _ := strings.Cut(rest, "/")
	switch {
	case !isS3:
		return "", form + ", or a folder", fmt.Errorf("must be a folder or begin with s3://; this version knows no other stores")
	case strings.ContainsAny(rest, "?#@"):
		return "", form + "; the rest is set in backup.s3 (PGMEDIC_S3_ENDPOINT and others), credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
			fmt.Errorf("has more than a bucket and a prefix")
	case bucket == "" || strings.ContainsAny(rest, " \\\n\r\t\x00") || strings.Contains(prefix, "//") || strings.HasPrefix(prefix, "/"):
		return "", form, fmt.Errorf("has no bucket, or a prefix that is not valid")
	}
	return text, "", nil
}
