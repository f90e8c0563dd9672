package config

import (
	"fmt"
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

// checkStore returns a store as it is kept: a URL as it is, a folder absolute.
func checkStore(text, base string) (store, hint string, err error) {
	if !strings.Contains(text, "://") {
		return absolute(text, base)
	}
	const form = "write s3://bucket/prefix"
	rest, isS3 := strings.CutPrefix(text, s3Scheme)
	bucket, prefix, _ := strings.Cut(rest, "/")
	switch {
	case !isS3:
		return "", form + ", or a folder", fmt.Errorf("must be a folder or begin with s3://; this version knows no other stores")
	case strings.ContainsAny(rest, "?#@"):
		return "", form + "; the rest is set in backup.s3 (PGMEDIC_S3_ENDPOINT and others), credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
			fmt.Errorf("has more than a bucket and a prefix")
	case bucket == "" || strings.ContainsAny(rest, " \\\n\r\t\x00") || strings.Contains(prefix, "//") || strings.HasPrefix(prefix, "/"):
		return "", form, fmt.Errorf("has no bucket, or a prefix that is none")
	}
	return text, "", nil
}
