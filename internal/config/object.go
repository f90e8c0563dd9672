package config

import (
	"net/url"
	"path"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// Object is one object or file that no backup of pgmedic has to be.
type Object struct {
	// Place is the folder, or the bucket with a prefix, that it is in, and Access says how
	// that is reached.
	Place  Place
	Access Access
	// Name is its name there, without a slash.
	Name string
}

// ParseObject reads the address of an object: that of a store, a slash, and a name. It is
// reached as the configured store of the same bucket, or of the same host and user, of
// several as the one whose prefix or path is the longest that it is below; and else as
// backup.store is. An address that is not one is an error of KindUsage, which quotes
// nothing: there may be a password in it.
func (c *Config) ParseObject(text string) (Object, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	slash := strings.LastIndex(rest, "/")
	store := text
	if slash >= 0 {
		store = scheme + "://" + rest[:slash]
	}
	if c, exact, _ := cloudOf(scheme); !exact && scheme+"://" != sftpScheme {
		hint := "write " + forms()
		if c.form != "" {
			hint = "write " + c.form
		}
		return Object{}, usage("the address must begin with s3://, azblob://, gs:// or sftp://", hint+", with the name of a file at its end")
	}
	place, hint, err := checkStore(store, "")
	if err != nil {
		return Object{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "the address %w", err)
	}
	name := rest[slash+1:]
	if strings.HasPrefix(text, sftpScheme) {
		hint = sftpForm
		if name, err = url.PathUnescape(name); err != nil || strings.ContainsAny(name, "/?#") {
			return Object{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "the address has more than user, host, port and path")
		}
	}
	if slash < 0 || name == "" {
		return Object{}, pgmedic.Errorf(pgmedic.KindUsage, "write "+scheme+"://…/NAME, with the name of a file at its end", "the address names no object")
	}
	o := Object{Place: placeOf(place), Access: c.Backup.Access, Name: name}
	best := -1
	for _, known := range c.stores {
		if n := known.Place.above(o.Place); n > best {
			best, o.Access = n, known.Access
		}
	}
	return o, nil
}

// above says how much of a place's path or prefix is that of p: its length, 0 where the
// two have no more in common than the bucket, or the host and the user, and -1 where they
// have not even that.
func (p Place) above(below Place) int {
	if p.Cloud != below.Cloud || p.Bucket != below.Bucket || p.User != below.User || p.Host != below.Host || p.Port != below.Port ||
		p.Bucket == "" && p.Host == "" {
		return -1
	}
	have, of := path.Clean("/"+p.Prefix+p.Path), path.Clean("/"+below.Prefix+below.Path)
	if have == of || strings.HasPrefix(of, strings.TrimSuffix(have, "/")+"/") {
		return len(have)
	}
	return 0
}
