package config

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// execScheme begins the reference to a program, which the file alone may have: what can
// set a variable can't always run programs.
const execScheme = "exec:"

// managedScheme returns the scheme of a reference that whoever calls Load has to follow,
// or empty.
func managedScheme(text string) string {
	for _, scheme := range []string{"aws-sm://", "azure-kv://", "gcp-sm://", "vault://", credentialScheme, execScheme} {
		if strings.HasPrefix(text, scheme) {
			return scheme
		}
	}
	return ""
}

// Reference says where a secret is kept that Config does not hold until it is read.
type Reference struct {
	// Key is that of the setting.
	Key    string
	Origin Origin

	text, scheme string
	read         bool
}

// String is the reference without what is secret about it: aws-sm://… (not read).
func (r Reference) String() string {
	if r.read {
		return r.scheme + "…"
	}
	return r.scheme + "… (not read)"
}

// Resolve reads the secret that a reference names; secret.Resolver's methods do.
type Resolve func(ctx context.Context, ref string) (string, error)

// refer notes a reference for later.
func (l *loader) refer(f field, r raw, scheme string) error {
	if scheme == execScheme && r.origin.Source != SourceFile {
		return usage(r.origin.subject(f.key)+" names a program to run, which only pgmedic.yaml can",
			"write "+f.key+": exec:/path/to/program into pgmedic.yaml")
	}
	l.noteCredential(r.text, r.origin.subject(f.key))
	if late, is := l.ofAccess(f, r); is {
		l.late, l.kept = append(l.late, late), append(l.kept, late)
	}
	if strings.HasPrefix(f.key, copiesKey+".") {
		return nil
	}
	l.references[f.key] = Reference{Key: f.key, Origin: r.origin, text: r.text, scheme: scheme}
	return nil
}

// ofAccess returns a secret as one of the store whose settings are being read, if it is.
func (l *loader) ofAccess(f field, r raw) (s lateSecret, is bool) {
	key, is := strings.CutPrefix(f.key, copiesKey+".")
	if !is {
		key, is = strings.CutPrefix(f.key, "backup.")
	}
	is = is && slices.ContainsFunc(accessFields(), func(a field) bool { return a.key == key })
	return lateSecret{key: key, text: r.text, origin: r.origin}, is
}

// Unread returns the secrets that are kept elsewhere and were not read yet, by their
// keys in order.
func (c *Config) Unread() []Reference {
	var all []Reference
	for _, key := range slices.Sorted(maps.Keys(c.references)) {
		if r := c.references[key]; !r.read {
			all = append(all, r)
		}
	}
	return all
}

// Read reads the secret of one setting and sets it, if it is kept elsewhere and was not
// read yet. Until then the setting is empty. An error names the setting and its place.
func (c *Config) Read(ctx context.Context, key string, resolve Resolve) error {
	r, kept := c.references[key]
	if !kept || r.read {
		return nil
	}
	value, err := resolve(ctx, r.text)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Origin.subject(key), err)
	}
	i := slices.IndexFunc(fields(), func(f field) bool { return f.key == key })
	if i < 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "", "%s is not a setting", key)
	}
	reflect.ValueOf(c).Elem().FieldByIndex(fields()[i].index).SetString(value)
	r.read = true
	c.references[key] = r
	return nil
}

// Again reads the secret of one setting once more, where the setting says where it is
// kept: it may have changed since. Where it holds the secret itself, ok is false. The
// Config stays as it is.
func (c *Config) Again(ctx context.Context, key string, resolve Resolve) (value string, ok bool, err error) {
	r, ok := c.references[key]
	if !ok {
		return "", false, nil
	}
	if value, err = resolve(ctx, r.text); err != nil {
		err = fmt.Errorf("%s: %w", r.Origin.subject(key), err)
	}
	return value, true, err
}

// Kept reports whether the setting does not hold its secret itself, but says where it is
// kept: then it can be read again.
func (c *Config) Kept(key string) bool {
	_, kept := c.references[key]
	return kept
}

// Environment is a variable by the environment of the process, else by the .env file.
func (c *Config) Environment(name string) string { return c.environment(name) }

// lateSecret is one of an Access that is kept by a manager. It is read when the store is
// opened, so that a manager which can't be reached keeps no other store from being used.
type lateSecret struct {
	// key is that of the setting below the store: azure.key.
	key, text string
	origin    Origin
}

// accessFields are the settings of an Access.
func accessFields() []field {
	fs, _ := describe(reflect.TypeFor[Access](), "", nil)
	return fs
}

// Read returns the same with the secrets that are kept by managers. An error names the
// setting and its place.
func (a Access) Read(ctx context.Context, resolve Resolve) (Access, error) {
	a, err := a.with(ctx, a.late, resolve)
	if err == nil {
		a.late = nil
	}
	return a, err
}

// Again returns the same with the secrets of one kind of store, azure or sftp, read once more,
// where its settings say where they are kept: in a file or by a manager.
func (a Access) Again(ctx context.Context, kind string, resolve Resolve) (Access, error) {
	return a.with(ctx, of(kind, a.kept), resolve)
}

// Keeps reports whether there is something for Again to read.
func (a Access) Keeps(kind string) bool { return len(of(kind, a.kept)) > 0 }

// with returns the same with these secrets.
func (a Access) with(ctx context.Context, secrets []lateSecret, resolve Resolve) (Access, error) {
	all := accessFields()
	for _, s := range secrets {
		value, err := resolve(ctx, s.text)
		if err != nil {
			return a, fmt.Errorf("%s: %w", s.origin.subject(s.key), err)
		}
		if i := slices.IndexFunc(all, func(f field) bool { return f.key == s.key }); i >= 0 {
			reflect.ValueOf(&a).Elem().FieldByIndex(all[i].index).SetString(value)
		}
	}
	return a, nil
}

// lateOf are the secrets of one kind of store that are not read yet.
func (a Access) lateOf(kind string) []lateSecret { return of(kind, a.late) }

// of are the secrets of one kind of store.
func of(kind string, all []lateSecret) (some []lateSecret) {
	for _, s := range all {
		if strings.HasPrefix(s.key, kind+".") {
			some = append(some, s)
		}
	}
	return some
}
