package config

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Place is where backups are: a folder, here or on another host, or a bucket in a cloud.
type Place struct {
	// Dir is the folder on this host, or empty.
	Dir string
	// User, Host, Port and Path are those of a folder that is reached over SFTP, or empty.
	User, Host string
	Port       int
	Path       string
	// Cloud says whose bucket it is, or is empty.
	Cloud Cloud
	// Bucket and Prefix are those of the cloud, or empty. Azure has containers for
	// buckets.
	Bucket, Prefix string
}

// Cloud is what the URLs of a cloud's buckets begin with.
type Cloud string

// The clouds.
const (
	CloudS3    Cloud = "s3"
	CloudAzure Cloud = "azblob"
	CloudGCS   Cloud = "gs"
)

// cloud is what a store's URL may be.
type cloud struct {
	cloud Cloud
	// form is how it is written, rest where that is set which is not in it.
	form, rest string
	// others are what people write for it.
	others []string
}

func clouds() []cloud {
	return []cloud{
		{CloudS3, "s3://bucket/prefix", "the rest is set in backup.s3 (PGMEDIC_S3_ENDPOINT and others), credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
			[]string{"aws", "s3a", "s3n"}},
		{CloudAzure, "azblob://container/prefix", "the rest is set in backup.azure, the account in AZURE_STORAGE_ACCOUNT, credentials in AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN",
			[]string{"azure", "az", "wasb", "wasbs", "abfs", "abfss"}},
		{CloudGCS, "gs://bucket/prefix", "the rest is set in backup.gcs, credentials in GOOGLE_APPLICATION_CREDENTIALS",
			[]string{"gcs", "gcp", "google"}},
	}
}

// forms is how the URLs of all clouds are written.
func forms() string {
	var all []string
	for _, c := range clouds() {
		all = append(all, c.form)
	}
	return strings.Join(all, ", ") + " or sftp://user@host/path"
}

// cloudOf returns the cloud that a store's scheme is that of, exactly or as people write
// it.
func cloudOf(scheme string) (c cloud, exact, found bool) {
	for _, c := range clouds() {
		if string(c.cloud) == scheme {
			return c, true, true
		}
		if slices.Contains(append(c.others, string(c.cloud)), strings.ToLower(scheme)) {
			return c, false, true
		}
	}
	return cloud{}, false, false
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
	scheme, rest, isURL := strings.Cut(store, "://")
	if c, exact, _ := cloudOf(scheme); isURL && exact {
		bucket, prefix, _ := strings.Cut(rest, "/")
		return Place{Cloud: c.cloud, Bucket: bucket, Prefix: strings.TrimSuffix(prefix, "/")}
	}
	if strings.HasPrefix(store, sftpScheme) {
		if place, _, err := parseSFTP(store); err == nil {
			return place
		}
	}
	return Place{Dir: store}
}

// url is the bucket's URL.
func (c Cloud) url(bucket string) string { return string(c) + "://" + bucket }

const sftpScheme = "sftp://"

// sftpForm is how a folder on another host is written.
const sftpForm = "write sftp://user@host/path, or sftp://user@host:port/path"

// parseSFTP reads a folder on another host. The error is the rest of a sentence, and
// quotes nothing: there may be a password in the text.
func parseSFTP(text string) (place Place, hint string, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return Place{}, sftpForm, fmt.Errorf("is not a valid sftp:// URL")
	}
	_, password := u.User.Password()
	switch {
	case password:
		return Place{}, sftpForm + "; the password is set in sftp.password (PGMEDIC_SFTP_PASSWORD)", fmt.Errorf("has a password in it")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#"):
		return Place{}, sftpForm, fmt.Errorf("has more than user, host, port and path")
	case u.User.Username() == "" || u.Hostname() == "":
		return Place{}, sftpForm, fmt.Errorf("has no user or no host")
	case path.Clean(u.Path) == "/" || !path.IsAbs(u.Path) || strings.ContainsFunc(u.Path, unicode.IsControl):
		return Place{}, sftpForm, fmt.Errorf("has no folder below the root")
	}
	place = Place{User: u.User.Username(), Host: u.Hostname(), Port: 22, Path: path.Clean(u.Path)}
	if u.Port() != "" {
		if place.Port, err = strconv.Atoi(u.Port()); err != nil || place.Port < 1 || place.Port > 65535 {
			return Place{}, sftpForm, fmt.Errorf("has a port that is not one")
		}
	}
	return place, "", nil
}

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
	if strings.HasPrefix(text, sftpScheme) {
		if _, hint, err := parseSFTP(text); err != nil {
			return "", hint, err
		}
		return text, "", nil
	}
	switch {
	case strings.Contains(text, "://"):
	case urlLike(text):
		scheme, _, _ := strings.Cut(text, ":")
		return "", formHint(scheme), fmt.Errorf("begins like a URL and is not one")
	case isBareWord(text):
		return "", "write ./NAME for a folder here, or " + forms(), fmt.Errorf("must be a path, a URL, or the name of a configured copy, and is a single word that names none")
	default:
		return absolute(text, base)
	}
	scheme, rest, _ := strings.Cut(text, "://")
	c, exact, _ := cloudOf(scheme)
	bucket, prefix, _ := strings.Cut(rest, "/")
	switch {
	case !exact:
		return "", formHint(scheme), fmt.Errorf("must be a folder or begin with s3://, azblob://, gs:// or sftp://; this version knows no other stores")
	case strings.ContainsAny(rest, "?#@"):
		return "", "write " + c.form + "; " + c.rest, fmt.Errorf("has more than a bucket and a prefix")
	case bucket == "" || strings.ContainsAny(rest, " \\\n\r\t\x00") || strings.Contains(prefix, "//") || strings.HasPrefix(prefix, "/"):
		return "", "write " + c.form, fmt.Errorf("has no bucket, or a prefix that is not valid")
	}
	return text, "", nil
}

// Locking says how what is put into a store is locked.
type Locking struct {
	// ObjectLock is off, governance or compliance.
	ObjectLock string
	// Retention is the store's.
	Retention Retention
}

// Locking returns how what is put into the store of a place is locked: as in the
// configured store that is there. One that is not configured locks as the first one does;
// a folder among those locks nothing, whatever is set for the first one, and unlocked is
// true.
func (c *Config) Locking(place Place) (l Locking, unlocked bool) {
	for _, one := range c.stores {
		if one.Place == place {
			return one.Locking, false
		}
	}
	l = Locking{ObjectLock: c.Backup.ObjectLock, Retention: c.Retention}
	if unlocked = place.Bucket == "" && l.ObjectLock != ObjectLockOff; unlocked {
		l.ObjectLock = ObjectLockOff
	}
	return l, unlocked
}

// ObjectLockOff is the setting that locks nothing.
const ObjectLockOff = "off"

// formHint says how a URL is written that begins with scheme, or with another one.
func formHint(scheme string) string {
	if c, _, found := cloudOf(scheme); found {
		return "write " + c.form + ", or a folder"
	}
	return "write " + forms() + ", or a folder"
}
